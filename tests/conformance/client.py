"""Clients of a Flyte, which use only the stubs of the SDK."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pytest
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext
from flyte.config import Config, auto
from flyteidl2.auth.identity_connect import IdentityServiceClientSync
from flyteidl2.cluster.service_connect import ClusterServiceClientSync
from flyteidl2.common.identifier_pb2 import ActionIdentifier, ProjectIdentifier, RunIdentifier
from flyteidl2.common.list_pb2 import Filter, ListRequest
from flyteidl2.common.phase_pb2 import ActionPhase
from flyteidl2.core.literals_pb2 import Literal, Primitive, Scalar
from flyteidl2.dataproxy import dataproxy_service_pb2 as data
from flyteidl2.dataproxy.dataproxy_service_connect import DataProxyServiceClientSync
from flyteidl2.project.project_service_connect import ProjectServiceClientSync
from flyteidl2.task.common_pb2 import Inputs, NamedLiteral
from flyteidl2.task.task_definition_pb2 import TaskIdentifier
from flyteidl2.task.task_service_connect import TaskServiceClientSync
from flyteidl2.workflow import run_definition_pb2 as definitions
from flyteidl2.workflow import run_service_pb2 as runs
from flyteidl2.workflow.run_definition_pb2 import Action, ActionDetails
from flyteidl2.workflow.run_service_connect import RunServiceClientSync
from google.protobuf.message import Message
from pyqwest import SyncClient, SyncHTTPTransport

CALL_MILLISECONDS = 60_000
WAIT_SECONDS, POLL_SECONDS = 300, 0.05

T = TypeVar("T")


@dataclass(frozen=True)
class Flyte:
    """A Flyte, and the project in it where the cases run."""

    file: Path
    """Config file of the ``flyte`` command; its user deploys the tasks."""
    kind: str
    tokens: Mapping[str, str] = field(repr=False)
    """Tokens by user name: alice, bob, victor, carol, expired."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables for the ``flyte`` command."""

    @cached_property
    def _config(self) -> Config:
        return auto(self.file)

    @property
    def url(self) -> str:
        scheme = "http" if self._config.platform.insecure else "https"
        host = (self._config.platform.endpoint or "").rstrip("/").rpartition("/")[2]
        return f"{scheme}://{host}"

    @cached_property
    def http(self) -> SyncClient:
        """HTTP client of all users; trusts the authority of the config, or those of the system."""
        file = self._config.platform.ca_cert_file_path
        trusted = Path(file).read_bytes() if file else None
        return SyncClient(
            SyncHTTPTransport(tls_ca_cert=trusted, tls_include_system_certs=trusted is None)
        )

    @property
    def project(self) -> str:
        return self._config.task.project or ""

    @property
    def place(self) -> dict[str, str]:
        """Common fields of identifiers of runs and tasks."""
        of = self._config.task
        return {"org": of.org or "", "project": self.project, "domain": of.domain or ""}

    @property
    def scope(self) -> ProjectIdentifier:
        org, project, domain = self.place.values()
        return ProjectIdentifier(organization=org, name=project, domain=domain)

    @cached_property
    def version(self) -> str:
        """Version of the tasks in ``tasks.py``. The first access deploys them."""
        version = secrets.token_hex(8)
        program = Path(sys.executable).with_name("flyte")
        result = subprocess.run(
            [program, "-c", self.file, "deploy", "--version", version, "tasks.py", "env"],
            cwd=Path(__file__).parent,
            env={**os.environ, **self.variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        # The SDK's HTTP client sometimes aborts the process while Python exits.
        if result.returncode not in {0, -signal.SIGABRT}:
            raise ValueError(f"The tasks of the cases cannot be deployed:\n{result.stdout}")
        return version

    def task(self, name: str) -> TaskIdentifier:
        return TaskIdentifier(**self.place, name=f"conformance.{name}", version=self.version)

    def run(self, name: str) -> RunIdentifier:
        return RunIdentifier(**self.place, name=name)

    def until(self, ask: Callable[[], T], expected: Callable[[T], object] = bool) -> T:
        """Call ``ask`` until the result is as expected; return it, or fail after a timeout."""
        __tracebackhide__ = True
        deadline = time.monotonic() + WAIT_SECONDS
        while not expected(result := ask()):
            if time.monotonic() > deadline:
                pytest.fail(f"not as expected after {WAIT_SECONDS} seconds: {result}")
            time.sleep(POLL_SECONDS)
        return result


@dataclass(frozen=True)
class _Credentials:
    token: str = field(repr=False)

    def on_start_sync(self, ctx: RequestContext[Any, Any]) -> None:
        ctx.request_headers()["authorization"] = f"Bearer {self.token}"

    def on_end_sync(self, token: None, ctx: object, error: Exception | None) -> None:
        pass


class Person:
    """A user who calls a Flyte with a token, or an anonymous caller."""

    def __init__(self, flyte: Flyte, token: str | None) -> None:
        options: dict[str, Any] = {
            "timeout_ms": CALL_MILLISECONDS,
            "http_client": flyte.http,
            "interceptors": [_Credentials(token)] if token else [],
        }
        self.flyte = flyte
        self.clusters = ClusterServiceClientSync(flyte.url, **options)
        self.data = DataProxyServiceClientSync(flyte.url, **options)
        self.identity = IdentityServiceClientSync(flyte.url, **options)
        self.projects = ProjectServiceClientSync(flyte.url, **options)
        self.runs = RunServiceClientSync(flyte.url, **options)
        self.tasks = TaskServiceClientSync(flyte.url, **options)
        self.started: list[RunIdentifier] = []

    def start(self, task: str, **values: int | float | str) -> RunIdentifier:
        scope = self.flyte.scope
        return self.create(project_id=scope, task_id=self.flyte.task(task), inputs=inputs(**values))

    def create(self, **request: Any) -> RunIdentifier:
        response = self.runs.create_run(runs.CreateRunRequest(**request))
        self.started.append(self.flyte.run(response.run.action.id.run.name))
        return self.started[-1]

    def abort(self, run: RunIdentifier, reason: str | None = None) -> None:
        self.runs.abort_run(runs.AbortRunRequest(run_id=run, reason=reason))

    def details(self, run: RunIdentifier) -> definitions.RunDetails:
        return self.runs.get_run_details(runs.GetRunDetailsRequest(run_id=run)).details

    def action(self, run: RunIdentifier, name: str = "a0") -> ActionDetails:
        request = runs.GetActionDetailsRequest(action_id=ActionIdentifier(run=run, name=name))
        return self.runs.get_action_details(request).details

    def until(self, phase: str, run: RunIdentifier, name: str = "a0") -> ActionDetails:
        """Wait until an action and its last attempt are in a phase; return the action."""
        return self.flyte.until(
            lambda: self.action(run, name),
            lambda action: {phase_of(action), *map(phase_of, action.attempts[-1:])} == {phase},
        )

    def actions(self, run: RunIdentifier, *filters: Filter) -> list[Action]:
        oldest_first = {"key": "created_at", "direction": "ASCENDING"}
        page = ListRequest(sort_by=oldest_first, filters=filters)
        return [*self.runs.list_actions(runs.ListActionsRequest(run_id=run, request=page)).actions]

    def child(self, run: RunIdentifier) -> Action:
        """Return the only child action. It may be the first one, because start times are equal."""
        (child,) = (action for action in self.actions(run) if action.id.name != "a0")
        return child

    def list_runs(
        self, *filters: Filter, paused_actions_only: bool = False, **page: Any
    ) -> tuple[list[Action], str]:
        """Return the first actions of a page of runs, and the token of the next page."""
        list_request = ListRequest(filters=filters, **page)
        request = runs.ListRunsRequest(project_id=self.flyte.scope, request=list_request)
        request.paused_actions_only = paused_actions_only
        response = self.runs.list_runs(request)
        return [run.action for run in response.runs], response.token

    def watch(self, run: RunIdentifier) -> Iterator[ActionDetails]:
        action = ActionIdentifier(run=run, name="a0")
        request = runs.WatchActionDetailsRequest(action_id=action)
        return (message.details for message in self.runs.watch_action_details(request))

    def watch_all(self, run: RunIdentifier) -> Iterator[dict[str, definitions.EnrichedAction]]:
        """Yield all actions of a run by name, after each message."""
        actions: dict[str, definitions.EnrichedAction] = {}
        for message in self.runs.watch_actions(runs.WatchActionsRequest(run_id=run)):
            actions |= {enriched.action.id.name: enriched for enriched in message.enriched_actions}
            yield actions

    def values(self, run: RunIdentifier, name: str = "a0") -> data.GetActionDataResponse:
        action = ActionIdentifier(run=run, name=name)
        return self.data.get_action_data(data.GetActionDataRequest(action_id=action))

    def log(self, run: RunIdentifier, attempt: int = 1) -> str:
        action = ActionIdentifier(run=run, name="a0")
        messages = self.data.tail_logs(data.TailLogsRequest(action_id=action, attempt=attempt))
        logs = [log for message in messages for log in message.logs]
        return "".join(line.message for log in logs for line in log.lines)


def phase_of(
    item: Action | ActionDetails | definitions.ActionAttempt | definitions.PhaseTransition,
) -> str:
    phase = item.status.phase if isinstance(item, Action | ActionDetails) else item.phase
    return ActionPhase.Name(phase).removeprefix("ACTION_PHASE_")


def fields(message: Message) -> set[str]:
    return {descriptor.name for descriptor, _ in message.ListFields()}


def literal(value: int | float | str) -> Literal:
    kind = {int: "integer", float: "float_value", str: "string_value"}[type(value)]
    primitive: dict[str, Any] = {kind: value}
    return Literal(scalar=Scalar(primitive=Primitive(**primitive)))


def inputs(**values: int | float | str) -> Inputs:
    return Inputs(literals=[NamedLiteral(name=k, value=literal(v)) for k, v in values.items()])


def where(field: str, *values: str, function: str = "EQUAL") -> Filter:
    return Filter(function=function, field=field, values=values)


def code_of(call: Callable[..., object], *arguments: object, **options: object) -> str:
    """Make a call, and return "ok" or the code of the error, such as "not_found"."""
    try:
        call(*arguments, **options)
    except ConnectError as error:
        print(error.code.value, error.message)  # pytest shows it if a test fails
        return error.code.value
    return "ok"
