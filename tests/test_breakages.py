"""The generated project's tests notice what must never happen: each breakage fails one of them."""

import subprocess
from pathlib import Path

import pytest

from .baking import Baker, clean_environment

pytestmark = pytest.mark.slow

BREAKAGES = {
    "the middleware is taken out": (
        "app/main.py",
        "    add_problem_responses(app)\n",
        "    add_problem_responses(app)\n"
        "    app.user_middleware = [\n"
        "        each for each in app.user_middleware if each.cls is not PassthroughAuth\n"
        "    ]\n",
        "tests/test_callers.py::test_flyte_receives_the_callers_credential_as_it_came_and_no_other",
    ),
    "the first caller's credentials are kept for all": (
        "passthrough/passthrough_auth.py",
        "credentials = await self._judge(scope)\n",
        "credentials = self.__dict__.setdefault('kept', await self._judge(scope))\n",
        "tests/test_concurrency.py",
    ),
    "a fetched task is kept for all": (
        "app/routers/tasks.py",
        "TaskDep = Annotated[TaskDetails, Depends(_task)]\n",
        "KEPT: dict[str, TaskDetails] = {}\n"
        "async def _kept(flyte: FlyteDep, within: ProjectDomainDep, name: str) -> TaskDetails:\n"
        "    if name not in KEPT:\n"
        "        KEPT[name] = await _task(flyte, within, name)\n"
        "    return KEPT[name]\n"
        "TaskDep = Annotated[TaskDetails, Depends(_kept)]\n",
        "tests/test_tasks.py::test_what_flyte_knows_of_a_task_is_asked_for_every_caller",
    ),
    "every cookie is forwarded": (
        "app/main.py",
        "cookie_names=settings.cookie_names",
        "cookie_names=None",
        "tests/test_callers.py::test_flyte_receives_the_callers_credential_as_it_came_and_no_other",
    ),
    "a file is left out of the bundle": (
        "deployment.py",
        "include=tuple(map(str, page.FILES))",
        "include=()",
        "tests/test_deployment.py",
    ),
}


@pytest.mark.parametrize("what", BREAKAGES)
def test_a_breakage_is_noticed(what: str, environment: Path, baker: Baker, tmp_path: Path) -> None:
    file, old, new, tests = BREAKAGES[what]
    project = baker(tmp_path)
    path = project / file
    text = path.read_text("utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), "utf-8")
    done = subprocess.run(
        [environment / "bin" / "python", "-m", "pytest", "-x", "-q", *tests.split()],
        cwd=project,
        env=clean_environment(),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed" in done.stdout or "1 error" in done.stdout, done.stdout
