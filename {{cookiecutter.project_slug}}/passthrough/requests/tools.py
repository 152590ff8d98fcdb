"""Translates for `agents`: operations to tools, arguments to requests, and answers to results."""

import json
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import responses
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from pydantic_core import from_json
from starlette.datastructures import Headers

from .problems import InvalidValue, Problem

LONGEST = 40_000  # characters of a result
REF = "#/components/schemas/"
# Header parameters that may be arguments: no others, since they could be credentials.
HEADERS = re.compile("last-event-id|accept-language|idempotency-key|if-.*|prefer", re.IGNORECASE)
DESTRUCTIVE = re.compile("abort|cancel|delete|kill|remove|stop|terminate")


@dataclass
class Answer:
    """A response, as far as it was read."""

    status: int = 0
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    is_whole: bool = False


class WrongArgumentsError(Exception):
    """The arguments do not fit the tool."""

    def __init__(self, wrong: dict[str, str]) -> None:
        """Take what is wrong, by the argument."""
        errors = [InvalidValue(location=[name], detail=wrong[name]) for name in sorted(wrong)]
        problem = Problem(title=responses[422], status=422, errors=errors)
        self.result = _json_result(problem.model_dump(exclude_none=True), is_error=True)


@dataclass
class Tool:
    """An operation as a tool.

    Attributes:
        definition: The tool as the protocol describes it.
        places: Where each argument belongs: in the ``path``, the ``query`` or a ``header``; as a
            ``field`` of the body, or as the whole ``body``; and its name there.
    """

    method: str
    path: str
    definition: dict[str, Any]
    places: dict[str, tuple[str, str]]

    def request(self, given: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Return the request with these arguments: parts of an ASGI scope, and the body.

        Raises:
            WrongArgumentsError: Some are unknown, or cannot be at their place.
        """
        at: dict[str, dict[str, Any]] = {"path": {}, "query": {}, "header": {}, "field": {}}
        unknown = f"unknown; the arguments are: {', '.join(self.places) or 'none'}"
        wrong = dict.fromkeys(given.keys() - self.places, unknown)
        for argument, (place, name) in self.places.items():
            value = given.get(argument)
            if place in ("field", "body"):
                if argument in given:
                    at.setdefault(place, {})[name] = value
            elif place == "path" and (value in (None, "") or isinstance(value, dict | list)):
                wrong[argument] = "required, as a text"
            elif place == "header" and not re.fullmatch("[ -~]*", _text(value)):
                wrong[argument] = "only printable ASCII is possible"
            elif value is not None:
                is_list = place == "query" and isinstance(value, list)
                at[place][name] = [*map(_text, value)] if is_list else _text(value)
        if wrong:
            raise WrongArgumentsError(wrong)
        body = at["body"]["body"] if "body" in at else at["field"] or None
        headers = [(name.lower().encode(), text.encode()) for name, text in at["header"].items()]
        if body is not None:
            headers.append((b"content-type", b"application/json"))
        scope = {
            "method": self.method,
            "path": re.sub(r"{(\w+)}", lambda name: str(at["path"][name[1]]), self.path),
            "query_string": urlencode(at["query"], doseq=True).encode(),
            "headers": headers,
        }
        return scope, b"" if body is None else json.dumps(body).encode()

    def result(self, request: dict[str, Any], answer: Answer) -> dict[str, Any]:
        """Return the result of a call: JSON as text and structured, events as the text in them."""
        kind, value = answer.headers.get("content-type", ""), None
        text = answer.body.decode("utf-8", "replace")
        if kind.startswith("text/event-stream"):
            return self._events(request, answer, text)
        if answer.is_whole and "json" in kind:
            with suppress(ValueError):  # such as an Infinity, which is no JSON
                value = from_json(answer.body, allow_inf_nan=False)
        elif not kind.startswith("text/"):
            text = (
                f"{answer.status} {responses.get(answer.status)}, {len(answer.body)} bytes {kind}"
            )
            text += f" {answer.headers.get('location', '')}"
        whole, sizes = value, iter((1000, 100, 10, 1))
        while len(json.dumps(value)) > LONGEST and (most := next(sizes, 0)):
            value = _cut(whole, most)
        target = f"{request['path']}?{request['query_string'].decode()}".rstrip("?")
        note = (
            "Cut, because it is too long. To get the rest, ask for less at once, or request"
            f" {self.method} {target} with the same credentials."
        )
        is_cut = value is not whole or len(text) > LONGEST or not answer.is_whole
        make, shown = (_text_result, text[:LONGEST]) if value is None else (_json_result, value)
        return make(shown, *[note] * is_cut, is_error=answer.status >= 400)

    def _events(self, request: dict[str, Any], answer: Answer, text: str) -> dict[str, Any]:
        """Return the text in events (HTML standard 9.2.6), and how to get those that follow."""
        lines: list[str] = []
        length, is_whole, has_failed = 0, answer.is_whole, answer.status >= 400
        last = dict(request["headers"]).get(b"last-event-id", b"").decode()
        for event in re.split(r"\r?\n\r?\n", text)[:-1]:  # the last is blank or incomplete
            fields: dict[str, list[str]] = {}
            for line in re.split(r"\r?\n", event):
                name, _, value = line.partition(":")
                fields.setdefault(name, []).append(value.removeprefix(" "))
            data, [kind] = "\n".join(fields.get("data", ())), fields.get("event", [""])[-1:]
            if lines and length + len(data) > LONGEST:
                is_whole = False
                break
            if "data" in fields:
                length += len(data)
                lines.append(f"{kind}: {data}" if kind else data)
                has_failed |= kind == "problem"
            elif "retry" in fields:
                is_whole = False  # the server asks to come back
            [last] = fields.get("id", [last])[-1:]
        note = "This is the end." if is_whole else "This is not the end. To go on, call again"
        if not is_whole and last and "last_event_id" in self.places:
            note += f" with last_event_id={json.dumps(last)}"
        return _text_result("\n".join(lines)[: 2 * LONGEST], note, is_error=has_failed)


def _text_result(*texts: str, is_error: bool) -> dict[str, Any]:
    content = [{"type": "text", "text": text} for text in texts]
    return {"content": content, "isError": is_error, "resultType": "complete"}


def _json_result(value: Any, *notes: str, is_error: bool) -> dict[str, Any]:
    result = _text_result(json.dumps(value, ensure_ascii=False), *notes, is_error=is_error)
    # Protocols before 2026-07-28 know only objects.
    return result | {"structuredContent": value if isinstance(value, dict) else {"result": value}}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _cut(value: Any, most: int) -> Any:
    """Shorten lists and objects to this many items, and texts to ten times as many characters."""
    match value:
        case str() if len(value) > 10 * most:
            return f"{value[: 10 * most]}… ({len(value)} characters)"
        case list():
            rest = [f"… ({len(value)} items)"] * (len(value) > most)
            return [_cut(each, most) for each in value[:most]] + rest
        case dict():
            shown = {name: _cut(value[name], most) for name in islice(value, most)}
            return shown | {"…": f"({len(value)} names)"} if len(value) > most else shown
    return value


def tools_of(document: dict[str, Any], only: Collection[str] | None) -> dict[str, Tool]:
    """Return tools, by name, for the operations that need credentials and take JSON or nothing.

    Args:
        document: The OpenAPI document.
        only: Operation ids or tags of the operations; default: all.
    """
    schemas = document["components"]["schemas"]
    found = [
        _tool(method.upper(), path, operation, schemas)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "security" in operation
        and (only is None or {operation["operationId"], *operation.get("tags", ())} & {*only})
        and "application/json"
        in operation.get("requestBody", {"content": ["application/json"]})["content"]
    ]
    return {tool.definition["name"]: tool for tool in found}


def _tool(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> Tool:
    places: dict[str, tuple[str, str]] = {}
    properties: dict[str, Any] = {}
    required: list[str] = []
    for each in operation.get("parameters", ()):
        place, name = each["in"], each["name"]
        if place in ("path", "query") or (place == "header" and HEADERS.fullmatch(name)):
            argument = name.replace("-", "_") if place == "header" else name
            places[argument] = place, name
            properties[argument] = each["schema"] | {"description": each.get("description", "")}
            required += [argument] * each.get("required", False)
    if body := operation.get("requestBody"):
        schema = body["content"]["application/json"]["schema"]
        refs = [each["$ref"] for each in (schema, *schema.get("anyOf", ())) if "$ref" in each]
        model = schemas[refs[0].removeprefix(REF)] if len(refs) == 1 else {}
        kind, fields, needed = "field", model.get("properties", {}), model.get("required", [])
        if not fields or model.get("additionalProperties") or fields.keys() & properties:
            kind, fields, needed = "body", {"body": schema}, ["body"]
        places |= {each: (kind, each) for each in fields}
        properties |= fields
        required += needed if body.get("required") else []
    schema = {"type": "object", "properties": properties, "required": required}
    needs: dict[str, Any] = {}
    while missing := {*re.findall(f'"{REF}(.+?)"', json.dumps([schema, needs]))} - needs.keys():
        needs |= {name: schemas[name] for name in missing}
    schema |= {"additionalProperties": False} | ({"$defs": needs} if needs else {})
    name = operation["operationId"]
    is_destructive = method != "POST" or bool(DESTRUCTIVE.search(name))
    definition = {
        "name": name,
        "title": operation.get("summary", name),
        "description": operation.get("description", ""),
        "inputSchema": json.loads(json.dumps(schema).replace(REF, "#/$defs/")),
        "annotations": {"readOnlyHint": True}
        if method == "GET"
        else {"destructiveHint": is_destructive},
    }
    return Tool(method, path, definition, places)
