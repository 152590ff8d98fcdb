"""``flyte serve --local``, and usage reports, which the default project's app does not send."""

import sys
from pathlib import Path

import httpx
import pytest

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.apps import free_port

from .baking import Baker, run
from .served import started

pytestmark = pytest.mark.slow


def test_flyte_serve_starts_the_app_for_its_callers(baker: Baker, tmp_path: Path) -> None:
    project, port = baker(tmp_path), free_port()
    # ``flyte serve --local`` takes the port from the app environment, where it is fixed.
    (project / "elsewhere.py").write_text(
        "import flyte.app\nfrom deployment import app_env\n"
        f"app_env.port = flyte.app.Port(port={port})\n"
    )
    # For the command, not the app.
    (project / "flyte.yaml").write_text("admin: {endpoint: 'dns:///127.0.0.1:1'}\n")
    url, bob, log = f"http://127.0.0.1:{port}", PEOPLE["bob"], tmp_path / "log"
    command = "flyte --config flyte.yaml serve --local elsewhere.py app_env"
    with (
        LocalFlyte() as flyte,
        started(command, project, f"{url}/health", flyte.app_environment(), log) as process,
        httpx.Client(base_url=url, trust_env=False, timeout=60) as client,
    ):
        assert process.poll() is None, log.read_text()
        me = client.get("/me", headers={"Authorization": f"Bearer {bob.token}"})
        assert me.json()["subject"] == bob.subject
        assert client.get("/me").status_code == 401
        assert bob.token not in log.read_text()


@pytest.mark.parametrize(("given", "told"), [({}, "1"), ({"DO_NOT_TRACK": "0"}, "0")])
def test_the_sdk_sends_no_reports_unless_the_owner_turns_them_on(
    given: dict[str, str], told: str, default_project: Path
) -> None:
    start = f"""
import os
from passthrough.calls.make_safe import make_safe
os.environ.pop("DO_NOT_TRACK", None)
os.environ.update({given})
make_safe()
print(os.environ["DO_NOT_TRACK"])
"""
    assert run([sys.executable, "-c", start], default_project) == f"{told}\n"
