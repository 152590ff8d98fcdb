"""The output and calls of ``flyte deploy``, and the ways to start the default project's app.

The project's own tests check that it deploys and serves.
"""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.apps import free_port

from .baking import Baker, clean_environment
from .replicas import BIN, started

pytestmark = pytest.mark.slow

APP = "my-flyte-app"
UVICORN = "uvicorn app.main:app --port"
NOWHERE = "admin: {endpoint: 'dns:///127.0.0.1:1'}\n"


def token(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {PEOPLE[name].token}"}


def version(url: str) -> str:
    document = httpx.get(f"{url}/openapi.json", trust_env=False, timeout=60).json()
    return str(document["info"]["version"])


@pytest.mark.weekly  # tests/local_flyte/test_apps.py does the same with a smaller app
def test_a_change_that_is_deployed_again_replaces_the_app(baker: Baker, tmp_path: Path) -> None:
    project = baker(tmp_path)
    with LocalFlyte() as local_flyte:
        local_flyte.deploy(project, "deployment.py", "app_env")
        assert version(local_flyte.wait_app(APP, seconds=300)) == "0.1.0"
        main = project / "app" / "main.py"
        main.write_text(main.read_text("utf-8").replace('"0.1.0"', '"changed"'), "utf-8")
        local_flyte.deploy(project, "deployment.py", "app_env")
        assert version(local_flyte.wait_app(APP, seconds=300)) == "changed"


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("app/main.py", "import no_such_module", "No module named 'no_such_module'"),
        ("deployment.py", 'app_env.include = ("static/page.html",)', "static/page.html"),
    ],
    ids=["broken import", "missing file"],
)
def test_a_broken_deployment_fails_with_the_reason(
    file: str, line: str, message: str, baker: Baker, tmp_path: Path
) -> None:
    project, config = baker(tmp_path), tmp_path / "flyte.yaml"
    config.write_text(NOWHERE)  # a dry run makes no calls
    with (project / file).open("a", encoding="utf-8") as opened:
        opened.write(f"\n{line}\n")
    result = subprocess.run(
        [BIN / "flyte", "--config", config, "deploy", "--dry-run", "deployment.py", "app_env"],
        cwd=project,
        env=clean_environment(PYTHONPATH=str(project), COLUMNS="200"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    assert result.returncode != 0, result.stdout
    assert message in result.stdout


def test_flyte_serve_starts_the_app_for_its_callers(baker: Baker, tmp_path: Path) -> None:
    project, port = baker(tmp_path), free_port()
    # ``flyte serve --local`` takes the port from the app environment, where it is fixed.
    (project / "elsewhere.py").write_text(
        "import flyte.app\nfrom deployment import app_env\n"
        f"app_env.port = flyte.app.Port(port={port})\n"
    )
    (project / "flyte.yaml").write_text(NOWHERE)  # for the command, not the app
    url = f"http://127.0.0.1:{port}"
    command = "flyte --config flyte.yaml serve --local elsewhere.py app_env"
    with (
        LocalFlyte() as local_flyte,
        started(command, project, f"{url}/health", local_flyte.app_environment()) as process,
    ):
        log = project / "log"
        assert process.poll() is None, log.read_text()
        me = httpx.get(f"{url}/me", headers=token("bob"), trust_env=False, timeout=60)
        assert me.json()["subject"] == PEOPLE["bob"].subject
        assert httpx.get(f"{url}/me", trust_env=False, timeout=60).status_code == 401
        assert PEOPLE["bob"].token not in log.read_text()


def test_on_the_devbox_callers_are_anonymous_if_the_owner_allows_it(
    baker: Baker, tmp_path: Path
) -> None:
    project, port = baker(tmp_path), free_port()
    url, log = f"http://127.0.0.1:{port}", project / "log"
    with LocalFlyte(plaintext=True, authorization=False) as devbox:
        environment = devbox.app_environment()
        assert environment["_U_INSECURE"] == "true"
        with started(f"{UVICORN} {port}", project, f"{url}/health", environment) as process:
            assert process.wait(60) != 0
        assert "ALLOW_ANONYMOUS" in log.read_text()
        environment["ALLOW_ANONYMOUS"] = "true"
        with started(f"{UVICORN} {port}", project, f"{url}/health", environment) as process:
            assert process.poll() is None, log.read_text()
            for headers in ({}, token("bob")):
                me = httpx.get(f"{url}/me", headers=headers, trust_env=False, timeout=60).json()
                assert (me["anonymous"], me["subject"]) == (True, None)
            assert httpx.get(f"{url}/runs", trust_env=False, timeout=60).status_code == 200
    assert "every caller is anonymous" in log.read_text()


@pytest.mark.parametrize("said", ["", "0"])
def test_the_sdk_sends_no_reports_unless_the_owner_turns_them_on(
    said: str, default_project: Path
) -> None:
    start = (
        "import os; from passthrough.calls.make_safe import make_safe; make_safe();"
        " print(os.environ['DO_NOT_TRACK'])"
    )
    environment = clean_environment(**({"DO_NOT_TRACK": said} if said else {}))
    if not said:
        environment.pop("DO_NOT_TRACK", None)
    told = subprocess.run(
        [sys.executable, "-c", start],
        cwd=default_project,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert told.stdout == f"{said or 1}\n"
