"""Sends the requests in ``services/*.yaml`` to a Flyte and compares its answers.

It uses only the SDK and the stubs in it, so it works with any Flyte. A case is a call or ``steps``:

- ``answer`` has the fields to compare, by the messages' names. Null is a field that is not set,
  ``/.../`` a regular expression; a list can be ``{contains: [...]}`` and ``{lacks: [...]}``.
- ``until`` is an answer to wait for; ``retry: true`` waits for what else the step expects.
- ``save: {run: run.action.id.run.name}`` keeps a part of the answer as ``${run}``. `Runner.run` has
  the other variables; ``${version}`` and ``${ended}`` are of ``tasks.py``, and of a run of it.
- ``repeat`` is a number of times, with ``${turn}`` from 0; ``after_seconds`` is a pause before it.
- A stream has ``messages: {count: 1, last: {...}, any: {...}}`` and must end; with
  ``until: {...}`` it is read up to this message.
"""

import contextlib
import importlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from connectrpc.errors import ConnectError
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from pyqwest import SyncClient, SyncHTTPTransport

SERVICES, COMMON = (Path(__file__).with_name(name) for name in ("services", "common.yaml"))
KINDS = ("union", "open-source", "devbox")
CALL_SECONDS = 60
POLL_SECONDS = 0.2
LARGE = 2 * 2**20
"""Characters in ${large}: more inputs or outputs than Flyte returns."""
TASKS = Path(__file__).with_name("tasks.py")
OF_TASKS = re.compile(r"\$\{(version|ended)\}")
"""Variables in cases that need the tasks."""


@dataclass(frozen=True)
class Target:
    """A Flyte, and its callers."""

    url: str
    kind: str
    tokens: Mapping[str, str] = field(repr=False)
    """Tokens by the name of the person: alice, bob, victor, carol, expired."""
    ca_cert: bytes | None = None
    """The authority to trust; None for those of this machine."""
    project: str = "flytesnacks"
    domain: str = "development"
    org: str = "any"
    """The organization, which Union checks and the open-source Flyte ignores."""
    image: str = "auto"
    """The image for the tasks: any image with the SDK, or the SDK's own."""
    wait_seconds: float = 300
    """Seconds to wait for a run's expected state."""


def different(where: str, expected: object, got: object) -> str:
    """Return a difference between an answer and the expected one, as it is printed."""
    return f"{where}: expected {expected}, got {got}"


@dataclass(frozen=True)
class Case:
    """A sequence of calls, with the expected answers."""

    service: str
    """The module of its stubs, and its name: ``flyteidl2.workflow.run_service.RunService``."""
    name: str
    kinds: tuple[str, ...]
    steps: list[dict[str, Any]]

    def __str__(self) -> str:
        return f"{self.service.rpartition('.')[2]}: {self.name}"

    @property
    def needs_tasks(self) -> bool:
        """Whether the SDK's tasks must be deployed first."""
        return OF_TASKS.search(str(self.steps)) is not None


