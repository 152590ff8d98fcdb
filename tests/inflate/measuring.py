"""Sends requests to an app in a process of its own, and says what it has needed for each."""

import json
import re
import socket
import time
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
from passthrough.http.serving import COMMAND_LINE

from ..served import TASKS, started
from . import inputs
from .inputs import Case, Operation
from .repeating import Repeating

HERE = Path(__file__).parent
LOOP = 0.1  # seconds on the machine that took so long for served.WORK:
WORK = 0.024
MEMORY = 10  # times what was sent
PROTOBUF = 62  # times what Flyte has sent, if it has very many small parts
LEAST_MEMORY = 50_000_000  # bytes, for what does not depend on the message
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
    """The app in a process of its own at an address, and the Flyte behind it."""

    def __init__(self, url: str, log: Path, repeating: Repeating, meter: httpx.Client) -> None:
        self.url, self.repeating = url, repeating
        self.scale = 1.0
        """How much slower this machine is."""
        self._log, self._meter = log, meter
        self.read_meter()

    def read_meter(self, query: str = "") -> dict[str, float]:
        """Return what the app has needed since this was last called."""
        return dict(self._meter.get(f"/meter{query}").json())

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
                while len(answer) < 2 * ANSWER:
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
        """Measure a case; repeat it if all that is wrong is that it took too long."""
        for _ in range(tries):
            outcome = self._try(case)
            if outcome.problems != ["loop"]:
                break
            self.calibrate(times=3)  # others may have begun to use this machine
        return outcome

    def _try(self, case: Case) -> Outcome:
        self.repeating.begin(case.operation.name.rpartition(":")[2], case.change)
        size = self._log.stat().st_size
        request = case.request()
        status, answer = self.call(request)
        try:
            told = self.read_meter()
        except httpx.TransportError:
            raise AssertionError(f"{case.name}: the app has ended") from None
        with self._log.open("rb") as log:
            log.seek(size)
            logged = log.read().decode()
        secrets = [each.token for each in PEOPLE.values()]
        secrets += [each.cookie.partition("=")[2] for each in PEOPLE.values()]
        pieces = [case.secret[at : at + 40] for at in range(0, len(case.secret) - 39, 997)]
        is_error = b'"isError":true' in answer and b'"status":500' in answer[:4000]
        sent = len(request) + self.repeating.sent
        most = PROTOBUF if case.change and "entries" in case.how else MEMORY
        problems = {
            "loop": told["loop"] > LOOP * self.scale,
            "memory": told["memory"] > max(LEAST_MEMORY, most * sent),
            "answer": len(answer) > ANSWER,
            "log": len(logged) > LOG,
            "credential in the log": any(each in logged for each in secrets + pieces),
            "credential in the answer": any(each.encode() in answer for each in secrets),
            "no answer": status == 0,
            "500": (status == 500 or is_error) and not case.operation.has_bugs,
        }
        return Outcome(
            case.name, status, told["loop"], int(told["memory"]), sent, len(answer), len(logged),
            self.scale, [name for name, is_one in problems.items() if is_one],
        )  # fmt: skip


@contextmanager
def measured(project: Path, folder: Path) -> Iterator[tuple[Measured, list[Operation]]]:
    """Serve the app, record what Flyte answers it, and yield it with its operations and tools."""
    with LocalFlyte() as flyte, listen() as listener, ExitStack() as stack:
        flyte.deploy(HERE.parent / "browser", "page_tasks.py", "env")
        repeating = Repeating(flyte._services.applications)
        variables = flyte.app_environment()
        variables |= {"PYTHONPATH": f"{project}:{HERE}", "FLYTE_TIMEOUT": "10"}
        url, number = f"http://127.0.0.1:{listener.getsockname()[1]}", listener.fileno()
        command = f"uvicorn served:app --fd {number} {COMMAND_LINE}"
        log = folder / "log"
        stack.enter_context(started(command, project, f"{url}/health", variables, log, number))
        headers = {"Cookie": PEOPLE["alice"].cookie}  # tasks have tokens
        client, meter = (
            stack.enter_context(
                httpx.Client(base_url=url, headers=each, trust_env=False, timeout=SILENCE)
            )
            for each in (headers, {})
        )
        app = Measured(url, log, repeating, meter)
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
