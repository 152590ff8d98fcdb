"""Explains why an operation was not executed, and suggests an example request."""

import json
import re
from contextlib import suppress
from typing import Any

import httpx

from app.main import app

from .operations import DOCUMENTED, Example, Operation

WHERE = "EXAMPLES in tests/test_guarantees.py"
PLACES = {"path": "path", "query": "params", "header": "headers", "cookie": "cookies"}
"""Maps the place of a parameter in OpenAPI to the key of an example."""
_VALUES = {"integer": 1, "number": 1.0, "boolean": True, "array": [], "null": None}


def hint(
    operation: Operation, example: Example, status: int, response: httpx.Response, way: str
) -> str:
    """Return the failure message for an operation whose response is not the expected success.

    Args:
        operation: The operation.
        example: The example of the operation, which may be empty.
        status: The status of the response. For a tool call, the status in the tool's result.
        response: The response of the operation, or of the tool call.
        way: ``endpoint`` or ``tool``.
    """
    problem = _problem(response)
    errors = [(one["location"], one.get("detail")) for one in problem.get("errors") or ()]
    causes = [f"{'.'.join(map(str, place))}: {text}" for place, text in errors]
    cause = "; ".join(causes) or problem.get("detail") or response.text[:500] or "without a body"
    title = f"{'The tool of ' if way == 'tool' else ''}{' '.join(operation)}"
    summary = f"{title} responded with {status} ({cause}), so nothing was tested."
    if status < 400:
        return f"{summary} Its example expects the status {example.get('status')}."
    if status >= 500:
        declared = {operation: {"untested": "<reason>"}}
        return (
            f"{summary} This is a bug in the endpoint, or in a function that it calls. If the"
            f" endpoint cannot be executed in a test, say why in {WHERE}: {declared}"
        )
    suggested = suggest(operation, [place for place, _ in errors])
    if status == 404 and (names := re.findall(r"{(\w+)}", operation[1])):
        suggested["path"] = {name: f"<{name} that exists>" for name in names}
    if suggested:
        return f"{summary} Add an example to {WHERE}: { ({operation: {**example, **suggested}}) }"
    running = {operation: {**example, "run": "running"}}
    return (
        f"{summary} Change the example in {WHERE}, so that the request succeeds. If the endpoint"
        f" needs a run that has not ended, use {running}"
    )


def suggest(operation: Operation, places: list[list[Any]]) -> dict[str, Any]:
    """Return an example with a value for each parameter and field in ``places``.

    The values are the examples and defaults in the OpenAPI document. An operation outside the
    document has no schema, so its values are placeholders.
    """
    example: dict[str, Any] = {}
    for parameter in _parameters(operation):
        place, name = parameter["in"], parameter["name"]
        if [place, name] in [one[:2] for one in places]:
            example.setdefault(PLACES[place], {})[name] = _value(parameter)
    described = {(place, name) for place, names in example.items() for name in names}
    for place, name, *_ in (one for one in places if len(one) > 1 and one[0] in PLACES):
        if (PLACES[place], name) not in described:
            example.setdefault(PLACES[place], {})[name] = "…"
    if any(place[0] == "body" for place in places):
        content = DOCUMENTED.get(operation, {}).get("requestBody", {}).get("content", {})
        for kind, body in content.items() or [("application/json", {})]:
            example |= _body(kind, _resolved(body.get("schema", {})))
    return example


def _body(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    if kind.endswith("json"):
        return {"json": _value(schema)}
    if "form" not in kind:
        return {"content": b"content"}
    required = {name: schema["properties"][name] for name in schema.get("required", ())}
    is_file = {name: "contentMediaType" in one or "format" in one for name, one in required.items()}
    data = {name: _value(required[name]) for name in required if not is_file[name]}
    files = {name: (f"{name}.txt", b"content") for name in required if is_file[name]}
    return {key: value for key, value in {"data": data, "files": files}.items() if value}


def _value(described: dict[str, Any]) -> Any:
    """Return a value for a parameter or a schema of the OpenAPI document."""
    schema = _resolved(described.get("schema", described))
    for source in (described, schema):
        if examples := source.get("examples"):
            first = next(iter(examples.values() if isinstance(examples, dict) else examples))
            return first.get("value", first) if isinstance(first, dict) else first
    for key in ("example", "default", "const"):
        if key in schema:
            return schema[key]
    if options := schema.get("enum") or schema.get("anyOf") or schema.get("oneOf"):
        return _value(options[0]) if isinstance(options[0], dict) else options[0]
    if schema.get("type") == "object" or "properties" in schema:
        return {name: _value(schema["properties"][name]) for name in schema.get("required", ())}
    return _VALUES.get(schema.get("type", "string"), "…")


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while reference := schema.get("$ref"):
        schema = app.openapi()["components"]["schemas"][reference.rpartition("/")[2]]
    return schema


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    return [*DOCUMENTED.get(operation, {}).get("parameters", ())]


def _problem(response: httpx.Response) -> dict[str, Any]:
    """Return the problem (RFC 9457) in a response, or in the result of a tool call."""
    with suppress(ValueError, LookupError, TypeError):
        body = response.json()
        problem = json.loads(body["result"]["content"][0]["text"]) if "result" in body else body
        return problem if isinstance(problem, dict) else {}
    return {}
