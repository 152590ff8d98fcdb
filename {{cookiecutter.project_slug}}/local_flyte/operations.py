"""The operations of the app, and example requests for them."""

import re
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import httpx
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, Match, Mount

from app.main import app
from passthrough.http.middleware import is_public

Operation = tuple[str, str]
"""Method and path, as in the OpenAPI document."""
Example = Mapping[str, Any]
"""An example request, with any of the keys in `KEYS`.

A value inside an example may be a function of an HTTP client of the user who sends the request. The
function creates an object of this user, and returns its identifier, for example."""

HTTPX_ARGUMENTS = {"json", "params", "content", "data", "files"}
KEYS = {
    **dict.fromkeys(HTTPX_ARGUMENTS, "an argument of httpx: body, query, file or form"),
    "headers": "headers of the request, without credentials",
    "cookies": "cookies of the request, without credentials",
    "path": "a mapping of path parameters to values, or the whole path",
    "run": "the run in the path: `ended` (default), or `running`, with a condition that waits",
    "status": "the only accepted status of the response, such as 202",
    "before": "a function of the client, such as one that creates an object or gives a role",
    "only": "who may send the request, if the user needs a role",
    "shared": "the reason why callers may get each other's data, or reasons by field",
    "untested": "the reason why a test cannot execute the endpoint",
}
"""Maps each key of an example to its meaning."""
RUNS = ("ended", "running")

PUBLIC = app.public

DOCUMENTED: dict[Operation, dict[str, Any]] = {
    (method.upper(), path): operation
    for path, operations in app.openapi()["paths"].items()
    for method, operation in operations.items()
    if path not in PUBLIC
}
"""Maps each operation that needs credentials to its documentation in the OpenAPI document."""
STREAMS = [
    operation
    for operation, described in DOCUMENTED.items()
    if "text/event-stream" in described["responses"].get("200", {}).get("content", {})
]
_PARAMETERLESS = [
    described["operationId"]
    for (method, path), described in DOCUMENTED.items()
    if method == "GET" and "{" not in path
]


def has_route(method: str, path: str) -> bool:
    """Return whether the app has an endpoint for a method and a path."""
    scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
    return any(route.matches(scope)[0] is Match.FULL for route in app.routes)


AGENTS = ("POST", "/mcp")


def tool_message(method: str, **params: Any) -> dict[str, Any]:
    """Return the body of a request to `AGENTS`."""
    return {"json": {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}}


EXAMPLES = {AGENTS: tool_message("tools/call", name="".join(_PARAMETERLESS[:1]))}
"""Default example requests, which the examples of a project replace."""


def operations_of(examples: Collection[Operation] = ()) -> list[Operation]:
    """Return every operation that needs credentials, also outside the OpenAPI document.

    Args:
        examples: The operations that have an example. An example for ``("GET", "/ui/{path}")``
            stands for all operations of the app that is mounted at ``/ui``.
    """
    found = dict.fromkeys(DOCUMENTED) | dict.fromkeys(_routed(app.routes, "", examples))
    private = [operation for operation in found if not _is_public(operation)]
    return [one for one in private if one != AGENTS or _PARAMETERLESS]


def _is_public(operation: Operation) -> bool:
    return is_public(operation[1], PUBLIC)


def _routed(
    routes: Iterable[BaseRoute], prefix: str, examples: Collection[Operation]
) -> Iterator[Operation]:
    for route in iter_route_contexts([*routes]):
        original, path = route.original_route, f"{prefix}{route.path or ''}"
        if isinstance(original, Mount):
            mounted = ("GET", path + "/{path}")
            if original.routes and mounted not in examples:
                yield from _routed(original.routes, path, examples)
            else:
                yield mounted
        elif methods := route.methods:  # a WebSocket has no methods, and the app refuses it
            path = f"{prefix}{route.path_format}"
            yield from ((method, path) for method in sorted(methods - {"HEAD", "OPTIONS"}))


PUBLIC_OPERATIONS = [
    operation
    for operation in dict.fromkeys(_routed(app.routes, "", ()))
    if _is_public(operation) and "{" not in operation[1]
]
"""Every operation that needs no credentials, except paths with parameters, such as files."""


