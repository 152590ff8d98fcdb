"""Secrets on the local Flyte server, which the ``flyte`` command creates."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from flyte import remote

from local_flyte import LocalFlyte
from local_flyte.processes import DONE  # the SDK sometimes aborts after its work
from local_flyte.testing import acting_as, ended, start

from ..baking import BIN
from ..baking import ended as run_to_end

pytestmark = pytest.mark.slow

FILE = """
import os
from pathlib import Path

import fastapi
import flyte
from flyte.app.extras import FastAPIAppEnvironment

folder = Path("/etc/flyte/secrets")
secrets = [flyte.Secret("my-key", as_env_var="MY_KEY"), flyte.Secret("my-file", mount=folder)]
tasks = flyte.TaskEnvironment("keys", image="auto", secrets=secrets)
api = fastapi.FastAPI()
app = FastAPIAppEnvironment(name="keeper", app=api, image="auto", secrets=secrets)


@tasks.task
async def read_keys() -> str:
    return read()


@api.get("/")
def read() -> str:
    file = Path(os.environ["FLYTE_SECRETS_DEFAULT_DIR"], "my-file")
    return f"{file} {os.environ['MY_KEY']} {file.read_bytes()!r}"
"""


@pytest.fixture
def flyte(local_flyte: LocalFlyte, tmp_path: Path) -> Callable[..., str]:
    """Return a function that calls the ``flyte`` command as a user."""

    def call(*words: str, user: str = "alice", fails: bool = False) -> str:
        options = ["-c", str(local_flyte.config_file(user))]
        home = {"HOME": str(tmp_path), "COLUMNS": "300", "TERM": "dumb", "DO_NOT_TRACK": "1"}
        done = run_to_end([BIN / "flyte", *options, *words], tmp_path, **home)
        assert (done.returncode not in DONE) == fails, done.stdout
        return done.stdout

    return call


@pytest.fixture(autouse=True)
def no_secrets(local_flyte: LocalFlyte, flyte_variables: dict[str, str]) -> None:
    local_flyte.reset()


@pytest.fixture
def deployed(local_flyte: LocalFlyte, tmp_path: Path) -> None:
    """Deploy the task and the app."""
    (tmp_path / "keys.py").write_text(FILE)
    local_flyte.deploy(tmp_path, "keys.py", None)


needs_deployment = pytest.mark.usefixtures("deployed")


def read_in_task() -> str:
    """Run the task, and return its output."""
    with acting_as("alice"):
        run = remote.Run.get(ended(start("keys.read_keys")))
        return str(run.outputs()[0])


def read_in_app(local_flyte: LocalFlyte) -> str:
    """Start the app again, and return its response."""
    with acting_as("alice"):
        remote.App.replace("keeper", remote.App.get("keeper").pb2.spec, "again")
    return str(httpx.get(local_flyte.wait_app("keeper"), trust_env=False, timeout=60).json())


@needs_deployment
def test_secrets_reach_tasks_and_apps(
    local_flyte: LocalFlyte, flyte: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    flyte("create", "secret", "my-key", "--value", "s3cret")
    flyte("create", "secret", "my-file", "--from-file", str(tmp_path / "binary"))
    for read in (read_in_task(), read_in_app(local_flyte)):
        file, *values = read.split(" ")
        assert values == ["s3cret", r"b'\xff\x00'"]
    local_flyte.reset()
    assert not Path(file).exists()


@needs_deployment
def test_secret_of_narrower_scope_overrides_wider_scope(flyte: Callable[..., str]) -> None:
    for name in ("my-file", "my-key"):
        flyte("create", "secret", name, "--value", "everybody's")
    domain: tuple[str, ...] = ("--domain", "development")
    for scope in (("--domain", "staging"), (*domain, "--project", "others")):
        flyte("create", "secret", "my-key", "--value", "another", *scope)
    for value, scope in (
        ("the-domain's", domain),
        ("the-project's", (*domain, "--project", "flytesnacks")),
    ):
        flyte("create", "secret", "my-key", "--value", value, *scope)
        assert f" {value} " in read_in_task()


@needs_deployment
def test_missing_secret_is_named_in_error(local_flyte: LocalFlyte) -> None:
    message = "secret my-key not found in flytesnacks/development, "
    with acting_as("alice"):
        details = remote.ActionDetails.get(run_name=ended(start("keys.read_keys")), name="a0")
        assert message in details.error_message
        with pytest.raises(RuntimeError, match=message):
            local_flyte.wait_app("keeper")
        assert message in remote.App.get("keeper").pb2.status.conditions[-1].message


def test_secret_value_is_never_returned_or_printed(flyte: Callable[..., str]) -> None:
    """A deleted secret is not found."""
    created = flyte("create", "secret", "my-key", "--value", "s3cret")
    again = flyte("create", "secret", "my-key", "--value", "s3cret", fails=True)
    one = flyte("get", "secret", "my-key")
    listed = flyte("get", "secret")
    assert "already exists" in again
    assert "my-key" in one
    assert "my-key" in listed
    assert "s3cret" not in created + again + one + listed
    flyte("delete", "secret", "my-key")
    assert "there is no secret my-key" in flyte("get", "secret", "my-key", fails=True)


def test_viewer_cannot_create_secrets(flyte: Callable[..., str]) -> None:
    refused = flyte("create", "secret", "my-key", "--value", "s3cret", user="victor", fails=True)
    assert "victor may not run in this project" in refused
    assert flyte("get", "secret", user="victor")
