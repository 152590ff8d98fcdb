"""Tests of deployed apps, which run in separate processes from a code bundle."""

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

if os.environ.get("VERSION") == "broken":
    import no_such_module

api = fastapi.FastAPI()

@api.get("/")
def read() -> dict[str, str | None]:
    return {
        "page": pathlib.Path(__file__).with_name("page.txt").read_text(),
        "endpoint": os.environ.get("FLYTE_ENDPOINT"),
        "trusted": os.environ.get("SSL_CERT_FILE"),
        "version": os.environ.get("VERSION"),
    }

env = FastAPIAppEnvironment(
    name="tiny", app=api, image="auto", include=["page.txt"],
    env_vars={
        "VERSION": "1",
        "FLYTE_ENDPOINT": "dns:///flyte.example.com",
        "SSL_CERT_FILE": "/etc/ssl/own/ca.pem",
    },
)
"""


def deploy_again(version: str) -> None:
    app = remote.App.get("tiny").pb2
    (variable,) = (one for one in app.spec.container.env if one.key == "VERSION")
    variable.value = version
    remote.App.replace("tiny", app.spec, "another")


def test_app_serves_latest_revision_until_stopped_or_deleted(
    local_flyte: LocalFlyte, flyte_variables: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "page.txt").write_text("a page")
    (tmp_path / "tiny.py").write_text(APP)
    local_flyte.deploy(tmp_path, "tiny.py", "env")
    (tmp_path / "page.txt").write_text("not deployed")
    trusted = ssl.create_default_context(cafile=str(local_flyte.ca_file))
    with httpx.Client(trust_env=False, timeout=60, verify=trusted) as http, acting_as("alice"):
        url = local_flyte.wait_app("tiny")
        variables = {"endpoint": local_flyte.url, "trusted": str(local_flyte.ca_file)}
        assert http.get(url).json() == {"page": "a page", "version": "1", **variables}
        deploy_again("2")
        assert local_flyte.wait_app("tiny") == url
        public = remote.App.get("tiny").endpoint  # the public URL has TLS
        assert public.startswith("https://")
        assert http.get(public).json()["version"] == "2"

        remote.App.get("tiny").deactivate()
        with pytest.raises(httpx.ConnectError):
            http.get(url)
        deploy_again("broken")  # still inactive
        remote.App.get("tiny").activate()
        with pytest.raises(RuntimeError, match="no_such_module"):
            local_flyte.wait_app("tiny")
        last = remote.App.get("tiny").pb2.status.conditions[-1]
        assert "no_such_module" in last.message
        remote.App.delete("tiny")
        with pytest.raises(ConnectError):
            local_flyte.wait_app("tiny")
