"""Images and code for many callers: each of them calls Flyte."""

from collections.abc import Callable

import flyte
import httpx
import pytest
from fastapi import APIRouter
from flyte import remote

from local_flyte import LocalFlyte, ReceivedCall
from local_flyte.testing import acting_as, bearer, client_of

from ..image_builder import deploy_builder

router = APIRouter()
image = flyte.Image.from_debian_base(name="report").with_pip_packages("pandas")


@router.post("/build")
async def build(force: bool = False) -> dict[str, str | None]:
    built = await flyte.build.aio(image, force=force, wait=False)
    run = built.remote_run.name if built.remote_run else None
    return {"image": built.uri, "run": run}


env = flyte.TaskEnvironment(name="own")


@env.task
async def own() -> None: ...


@router.post("/run")
async def run_own_task() -> str:
    return (await flyte.run.aio(own)).name


@pytest.mark.parametrize(
    ("path", "method"), [("/build", "GetImage"), ("/run", "CreateUploadLocation")]
)
def test_each_caller_asks_for_the_image_and_uploads_the_code(
    *,
    alice: httpx.Client,
    bob: httpx.Client,
    received: Callable[[], list[ReceivedCall]],
    path: str,
    method: str,
) -> None:
    for client in (alice, bob, alice):
        assert client.post(path).is_success
    callers = [call.headers["authorization"] for call in received() if call.method == method]
    assert callers == [bearer("alice"), bearer("bob"), bearer("alice")]


def test_each_caller_gets_a_separate_build_if_they_may_run_tasks(
    alice: httpx.Client, bob: httpx.Client, local_flyte: LocalFlyte, url: str
) -> None:
    deploy_builder(local_flyte)
    forced = {"force": True}
    built = [client.post("/build", params=forced).json() for client in (alice, bob)]
    with acting_as("alice"):
        runs = [remote.Run.get(name=each["run"]) for each in built]
    executors = [run.pb2.action.metadata.executed_by.user.id.subject for run in runs]
    assert executors == ["alice-subject", "bob-subject"]
    with client_of(url, "victor") as victor:
        assert victor.post("/build", params=forced).status_code == 403