def check_examples(examples: Mapping[Operation, Example]) -> None:
    """Raise ValueError for an example that has an unknown key, or credentials."""
    settings = app.settings
    secret = {"authorization", "cookie", settings.token_header, *settings.credential_headers}
    secret |= {*(settings.cookie_names or ())}
    for operation, example in examples.items():
        title = f"EXAMPLES[{operation!r}]"
        for key in example.keys() - KEYS:
            near = "".join(f"; did you mean {one!r}?" for one in get_close_matches(key, KEYS, 1))
            raise ValueError(f"{title} has the unknown key {key!r}{near or f': use {[*KEYS]}'}")
        for name in {**example.get("headers", {}), **example.get("cookies", {})}:
            if name.lower() in {str(one).lower() for one in secret}:
                raise ValueError(f"{title}: omit {name!r}, because tests send their credentials")
        if example.get("run", "ended") not in RUNS:
            raise ValueError(f"{title}: 'run' must be one of {RUNS}, not {example['run']!r}")
        if example.get("status", 200) >= 400:
            raise ValueError(
                f"{title}: after an error, the tests would know nothing about the endpoint. Change"
                " the example so that the request succeeds, or use 'untested' with the reason"
            )


class ExampleError(Exception):
    """A function inside an example has failed."""


def needs_object(example: Example) -> bool:
    """Return whether the request of an example contains an object of the user."""
    return any(map(_has_function, (value for key, value in example.items() if key != "before")))


def _has_function(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_function, value.values()))
    return any(map(_has_function, value)) if isinstance(value, list | tuple) else callable(value)


def _with_results(value: Any, call: Callable[[Callable[..., Any]], Any]) -> Any:
    """Replace each function inside a value by the result of the function."""
    if isinstance(value, Mapping):
        return {key: _with_results(one, call) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_with_results(one, call) for one in value)
    return call(value) if callable(value) else value


@dataclass(frozen=True)
class Target:
    """The names in Flyte that the path of an example request contains."""

    run: str
    action: str
    """An action of the run. In a run of the kind ``running``, a condition that waits."""
    task: str
    """The task that the run executes."""


