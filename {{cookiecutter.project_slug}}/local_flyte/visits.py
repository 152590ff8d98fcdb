"""Sends requests of new users to the app, to find data that the app leaks to another caller.

For example, the new users ann and ben call an operation one after the other, on a new run of olga.
The app has leaked data if the response to ben contains data of ann that Flyte did not send in a
call for ben. Before ben calls, the local Flyte server has deleted the runs of ann.
"""

import json
import re
import secrets
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from . import LocalFlyte, Person, ReceivedCall
from .access import NEEDS_NO_RIGHT, is_change
from .fresh_app import FreshApp, fresh_app
from .hints import hint
from .operations import (
    DOCUMENTED,
    RUNS,
    Endpoints,
    ExampleError,
    Operation,
    is_stream,
    needs_object,
    tool_message,
)
from .testing import client_of

USUAL = ("cache-", "content-", "cross-", "date", "referrer-", "server", "x-content-", "x-request-")
"""Prefixes of response headers that failure messages omit."""


@dataclass(frozen=True)
class Exchange:
    """A request of a user, with the response, the calls to Flyte, and the output of the app."""

    operation: Operation
    way: str
    """Way to call the operation: ``endpoint`` or ``tool``."""
    user: Person
    response: httpx.Response
    calls: list[ReceivedCall]
    """Calls to Flyte."""
    output: str
    """Output and log of the app."""
    problems: list[str]
    """Problems of the work that the request has started."""
    runs: list[str]
    shared: frozenset[str] = frozenset()
    """Names of the fields of the response that callers may share."""

    @property
    def status(self) -> int:
        """The HTTP status. If a tool call failed, this is the status in the result of the tool."""
        problem = re.search(r'"isError":true', self.response.text)
        status = re.search(r'\\?"status\\?": ?(\d{3})', self.response.text)
        return int(status[1]) if problem and status else self.response.status_code

    @property
    def call_counts(self) -> Counter[str]:
        """Number of requests to Flyte, by method. Requests with equal content count once."""
        assert all(call.messages for call in self.calls), "Flyte has recorded no messages"
        requests = {(call.method, str(call.messages[0])) for call in self.calls}
        return Counter(method for method, _ in requests)

    @property
    def changes(self) -> list[str]:
        """Methods of calls that change something in Flyte, such as ``CreateRun``."""
        return [call.method for call in self.calls if is_change(call.method)]

    @property
    def is_stream(self) -> bool:
        return is_stream(self.response)

    @property
    def needs_rights(self) -> bool:
        return any(call.method not in NEEDS_NO_RIGHT for call in self.calls)

    @property
    def received(self) -> str:
        """The messages of the calls to Flyte in lower case, with a general name of the user."""
        messages = "".join(str(message) for call in self.calls for message in call.messages)
        return messages.lower().replace(self.user.name, "user")

    @property
    def text(self) -> str:
        """The text of the response without the shared fields."""
        if not self.shared:
            return self.response.text
        try:
            return json.dumps(_without(self.response.json(), self.shared))
        except ValueError:
            return self.response.text

    @property
    def own_text(self) -> str:
        """The text of the response without the shared fields, with a general name of the user."""
        return re.sub(self.user.name, "user", self.text, flags=re.IGNORECASE)

    def leak_of(self, other: "Exchange") -> str | None:
        """Return a description of the leak, or None if there is no leak.

        A leak is data of the other user that Flyte did not send to this user, or a call to Flyte
        with another user's credentials.
        """
        if any(call.person not in {None, self.user} for call in self.calls):
            return f"Flyte gets a call for {self.user.name} with the credentials of another user"
        user = other.user
        data = {"subject": user.subject, "token": user.token, "name": user.name}
        data |= {f"run {name}": name for name in other.runs}
        received = "".join(str(message) for call in self.calls for message in call.messages).lower()
        headers = "\n".join(map(": ".join, self.response.headers.items()))
        places = {"response": self.text, "response header": headers, "log": self.output}
        for place, text in places.items():
            for kind, value in data.items():
                if value.lower() in text.lower() and value.lower() not in received:
                    return f"{self.user.name}'s {place} contains {user.name}'s {kind}"
        return None

    def __str__(self) -> str:
        """Return the calls, the response and the output. Omit headers that all responses have."""
        calls = ", ".join(call.method for call in self.calls) or "none"
        own = [pair for pair in self.response.headers.items() if not pair[0].startswith(USUAL)]
        title = f"{self.user.name}, calls to Flyte: {calls}\n{self.status} "
        headers = "\n".join(map(": ".join, own))
        return f"{title}{headers}\n{self.response.text[:2000]}\n{self.output[:2000]}"


