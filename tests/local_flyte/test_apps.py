"""Apps on the local Flyte: each runs in a process of its own, from its code bundle."""

import ssl
from pathlib import Path

import httpx
import pytest
from connectrpc.errors import ConnectError
from flyte import remote

from local_flyte import LocalFlyte
from local_flyte.testing import acting_as

pytestmark = pytest.mark.slow

APP = """
import os
import pathlib
import fastapi
import flyte
from flyte.app.extras import FastAPIAppEnvironment

api = fastapi.FastAPI()

@api.get("/")
def read() -> dict[str, str | None]:
    return {
        "version": "1",
        "page": pathlib.Path(__file__).with_name("page.txt").read_text(),
        "endpoint": os.environ.get("FLYTE_ENDPOINT"),
        "trusted": os.environ.get("SSL_CERT_FILE"),
        "declared": os.environ.get("DECLARED"),
    }

env = FastAPIAppEnvironment(
    name="tiny", app=api, image="auto", include=["page.txt"],
    env_vars={
        "DECLARED": "yes",
        "FLYTE_ENDPOINT": "dns:///flyte.example.com",
        "SSL_CERT_FILE": "/etc/ssl/own/ca.pem",
    },
)
"""


def deploy(flyte: LocalFlyte, name: str, folder: Path, source: str, page: str) -> None:
    (folder / "page.txt").write_text(page)
    (folder / f"{name}.py").write_text(source)
    flyte.deploy(folder, f"{name}.py", "env")


def test_an_app_runs_what_was_deployed_last_until_it_is_stopped_or_deleted(
    local_flyte: LocalFlyte, flyte_variables: dict[str, str], tmp_path: Path
) -> None:
    trusted = ssl.create_default_context(cafile=str(local_flyte.ca_file))
    with httpx.Client(trust_env=False, timeout=60, verify=trusted) as http:
        deploy(local_flyte, "tiny", tmp_path, APP, "a page")
        url = local_flyte.wait_app("tiny")
        (tmp_path / "page.txt").write_text("not deployed")
        assert http.get(url).json() == {
            "version": "1",
            "page": "a page",
            "endpoint": local_flyte.url,
            "trusted": str(local_flyte.ca_file),
            "declared": "yes",
        }
        deploy(local_flyte, "tiny", tmp_path, APP.replace('"1"', '"2"'), "another page")
        assert local_flyte.wait_app("tiny") == url
        assert http.get(url).json()["version"] == "2"

        with acting_as("alice"):
            public = remote.App.get("tiny").endpoint  # Flyte's gate in front of it speaks TLS
            assert public.startswith("https://")
            assert http.get(public).json()["version"] == "2"
            remote.App.get("tiny").deactivate()
            with pytest.raises(httpx.ConnectError):
                http.get(url)
            remote.App.get("tiny").activate()
            assert http.get(local_flyte.wait_app("tiny")).json()["page"] == "another page"
            remote.App.delete("tiny")
    with pytest.raises(ConnectError):
        local_flyte.wait_app("tiny")


def test_an_app_that_exits_at_once_fails_with_the_reason(
    local_flyte: LocalFlyte, flyte_variables: dict[str, str], tmp_path: Path
) -> None:
    # Deployed in good health, it breaks where only this file's import in the container goes wrong.
    broken = 'import os\nif "_U_EP_OVERRIDE" in os.environ:\n    import no_such_module\n'
    deploy(local_flyte, "broken", tmp_path, broken + APP.replace("tiny", "broken"), "")
    with pytest.raises(RuntimeError, match="no_such_module"):
        local_flyte.wait_app("broken")
    with acting_as("alice"):
        last = remote.App.get("broken").pb2.status.conditions[-1]
    assert "no_such_module" in last.message
