"""Controls of the local Flyte for tests, and its count of open calls."""

import asyncio
import socket
import time
from collections.abc import Callable

from connectrpc.code import Code
from flyteidl2.common import identifier_pb2
from flyteidl2.core import interface_pb2, tasks_pb2
from flyteidl2.task import task_definition_pb2
from flyteidl2.workflow import run_service_connect, run_service_pb2
from pyqwest import Client, HTTPTransport

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.serving import listen

SILENCE = task_definition_pb2.TaskSpec(
    task_template=tasks_pb2.TaskTemplate(
        interface=interface_pb2.TypedInterface(),
        container=tasks_pb2.Container(command=["sleep", "100000"]),
    )
)
WATCH = "WatchActionDetails"


class Caller:
    """A person's connections to the local Flyte."""

    def __init__(self, flyte: LocalFlyte, person: str = "alice") -> None:
        self.address = flyte.url
        self.headers = {"Authorization": f"Bearer {PEOPLE[person].token}"}
        self._http = Client(HTTPTransport(tls_ca_cert=flyte.ca_file.read_bytes()))
        self.runs = run_service_connect.RunServiceClient(self.address, http_client=self._http)

    async def run(self) -> identifier_pb2.ActionIdentifier:
        """Start a run that prints nothing and does not end."""
        project = identifier_pb2.ProjectIdentifier(name="flytesnacks", domain="development")
        request = run_service_pb2.CreateRunRequest(project_id=project, task_spec=SILENCE)
        answer = await self.runs.create_run(request, headers=self.headers)
        return answer.run.action.id

    async def abort(self, action: identifier_pb2.ActionIdentifier) -> None:
        """Abort such a run."""
        request = run_service_pb2.AbortRunRequest(run_id=action.run)
        await self.runs.abort_run(request, headers=self.headers)

    async def watch(
        self, action: identifier_pb2.ActionIdentifier, seen: Callable[[], None] = lambda: None
    ) -> None:
        """Watch a run to its end."""
        request = run_service_pb2.WatchActionDetailsRequest(action_id=action)
        async for _ in self.runs.watch_action_details(request, headers=self.headers):
            seen()

    async def details(self, action: identifier_pb2.ActionIdentifier) -> None:
        """Get the details of a run."""
        request = run_service_pb2.GetRunDetailsRequest(run_id=action.run)
        await self.runs.get_run_details(request, headers=self.headers)


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, and fail if it does not come true."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def leave(*tasks: asyncio.Task[None]) -> None:
    """Stop waiting for an answer."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_it_notices_at_once_when_viewers_of_a_silent_run_leave(
    local_flyte: LocalFlyte,
) -> None:
    async def watch() -> None:
        caller = Caller(local_flyte)
        action = await caller.run()
        watching = [asyncio.create_task(caller.watch(action)) for _ in range(20)]
        await until(lambda: local_flyte.open_calls(WATCH) == 20)
        await leave(*watching[:15])
        await until(lambda: local_flyte.open_calls(WATCH) == 5)
        await caller.abort(action)
        await asyncio.gather(*watching[15:])
        await until(lambda: local_flyte.open_calls(WATCH) == 0)

    asyncio.run(watch())


def test_a_stream_hangs_before_its_first_message_or_after_a_given_number(
    local_flyte: LocalFlyte,
) -> None:
    async def watch() -> None:
        caller, seen = Caller(local_flyte), asyncio.Semaphore(0)
        action = await caller.run()
        with local_flyte.hang(WATCH):
            watching = asyncio.create_task(caller.watch(action, seen.release))
            await until(lambda: local_flyte.open_calls(WATCH) == 1)
            assert seen.locked()
            await leave(watching)
            await until(lambda: local_flyte.open_calls(WATCH) == 0)
        with local_flyte.hang(WATCH, after=1):
            watching = asyncio.create_task(caller.watch(action, seen.release))
            await seen.acquire()
            await caller.abort(action)
            await caller.details(action)  # a whole call later
            assert seen.locked()
            assert not watching.done()
        await watching
        assert not seen.locked()

    asyncio.run(watch())


def test_a_reset_deletes_runs_and_faults() -> None:
    async def count_runs(flyte: LocalFlyte) -> int:
        request = run_service_pb2.ListRunsRequest()
        request.project_id.CopyFrom(
            identifier_pb2.ProjectIdentifier(name="flytesnacks", domain="development")
        )
        alice = Caller(flyte)
        return len((await alice.runs.list_runs(request, headers=alice.headers)).runs)

    with LocalFlyte() as flyte:
        asyncio.run(Caller(flyte).run())
        assert asyncio.run(count_runs(flyte)) == 1
        flyte.fail_next("ListRuns", Code.INTERNAL, times=100)
        flyte.reset()
        assert flyte.calls == []
        assert asyncio.run(count_runs(flyte)) == 0


def test_a_connection_sends_without_waiting_for_acknowledgements() -> None:
    """Otherwise each answer may take 40 ms longer: its body waits until its head has arrived."""
    with listen() as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
