"""The generated project's tests catch what must never happen: each breakage fails one of them."""

from pathlib import Path

import pytest

from .baking import BIN, edit, run

pytestmark = [pytest.mark.slow, pytest.mark.weekly]

PROMISES = "tests/test_promises.py"
BREAKAGES = {
    "the middleware is taken out": (
        "app/main.py",
        "middleware=[passthrough_middleware(settings)],",
        "middleware=[],",
        PROMISES,
    ),
    "the first caller's credentials are kept for all": (
        "passthrough/passthrough_auth.py",
        "credentials = self.credentials(scope)\n",
        "credentials = self.__dict__.setdefault('kept', self.credentials(scope))\n",
        PROMISES,
    ),
    "every cookie is forwarded": (
        "passthrough/http/credentials.py",
        "cookie_names=settings.cookie_names",
        "cookie_names=None",
        PROMISES,
    ),
    "a file is left out of the bundle": (
        "deployment.py",
        "include=page.FILES.paths()",
        "include=()",
        "tests/test_deployment.py",
    ),
}


@pytest.mark.parametrize("what", BREAKAGES)
def test_the_projects_tests_fail_for_each_breakage(what: str, project: Path) -> None:
    file, old, new, tests = BREAKAGES[what]
    edit(project / file, old, new)
    command: list[str | Path] = [BIN / "python", "-m", "pytest", "-x", "-q", tests]
    with pytest.raises(AssertionError, match=r"\n    (FAILED|ERROR) "):
        run(command, project)