@dataclass(frozen=True)
class Endpoints:
    """The app's endpoints with example requests."""

    examples: Mapping[Operation, Example]
    targets: Mapping[str, Target]
    """Objects in Flyte, by the kind of run (`RUNS`)."""

    def example(self, operation: Operation) -> Example:
        return self.examples.get(operation, {})

    def prepared(self, operation: Operation, client: httpx.Client, user: str) -> "Endpoints":
        """Call the functions inside an example, and return endpoints with their results.

        Raises:
            ExampleError: A function has failed. The message contains the line of the developer.
        """

        def call(function: Callable[[httpx.Client], Any]) -> Any:
            try:
                return function(client)
            except Exception as error:
                name = getattr(function, "__name__", "a function")
                title = f"EXAMPLES[{operation!r}]: {name} failed for {user}"
                raise ExampleError(f"{title}{_cause(function, error)}") from error

        example = {**self.example(operation)}
        if before := example.pop("before", None):
            call(before)
        example = _with_results(example, call)
        return replace(self, examples={**self.examples, operation: example})

    def without_functions(self, operation: Operation) -> "Endpoints":
        """Return endpoints with a text instead of each function inside an example."""
        example = _with_results({**self.example(operation), "before": None}, lambda _: "any")
        return replace(self, examples={**self.examples, operation: example})

    def with_path(self, operation: Operation, path: Mapping[str, Any]) -> "Endpoints":
        """Return endpoints with other values of the path parameters."""
        given = self.example(operation).get("path", {})
        names = re.findall(r"{(\w+)}", operation[1])
        same = {name: path[name] for name in names if name in path}
        if not same or isinstance(given, str):
            return self
        example = {**self.example(operation), "path": {**given, **same}}
        return replace(self, examples={**self.examples, operation: example})

    def is_shared(self, operation: Operation) -> bool:
        """Return whether all callers may get each other's whole response."""
        return isinstance(self.example(operation).get("shared"), str)

    def is_private(self, operation: Operation) -> bool:
        """Return whether no caller may get data of another caller. Users with a role may."""
        return not self.is_shared(operation) and "only" not in self.example(operation)

    def shared_fields(self, operation: Operation) -> frozenset[str]:
        """Return the fields of a response that all callers may get."""
        shared = self.example(operation).get("shared", {})
        return frozenset(shared if isinstance(shared, Mapping) else ())

    def target(self, operation: Operation) -> Target:
        """Return the objects that the example request needs."""
        return self.targets[self.example(operation).get("run", "ended")]

    def path(self, operation: Operation) -> str:
        """Return the path, with values instead of parameters."""
        given = self.example(operation).get("path", {})
        if isinstance(given, str):
            return given
        return re.sub(r"{(\w+)}", lambda match: self._value(operation, match, given), operation[1])

    def _value(self, operation: Operation, match: re.Match[str], given: Mapping[str, Any]) -> str:
        """Return the value of a path parameter: by default, a name of the kind that fits."""
        name, target = match[1], self.target(operation)
        words = {operation[1][: match.start()].rstrip("/").rpartition("/")[2], f"{name}s"}
        if words & {"actions", "conditions"}:
            default = target.action
        else:
            default = target.task if "tasks" in words else target.run
        return str(given.get(name, default))

    def is_expected(self, operation: Operation, status: int) -> bool:
        """Return whether the status is the one of the example: by default, any success."""
        return status == self.example(operation).get("status", status) and status < 400

    def arguments(self, operation: Operation, headers: Mapping[str, str]) -> dict[str, Any]:
        """Return the arguments of httpx for the example request, with further headers."""
        example = self.example(operation)
        arguments = {name: example[name] for name in HTTPX_ARGUMENTS & example.keys()}
        arguments["headers"] = self.headers(operation, headers)
        return arguments

    def headers(self, operation: Operation, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the headers and cookies of the example, with further headers."""
        example = self.example(operation)
        cookies = [f"{name}={value}" for name, value in example.get("cookies", {}).items()]
        cookies += [headers["Cookie"]] if "Cookie" in headers else []
        cookie = {"Cookie": "; ".join(cookies)} if cookies else {}
        return {**example.get("headers", {}), **headers, **cookie}

    def call(self, client: httpx.Client, operation: Operation, **headers: str) -> httpx.Response:
        """Call an operation. If the response is a stream, read only the first chunk."""
        arguments = self.arguments(operation, headers)
        if operation[0] != "GET" and not arguments.keys() - {"params", "headers"}:
            arguments["json"] = {}
        with client.stream(operation[0], self.path(operation), **arguments) as response:
            content = next(response.iter_bytes(), b"") if is_stream(response) else response.read()
            return httpx.Response(response.status_code, headers=response.headers, content=content)

    def call_tool(
        self, client: httpx.Client, operation: Operation, **headers: str
    ) -> httpx.Response:
        """Call the tool of an operation, with the arguments of the operation's example."""
        example = self.example(operation)
        template = re.sub(r"{(\w+)}", r"(?P<\1>.+)", operation[1])
        match = re.fullmatch(template, self.path(operation))
        arguments = (match.groupdict() if match else {}) | dict(example.get("params", {}))
        arguments = {name.replace("-", "_"): value for name, value in arguments.items()}
        if "content" in example:
            arguments["body"] = example["content"].decode()
        elif "json" in example:
            arguments["body"] = example["json"]
        name = DOCUMENTED[operation]["operationId"]
        message = tool_message("tools/call", name=name, arguments=arguments)
        return client.post("/mcp", headers=self.headers(operation, headers), **message)


def _cause(function: Callable[..., Any], error: Exception) -> str:
    """Return the line in the file of a function that has failed, the error, and its response."""
    code = getattr(function, "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [one for one in frames if code and one.filename == code.co_filename]
    place = "".join(f" in {one.filename}:{one.lineno} ({one.line})" for one in lines[-1:])
    body = f"\n{error.response.text[:1000]}" if isinstance(error, httpx.HTTPStatusError) else ""
    return f"{place}: {type(error).__name__}: {error}{body}"


def is_stream(response: httpx.Response) -> bool:
    """Return whether a response is a stream of server-sent events."""
    return bool(response.headers.get("Content-Type", "").startswith("text/event-stream"))
