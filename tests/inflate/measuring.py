"""Sends requests to an app in a process of its own, and says what it has needed for each."""

import json
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.serving import listen
from local_flyte.testing import wait_until
from passthrough.requests.serving import COMMAND_LINE

from ..served import TASKS, started
from . import inputs
from .inputs import Case, Operation
from .repeating import Repeating

HERE = Path(__file__).parent
LOOP = 0.1  # seconds on the machine that took so long for served.WORK:
WORK = 0.024
MEMORY = 10  # times what was sent
LEAST_MEMORY = 90_000_000  # bytes: what protobuf makes of the largest answer of small parts
ANSWER = 4_000_000  # bytes
LOG = 11_000  # characters: 10 kB, and the line of the request
SILENCE = 60.0  # seconds
STREAM = 2.0  # seconds that an event stream is read
TRIES = 4  # of a case that is over the limit of time: others use this machine


@dataclass
class Outcome:
    """What a case has needed: seconds of the loop, bytes of memory, and bytes sent and got."""

    case: str
    status: int
    loop: float
    memory: int
    sent: int
    answered: int
    logged: int
    scale: float
    problems: list[str]


class Measured:
    """The app in a process, and the Flyte behind it."""

    def __init__(self, project: Path, log: Path, flyte: LocalFlyte, stack: ExitStack) -> None:
        self.repeating = Repeating(flyte._services.applications)
        self.outcomes: list[Outcome] = []
        self.scale = 1.0
        """How much slower this machine is."""
        self._log, self._project, self._flyte, self._stack = log, project, flyte, stack
        self._start()

    def _start(self) -> None:
        """Start the app, as ``make dev`` or a cluster does."""
        self._running = stack = self._stack.enter_context(ExitStack())
        listener = stack.enter_context(listen())
        port, number = listener.getsockname()[1], listener.fileno()
        variables = self._flyte.app_environment() | {
            "PYTHONPATH": f"{self._project}:{HERE}",
            "FLYTE_TIMEOUT": "10",
        }
        command = f"uvicorn served:app --fd {number} {COMMAND_LINE}"
        self.url = f"http://127.0.0.1:{port}"
        self.process = stack.enter_context(
            started(command, self._project, f"{self.url}/health", variables, self._log, number)
        )
        assert self.process.poll() is None, self._log.read_text("utf-8")
        self.meter = stack.enter_context(
            httpx.Client(base_url=self.url, trust_env=False, timeout=SILENCE)
        )
        self.read_meter()

    def read_meter(self, query: str = "") -> dict[str, float]:
        """Return what the app has needed since this was last called."""
        told = self.meter.get(f"/meter{query}")
        if self.process.poll() is not None:
            raise httpx.ReadError("the app has ended")
        return dict(told.json())

    def calibrate(self, times: int = 20) -> None:
        """Compare this machine with the one that the limit of time is for."""
        self.scale = min(self.read_meter("?work")["work"] for _ in range(times)) / WORK

    def call(self, request: bytes) -> tuple[int, bytes]:
        """Send a request on a connection of its own; return the status, and all that is answered.

        The status is 0 if nothing is answered.
        """
        answer = bytearray()
        began = time.monotonic()
        address = "127.0.0.1", int(self.url.rpartition(":")[2])
        with socket.create_connection(address, SILENCE) as connection:
            with suppress(OSError):  # refused before all of it was sent
                connection.sendall(request)
            with suppress(ConnectionError):
                while len(answer) < 2 * ANSWER and self.process.poll() is None:
                    connection.settimeout(0.5)
                    with suppress(TimeoutError):
                        if not (data := connection.recv(1 << 20)):
                            break
                        answer += data
                    patience = STREAM if b"text/event-stream" in answer[:2000] else SILENCE
                    if time.monotonic() > began + patience:
                        break
        status = re.match(rb"HTTP/1\.1 (\d+)", answer)
        return int(status[1]) if status else 0, bytes(answer)

    def try_case(self, case: Case, tries: int = TRIES) -> Outcome:
        """Measure a case; repeat it if it seems to take too long."""
        outcome, usual = self._try(case), self.scale
        for _ in range(tries - 1):
            if outcome.loop <= LOOP * outcome.scale or outcome.status == 0:
                break
            self.calibrate(times=3)  # others may have begun to use this machine
            again = self._try(case)
            if again.loop / again.scale < outcome.loop / outcome.scale:
                again.problems = [*{*outcome.problems, *again.problems}]
                outcome = again
        self.scale = usual
        limits = {
            "loop": outcome.loop > LOOP * outcome.scale,
            "memory": outcome.memory > max(LEAST_MEMORY, MEMORY * outcome.sent),
            "answer": outcome.answered > ANSWER,
            "log": outcome.logged > LOG,
        }
        outcome.problems += [name for name, over in limits.items() if over]
        self.outcomes.append(outcome)
        return outcome

    def _try(self, case: Case) -> Outcome:
        self.repeating.begin(case.operation.name.rpartition(":")[2], case.change)
        size = self._log.stat().st_size
        request = case.request()
        status, answer = self.call(request)
        told, problems = {"loop": 0.0, "memory": 0.0}, []
        try:
            told = self.read_meter()
        except httpx.TransportError:
            problems.append("the app has ended")
            self.process.kill()
            self._running.close()
        with self._log.open("rb") as log:
            log.seek(size)
            logged = log.read().decode()
        if problems:
            self._start()
        secrets = [each.token for each in PEOPLE.values()]
        secrets += [each.cookie.partition("=")[2] for each in PEOPLE.values()]
        secrets += [case.secret[at : at + 40] for at in range(0, len(case.secret) - 39, 997)]
        if any(each in logged for each in secrets):
            problems.append("credential in the log")
        if any(each.encode() in answer for each in secrets[: 2 * len(PEOPLE)]):
            problems.append("credential in the answer")
        if status == 0:
            problems.append("no answer")
        is_error = b'"isError":true' in answer and b'"status":500' in answer[:4000]
        if (status == 500 or is_error) and not case.operation.has_bugs:
            problems.append("500")
        return Outcome(
            case.name, status, told["loop"], int(told["memory"]),
            len(request) + self.repeating.sent, len(answer), len(logged), self.scale, problems,
        )  # fmt: skip

    def report(self, covered: str) -> bool:
        """Print what was found; return whether anything is over a limit."""
        over = [each for each in self.outcomes if each.problems]
        longest = sorted(self.outcomes, key=lambda each: each.loop, reverse=True)[:10]
        print("\nThe ten that blocked the loop longest:", *longest, sep="\n  ")
        kinds = Counter(problem for each in over for problem in each.problems)
        print(
            f"\n{covered}, of which {len(self.outcomes)} were tried; {len(over)} over a limit:"
            f" {', '.join(f'{number} {kind}' for kind, number in kinds.items()) or 'none'}"
            f"\nThis machine: {self.scale:.2f} times the time of the one that the limit is for."
        )
        return bool(over)


