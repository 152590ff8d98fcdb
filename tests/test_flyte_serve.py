"""``flyte serve --local``."""

from pathlib import Path

import pytest

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.apps import free_port
from local_flyte.testing import client_of

from .served import started

pytestmark = pytest.mark.slow


def test_flyte_serve_starts_the_app_for_its_callers(project: Path, tmp_path: Path) -> None:
    port = free_port()
    # ``flyte serve --local`` takes the port from the app environment, where it is fixed.
    (project / "elsewhere.py").write_text(
        "import flyte.app\nfrom deployment import app_env\n"
        f"app_env.port = flyte.app.Port(port={port})\n"
    )
    # For the command, not the app.
    (project / "flyte.yaml").write_text("admin: {endpoint: 'dns:///127.0.0.1:1'}\n")
    url, log = f"http://127.0.0.1:{port}", tmp_path / "log"
    command = "flyte --config flyte.yaml serve --local elsewhere.py app_env"
    with (
        LocalFlyte() as flyte,
        started(command, project, f"{url}/health", flyte.app_environment(), log),
        client_of(url, "bob") as bob,
        client_of(url, None) as nobody,
    ):
        assert bob.get("/me").json()["subject"] == PEOPLE["bob"].subject
        assert nobody.get("/me").status_code == 401
        assert PEOPLE["bob"].token not in log.read_text()