def _without(value: Any, fields: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(one, fields) for key, one in value.items() if key not in fields}
    return [_without(one, fields) for one in value] if isinstance(value, list) else value


@dataclass
class Visits:
    """Creates users, and calls one new process of the app as these users."""

    app: FreshApp
    flyte: LocalFlyte
    endpoints: Endpoints
    tools: set[str]
    _exchanges: dict[tuple[Operation, str], list[Exchange]] = field(default_factory=dict)

    def ways(self, operation: Operation) -> list[str]:
        """Return the ways to call an operation: as an endpoint, and as a tool if there is one."""
        is_tool = DOCUMENTED.get(operation, {}).get("operationId") in self.tools
        return ["endpoint", "tool"] if is_tool else ["endpoint"]

    def private_ways(self, operation: Operation) -> list[str]:
        """Return the quick ways to call an operation whose data callers may not share."""
        return self.quick_ways(operation) if self.endpoints.is_private(operation) else []

    def quick_ways(self, operation: Operation) -> list[str]:
        """Return the ways to call an operation, except the tool of a stream.

        The result of this tool has the same events as the stream, but comes seconds later.
        """
        is_stream = self.first(operation, "endpoint").is_stream
        return ["endpoint"] if is_stream else self.ways(operation)

    def first(self, operation: Operation, way: str) -> Exchange:
        """Return the first exchange of an operation since the app's process started."""
        is_tool_of_stream = way == "tool" and self.first(operation, "endpoint").is_stream
        return self._visit_in_turn(
            operation, way, ["ann"] if is_tool_of_stream else ["ann", "ben"]
        )[0]

    def one_after_another(self, operation: Operation, way: str) -> tuple[Exchange, Exchange]:
        """Return the first two exchanges of an operation. During each, the user owns a run."""
        first, second = self._visit_in_turn(operation, way, ["ann", "ben"])
        return first, second

    def _visit_in_turn(self, operation: Operation, way: str, names: list[str]) -> list[Exchange]:
        if (operation, way) not in self._exchanges:
            # A cache by display name mixes up users with the same name.
            ann = self.add_user("ann")
            users = [ann, self.add_user("ben", like=ann)][: len(names)]
            with self.example_run() as run:
                exchanges = [self._visit(user, run, operation, way) for user in users]
            self._exchanges[operation, way] = exchanges
        return self._exchanges[operation, way]

    def has_called(self, operation: Operation) -> bool:
        """Return whether a test has called an operation."""
        return (operation, "endpoint") in self._exchanges

    def failure_of(self, operation: Operation) -> str | None:
        """Return a message if a request of a user with rights does not succeed; otherwise None."""
        earlier: list[Exchange] = []
        for way in self.ways(operation):
            try:
                exchange = self.first(operation, way)
            except ExampleError as error:
                return str(error)
            if problem := self.problem_of(exchange):
                for one in earlier:
                    if leak := exchange.leak_of(one):
                        title = f"{' '.join(operation)}: {leak}, and the request fails."
                        return "\n\n".join([title, str(one), str(exchange)])
                return problem
            earlier.append(exchange)
        return None

    def problem_of(self, exchange: Exchange) -> str | None:
        """Return a message if the response is not the expected success; otherwise None."""
        operation, status = exchange.operation, exchange.status
        if self.endpoints.is_expected(operation, status):
            return None
        example = self.endpoints.example(operation)
        return hint(operation, example, status, exchange.response, exchange.way)

    def without_rights(self, operation: Operation, way: str) -> tuple[Exchange, Exchange]:
        """Call as a user with rights, and then as carol. Carol has no rights on the project."""
        user, carol = self.add_user("ann"), self.flyte.people["carol"]
        with self.example_run() as run:
            endpoints = self.prepare(user, run, operation)
            exchange = self.send(user, endpoints, operation, way)
            run.copy(operation)
            return exchange, self.send(carol, endpoints, operation, way)

    def with_cookie(self, operation: Operation) -> Exchange:
        """Call as a user whose browser also sends cookies that are not for Flyte."""
        user = self.add_user("bea")
        with self.example_run() as run:
            cookie = f"theme=dark; {user.cookie}; flyte_rt=refresh"
            return self._visit(user, run, operation, "endpoint", {"Cookie": cookie})

    def at_the_same_time(self, operation: Operation, way: str) -> tuple[Exchange, Exchange]:
        """Call as two users. Flyte holds each user's n-th call until both have made n calls."""
        users = self.add_user("cleo"), self.add_user("dan")
        with self.example_run() as run:
            prepared = [self.prepare(user, run, operation) for user in users]
            with self.flyte.lockstep(*(user.name for user in users)) as leave:

                def call(user: Person, endpoints: Endpoints) -> Exchange:
                    try:
                        return self.send(user, endpoints, operation, way)
                    finally:
                        leave(user.name)

                with ThreadPoolExecutor(2) as threads:
                    first, second = threads.map(call, users, prepared)
        return first, second

    def all_operations(self, operations: Sequence[Operation]) -> list[tuple[Exchange, Exchange]]:
        """Call all operations as three users, one after the other; the third in reverse order.

        Each user calls GET operations first, because other operations may replace data that leaks.
        The first user also calls GET operations at the end, because a cache may then keep new data.

        Returns:
            For each operation, a pair of the first and the second user's exchanges, and a pair of
            the second and the third user's.
        """
        reading = [one for one in operations if one[0] == "GET"]
        writing = sorted((one for one in operations if one[0] != "GET"), key=_place_of_method)
        order, backwards = [*reading, *writing], [*reading[::-1], *writing[::-1]]
        rounds: list[dict[Operation, Exchange]] = []
        for name, called in (("eva", order + reading), ("finn", order), ("gus", backwards)):
            user = self.add_user(name)
            with self.example_run() as run:
                exchanges = {one: self._visit(user, run, one, "endpoint") for one in called}
            rounds.append(exchanges)
        pairs = []
        for before, after in pairwise(rounds):
            runs = [name for exchange in before.values() for name in exchange.runs]
            pairs += [(replace(before[one], runs=runs), after[one]) for one in order]
        return pairs

    def readings(self, operations: Sequence[Operation]) -> dict[Operation, Exchange]:
        """Call the GET operations whose examples need no object, as a new user who owns nothing."""
        user = self.add_user("noa")
        exchanges = {}
        with self.example_run() as run:
            for one in operations:
                example = {**self.endpoints.example(one)}
                example.pop("before", None)
                if one[0] == "GET" and not needs_object(example) and "only" not in example:
                    endpoints = run.endpoints(one)
                    run.copy(one)
                    exchanges[one] = self.send(user, endpoints, one, "endpoint")
        return exchanges

    @contextmanager
    def new_user(self, name: str) -> Iterator[tuple[Person, "ExampleRun"]]:
        """Yield a user, whose runs are deleted at the end, and the run of the examples."""
        user = self.add_user(name)
        with self.example_run() as run:
            yield user, run
        self.flyte.delete_runs(user)

    def add_user(self, name: str, like: Person | None = None) -> Person:
        """Add a user who may view and run, with a new name that begins with ``name``."""
        return self.flyte.add_person(f"{name}-{secrets.token_hex(4)}", like)

    @contextmanager
    def example_run(self) -> Iterator["ExampleRun"]:
        """Yield a new run. The run owner, olga, makes no calls."""
        owner = self.add_user("olga")
        yield ExampleRun(self.flyte, self.endpoints, owner)
        self.flyte.delete_runs(owner)

    def _visit(
        self,
        user: Person,
        run: "ExampleRun",
        operation: Operation,
        way: str,
        headers: Mapping[str, str] | None = None,
    ) -> Exchange:
        return self.send(user, self.prepare(user, run, operation), operation, way, headers)

    def prepare(
        self,
        user: Person,
        run: "ExampleRun",
        operation: Operation,
        path: Mapping[str, Any] | None = None,
    ) -> Endpoints:
        """Give a user a run and the objects of an example; return endpoints with their names.

        Args:
            user: The user who will send the request.
            run: The run in the path of the request.
            operation: The operation.
            path: Values of path parameters that replace those of the example.
        """
        run.copy(operation)
        name = f"run-{secrets.token_hex(4)}"
        self.flyte.copy_run(self.endpoints.targets["ended"].run, name, user)
        with self.client(user) as client:
            endpoints = run.endpoints(operation).with_path(operation, path or {})
            return endpoints.prepared(operation, client, user.name)

    def client(self, user: Person) -> httpx.Client:
        """Return an HTTP client of the app with the token of a user."""
        client = client_of(self.app.url, None)
        client.headers["Authorization"] = f"Bearer {user.token}"
        return client

    def send(
        self,
        user: Person,
        endpoints: Endpoints,
        operation: Operation,
        way: str,
        headers: Mapping[str, str] | None = None,
        *,
        keeps_runs: bool = False,
    ) -> Exchange:
        """Call an operation, and delete the runs of the user unless ``keeps_runs``."""
        request_id = secrets.token_hex(8)
        call = endpoints.call_tool if way == "tool" else endpoints.call
        if not headers:  # with cookies, a cache by the header Authorization mixes up all users
            bearer = {"Authorization": f"Bearer {user.token}"}
            headers = {"Cookie": user.cookie} if way == "tool" else bearer
        with client_of(self.app.url, None) as client:
            response = call(client, operation, **headers, **{"X-Request-ID": request_id})
        work = self.app.work(request_id)
        every = self.flyte.calls
        calls = [call for call in every if call.headers.get("x-request-id") == request_id]
        runs = [] if keeps_runs else self.flyte.delete_runs(user)
        shared = endpoints.shared_fields(operation)
        output, problems = work.output, work.problems
        return Exchange(operation, way, user, response, calls, output, problems, runs, shared)