def cases() -> list[Case]:
    """Read all cases."""
    common = COMMON.read_text(encoding="utf-8")
    return [
        Case(
            service=document["service"],
            name=case.pop("name"),
            kinds=tuple(case.pop("only", KINDS)),
            steps=case.get("steps", [case]),
        )
        for file in sorted(SERVICES.glob("*.yaml"))
        for document in [yaml.safe_load(common + file.read_text(encoding="utf-8"))]
        for case in document["cases"]
    ]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a call."""

    answers: list[Any]
    code: str | None = None
    message: str | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.code else "ok"


class Runner:
    """Runs cases against one Flyte."""

    def __init__(self, target: Target) -> None:
        self._target = target
        transport = SyncHTTPTransport(
            tls_ca_cert=target.ca_cert, tls_include_system_certs=target.ca_cert is None
        )
        self._http = SyncClient(transport)
        self._clients: dict[str, Any] = {}
        self._current: tuple[Case, dict[str, object]] | None = None

    @cached_property
    def tasks(self) -> dict[str, str]:
        """Deploy the tasks, and return their version and the name of a run.

        Raises:
            ValueError: With the SDK's message.
        """
        target, token = self._target, self._headers("alice")["Authorization"]
        # The SDK caches its uploads in the home folder, and must not use that cache.
        with tempfile.TemporaryDirectory() as home:
            options = {
                "endpoint": target.url,
                "insecure": target.url.startswith("http:"),
                "org": target.org,
                "project": target.project,
                "domain": target.domain,
            }
            if target.ca_cert is not None:
                options["ca_cert_file_path"] = str(Path(home, "ca.pem"))
                Path(home, "ca.pem").write_bytes(target.ca_cert)
            result = subprocess.run(
                [sys.executable, str(TASKS), json.dumps(options)],
                env={
                    **os.environ,
                    "HOME": home,
                    "CONFORMANCE_IMAGE": target.image,
                    "CONFORMANCE_AUTHORIZATION": token,
                },
                capture_output=True,
                text=True,
                check=False,
            )
        # The SDK's HTTP client sometimes aborts the process while Python exits.
        if result.returncode not in {0, -signal.SIGABRT}:
            said = result.stderr.replace(token.removeprefix("Bearer "), "...").strip()
            raise ValueError(f"The SDK could not deploy the tasks of the cases:\n{said}")
        return dict(json.loads(result.stdout.splitlines()[-1]))

    def check(self) -> None:
        """Make one call.

        Raises:
            ValueError: If Flyte does not answer, or does not know the caller or the project.
        """
        outcome = self._call(
            "flyteidl2.project.project_service.ProjectService",
            {"call": "GetProject", "request": {"id": self._target.project}},
        )
        if outcome.code is not None:
            raise ValueError(
                f"{self._target.url} does not return the project {self._target.project}: {outcome}."
                " Check --url, --ca, --project and FLYTE_TEST_TOKEN_ALICE."
            )

    def missing(self, case: Case) -> str | None:
        """Return the reason why a case cannot run, or None."""
        known = {*self._target.tokens, "nobody", "stranger"}
        people = {step.get("as", "alice") for step in case.steps}
        if self._target.kind != "devbox" and (unknown := people - known):
            return f"no token of {', '.join(sorted(unknown))}"
        return None

    def run(self, case: Case) -> list[str]:
        """Run a case up to the first step with an unexpected answer; return the differences."""
        variables: dict[str, object] = {
            "project": self._target.project,
            "domain": self._target.domain,
            "org": self._target.org,
            "host": urlsplit(self._target.url).netloc,
            "large": "x" * LARGE,
            "unique": f"c{secrets.token_hex(6)}",
            **(self.tasks if case.needs_tasks else {}),
        }
        self._current = case, variables
        for number, step in enumerate(case.steps, 1):
            for turn in range(step.get("repeat", 1)):
                filled = _filled(step, {**variables, "turn": turn})
                if differences := self._step(case.service, filled, variables):
                    self.abort()
                    prefix = f"step {number}, {step['call']}: " if len(case.steps) > 1 else ""
                    return [prefix + difference for difference in differences]
        return []

    def abort(self) -> None:
        """Abort the runs that the last case has started."""
        if self._current is not None:
            case, variables = self._current
            for step in case.steps:
                if step["call"].endswith("AbortRun"):
                    with contextlib.suppress(KeyError):  # the run was not started
                        self._call(case.service, _filled(step, variables))

    def _step(self, service: str, step: dict[str, Any], variables: dict[str, object]) -> list[str]:
        time.sleep(step.get("after_seconds", 0))
        deadline = time.monotonic() + self._target.wait_seconds
        while True:
            outcome = self._call(service, step)
            differences = list(_compare_outcome(step, outcome, self._target.kind))
            waits = step.keys() & {"until", "retry"} and time.monotonic() < deadline
            if not (differences and waits):
                break
            time.sleep(POLL_SECONDS)
        if not differences:
            for name, path in step.get("save", {}).items():
                if (value := _at(outcome.answers[-1], path)) is None:
                    return [different(path, "a value", None)]
                variables[name] = value
        return differences

    def _call(self, default_service: str, step: dict[str, Any]) -> Outcome:
        service, _, method = step["call"].rpartition("/")
        client, input_type, streams = self._method(service or default_service, method)
        request = ParseDict(step.get("request", {}), input_type())
        answers: list[Any] = []
        try:
            headers = self._headers(step.get("as", "alice"))
            answer = client(request, headers=headers, timeout_ms=CALL_SECONDS * 1000)
            for message in answer if streams else [answer]:
                answers.append(MessageToDict(message, preserving_proto_field_name=True))
                until = step.get("messages", {}).get("until")
                if until and not [*_compare("", until, answers[-1])]:
                    break
        except ConnectError as error:
            return Outcome(answers, error.code.value, error.message)
        return Outcome(answers)

    def _method(self, service: str, name: str) -> tuple[Any, Any, bool]:
        module, _, short = service.rpartition(".")
        if service not in self._clients:
            client = getattr(importlib.import_module(f"{module}_connect"), f"{short}ClientSync")
            self._clients[service] = client(self._target.url, http_client=self._http)
        file = importlib.import_module(f"{module}_pb2").DESCRIPTOR
        method = file.services_by_name[short].methods_by_name[name]
        python_name = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
        return (
            getattr(self._clients[service], python_name),
            GetMessageClass(method.input_type),
            method.server_streaming,
        )

    def _headers(self, person: str) -> dict[str, str]:
        if person == "nobody":
            return {}
        token = self._target.tokens.get(person) or f"of-nobody-{secrets.token_hex(8)}"
        return {"Authorization": f"Bearer {token}"}


def _compare_outcome(step: dict[str, Any], outcome: Outcome, kind: str) -> Iterator[str]:
    answers, error = outcome.answers, step.get("error")
    if isinstance(error, dict):
        error = error.get(kind)
    if outcome.code != error:
        yield different("code", error or "ok", str(outcome))
    if outcome.code is not None:
        return
    messages = step.get("messages", {})
    if messages.get("count", len(answers)) != len(answers):
        yield different("messages", messages["count"], len(answers))
    for which in messages.keys() & {"last", "until"}:
        yield from _compare(which, messages[which], answers[-1] if answers else None)
    if "any" in messages and all([*_compare("", messages["any"], got)] for got in answers):
        yield different("any", messages["any"], answers)
    for which in ("until", "answer"):
        if which in step:
            yield from _compare(which, step[which], answers[-1])


def _compare(where: str, expected: Any, got: Any) -> Iterator[str]:
    """Compare the expected fields: null is a field that is not set, /.../ a regular expression.

    For a list, ``contains`` and ``lacks`` can be given instead of all items.
    """
    if isinstance(expected, dict) and expected.keys() & {"contains", "lacks"}:
        for kind, wanted in (("contains", True), ("lacks", False)):
            for one in expected.get(kind, ()):
                if wanted != any(not list(_compare("", one, item)) for item in got or ()):
                    yield different(where, {kind: one}, got)
    elif isinstance(expected, dict) and isinstance(got, dict):
        for key, value in expected.items():
            yield from _compare(f"{where}.{key}", value, got.get(key))
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for index, (one, other) in enumerate(zip(expected, got, strict=True)):
            yield from _compare(f"{where}[{index}]", one, other)
    elif isinstance(expected, str) and expected.startswith("/") and expected.endswith("/"):
        if not (isinstance(got, str) and re.fullmatch(expected[1:-1], got, re.DOTALL)):
            yield different(where, expected, got)
    elif expected != got:
        yield different(where, expected, got)


def _filled(value: Any, variables: Mapping[str, object]) -> Any:
    """Replace ``${name}`` by variables."""
    if isinstance(value, dict):
        return {key: _filled(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, variables) for item in value]
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+)\}", lambda found: str(variables[found[1]]), value)
    return value


def _at(answer: Any, path: str) -> object:
    for key in path.split("."):
        try:
            answer = answer[int(key) if key.isdigit() else key]
        except (LookupError, TypeError):
            return None
    return answer
