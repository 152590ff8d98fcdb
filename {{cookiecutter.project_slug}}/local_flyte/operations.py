"""The operations of the app's OpenAPI document, and functions to call the operations."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.routing import Match

from app.main import app

Operation = tuple[str, str]
"""Method and path, as in the OpenAPI document."""
Example = Mapping[str, Any]
"""An example request. The keys ``json``, ``params``, ``content`` (for a file), and ``data`` and
``files`` (for a form) are arguments of httpx. ``path`` replaces the path of the operation. The
response must be a success or have the status ``status``. If callers may get each other's data,
``shared`` contains the reason."""
HTTPX_ARGUMENTS = {"json", "params", "content", "data", "files"}

PUBLIC = app.public

DOCUMENTED = {
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
OPERATIONS = [*DOCUMENTED, *([AGENTS] if _PARAMETERLESS and has_route(*AGENTS) else [])]
"""Every operation that needs credentials."""
READING = [operation for operation in OPERATIONS if operation[0] == "GET"]


def tool_message(method: str, **params: Any) -> dict[str, Any]:
    """Return the body of a request to `AGENTS`."""
    return {"json": {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}}


EXAMPLES = {AGENTS: tool_message("tools/call", name="".join(_PARAMETERLESS[:1]))}
"""Default example requests, which the examples of a project replace."""


@dataclass(frozen=True)
class Endpoints:
    """The app's endpoints with example requests."""

    examples: Mapping[Operation, Example]
    run: str
    """Name of an existing run, for paths that contain the name of a run."""
    task: str | None
    """Name of the task that ``run`` executes."""

    def path(self, operation: Operation) -> str:
        """Return the path with the name of an existing run or task instead of the parameter."""
        name = self.task if operation[1].startswith("/tasks") else self.run
        filled = re.sub(r"{\w+}", str(name), operation[1])
        return str(self.examples.get(operation, {}).get("path", filled))

    def is_expected(self, operation: Operation, response: httpx.Response) -> bool:
        """Return whether the response is a success, or has the status that the example expects."""
        status = self.examples.get(operation, {}).get("status")
        return response.is_success or response.status_code == status

    def call(self, client: httpx.Client, operation: Operation, **headers: str) -> httpx.Response:
        """Call an operation. If the response is a stream, read only the first chunk."""
        example = self.examples.get(operation, {})
        arguments = {name: example[name] for name in HTTPX_ARGUMENTS & example.keys()}
        if operation[0] != "GET" and not arguments.keys() - {"params"}:
            arguments["json"] = {}
        path = self.path(operation)
        with client.stream(operation[0], path, headers=headers, **arguments) as response:
            is_stream = response.headers.get("Content-Type", "").startswith("text/event-stream")
            content = next(response.iter_bytes(), b"") if is_stream else response.read()
            return httpx.Response(response.status_code, headers=response.headers, content=content)

    def call_tool(
        self, client: httpx.Client, operation: Operation, **headers: str
    ) -> httpx.Response:
        """Call the tool of an operation, with the arguments of the operation's example."""
        example = self.examples.get(operation, {})
        template = re.sub(r"{(\w+)}", r"(?P<\1>.+)", operation[1])
        match = re.fullmatch(template, self.path(operation))
        arguments = (match.groupdict() if match else {}) | dict(example.get("params", {}))
        if "content" in example:
            arguments["body"] = example["content"].decode()
        elif "json" in example:
            arguments["body"] = example["json"]
        name = DOCUMENTED[operation]["operationId"]
        message = tool_message("tools/call", name=name, arguments=arguments)
        return client.post("/mcp", headers=headers, **message)


def hint(operation: Operation, response: httpx.Response) -> str:
    """Return a failure message with a fix, for an operation that failed or did not call Flyte."""
    method, path = operation
    summary = f"{method} {path} responded with {response.status_code}: {response.text[:2000]}\n"
    where = "add an example request to EXAMPLES in tests/test_guarantees.py, such as"
    if response.status_code >= 500:
        bug = "This is a bug in the endpoint, or in a function that it calls. If it is intended,"
        return f"{summary}{bug} {where} { ({operation: {'status': response.status_code}}) }"
    if response.is_success:
        return (
            f"{summary}It has not called Flyte. Add the parameter `_: CallerDep`, which is imported"
            " from passthrough, so that Flyte checks the credentials."
        )
    invalid = response.json()["errors"] if '"errors": [{"location"' in response.text else []
    places = [error["location"] for error in invalid]
    example: dict[str, Any] = {}
    for place, name, *_ in (place for place in places if len(place) > 1):
        example.setdefault("params" if place == "query" else "json", {})[name] = f"<{name}>"
    if "{" in path and (
        response.status_code == 404 or any("path" in place[:1] for place in places)
    ):
        example = {"path": re.sub(r"{(\w+)}", r"<\1 that exists>", path)}
    elif not example:
        example = {"json": "<a body>"} if places else {"status": response.status_code}
    return f"{summary}If the endpoint is right, {where} { ({operation: example}) }"