class ExampleRun:
    """The run in the paths of example requests. It is a copy of an existing run."""

    def __init__(self, flyte: LocalFlyte, endpoints: Endpoints, owner: Person) -> None:
        self._flyte, self._endpoints, self._owner = flyte, endpoints, owner
        self._name = f"run-{secrets.token_hex(4)}"

    def copy(self, operation: Operation) -> None:
        """Replace the run by a new copy, because an earlier request may have aborted the run."""
        self._flyte.copy_run(self._endpoints.target(operation).run, self._name, self._owner)

    def endpoints(self, operation: Operation) -> Endpoints:
        """Return the endpoints with the name of this run in the paths."""
        target = replace(self._endpoints.target(operation), run=self._name)
        return replace(self._endpoints, targets=dict.fromkeys(RUNS, target))


def _place_of_method(operation: Operation) -> int:
    """Return the place of a request in the order of requests of one user."""
    return ["POST", "PUT", "PATCH", "DELETE"].index(operation[0])


@contextmanager
def visits(
    folder: Path, flyte: LocalFlyte, endpoints: Endpoints, environment: Mapping[str, str]
) -> Iterator[Visits]:
    """Serve the project in ``folder`` inside the block, and yield `Visits`.

    ``environment`` contains further variables of the app's process.
    """
    with (
        flyte.kept_messages(),
        flyte.shared_executions(),
        fresh_app(folder, environment) as app,
        client_of(app.url, "alice") as alice,
    ):
        tools = alice.post("/mcp", **tool_message("tools/list"))
        listed = tools.json()["result"]["tools"] if tools.is_success else []
        yield Visits(app, flyte, endpoints, {tool["name"] for tool in listed})