@contextmanager
def measured(project: Path, folder: Path) -> Iterator[tuple[Measured, list[Operation]]]:
    """Serve the app, record what Flyte answers it, and yield it with its operations and tools."""
    with LocalFlyte() as flyte, ExitStack() as stack:
        flyte.deploy(HERE.parent / "browser", "page_tasks.py", "env")
        app = Measured(project, folder / "log", flyte, stack)
        headers = {"Cookie": PEOPLE["alice"].cookie}  # tasks have tokens
        client = stack.enter_context(
            httpx.Client(base_url=app.url, headers=headers, timeout=120, trust_env=False)
        )
        task = client.get(f"/tasks/{TASKS}.survey").json()
        given = inputs.example(task["inputs"], {})
        done = start(client, "survey", given)
        asking = [start(client, "publish", {"text": "all"}) for _ in range(4)]
        wait_until(lambda: client.get(f"/runs/{done}").json()["phase"] == "succeeded")
        base: dict[str, dict[str, Any]] = {
            "/tasks": {"name": f"{TASKS}.survey", "inputs": given, "wait": 0.1},
            "/runs": {"name": done, "action": "a0", "inputs": given, "recover": False},
        }
        changing = ("conditions", "conditions/", "abort", "actions/{action}")
        for path, run in zip(changing, asking, strict=True):
            asks = f"/runs/{run}/conditions"
            wait_until(partial(lambda path: client.get(path).json(), asks))
            (asked,) = client.get(asks).json()
            values = {"name": run, "action": asked["action"], "value": True}
            base[f"/runs/{{name}}/{path}"] = values
        operations = inputs.operations_of(client.get("/openapi.json").json(), base)
        for operation in operations:
            app.repeating.begin(operation.name)
            status, answer = app.call(inputs.request(operation, headers))
            if status >= 400 and not operation.has_bugs:
                print(operation.name, "needs other values:", answer[-400:], flush=True)
        app.repeating.records = False
        listing = inputs.Operation("tools", "POST", "/mcp")
        listing.body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        tools = app.call(inputs.request(listing, headers))[1].partition(b"\r\n\r\n")[2]
        found = json.loads(tools)["result"]["tools"]
        operations += inputs.tools_among(found, operations)
        yield app, operations


def start(client: httpx.Client, task: str, given: dict[str, Any]) -> str:
    """Start a run of a task; return its name."""
    answer = client.post(f"/tasks/{TASKS}.{task}/runs", json={"inputs": given})
    assert answer.is_success, answer.text
    return str(answer.json()["name"])
