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

from pydantic_core import from_json, to_json
from starlette.datastructures import Headers

from .problems import InvalidValue, Problem

LONGEST = 40_000  # characters of a result
LARGEST = 1024 * 1024  # bytes of a response to read: events are more than their text
MOST_WRONG = 20  # arguments to tell about, with 100 characters of their names
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
        errors = [
            InvalidValue(location=[name[:100]], detail=detail)
            for name, detail in islice(wrong.items(), MOST_WRONG)
        ]
        problem = Problem(title=responses[422], status=422, errors=errors)
        value = problem.model_dump(exclude_none=True)
        self.result = _result(json.dumps(value, ensure_ascii=False), value=value, is_error=True)


@dataclass
class Tool:
    """An operation as a tool.

    Attributes:
        definition: The tool as the protocol describes it.
        places: Where each argument belongs: in the ``path``, the ``query`` or a ``header``; as a
            ``field`` of the body, or as the whole ``body``; and its name there.
        body: What to send if no field of the body is given.
    """

    method: str
    path: str
    definition: dict[str, Any]
    places: dict[str, tuple[str, str]]
    body: dict[str, Any] | None

    def request(self, given: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Return the request with these arguments: parts of an ASGI scope, and the body.

        Raises:
            WrongArgumentsError: Some are unknown, or cannot be at their place.
        """
        at: dict[str, dict[str, Any]] = {"path": {}, "query": {}, "header": {}, "field": {}}
        unknown = f"unknown; the arguments are: {', '.join(self.places) or 'none'}"
        wrong = {each: unknown for each in given if each not in self.places}
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
        body = at["body"]["body"] if "body" in at else at["field"] or self.body
        headers = [(name.lower().encode(), text.encode()) for name, text in at["header"].items()]
        if body is not None:
            headers.append((b"content-type", b"application/json"))
        scope = {
            "method": self.method,
            "path": re.sub(r"{(\w+)}", lambda name: str(at["path"][name[1]]), self.path),
            "query_string": urlencode(at["query"], doseq=True).encode(),
            "headers": headers,
        }
        return scope, b"" if body is None else to_json(body)

    def result(self, request: dict[str, Any], answer: Answer) -> dict[str, Any]:
        """Return the result of a call: JSON as text and structured, events as the text in them."""
        kind = answer.headers.get("content-type", "")
        text = answer.body[:LARGEST].decode("utf-8", "replace")
        target = f"{request['path']}?{request['query_string'].decode()}".rstrip("?")
        direct = f"request {self.method} {target} with the same credentials"
        if kind.startswith("text/event-stream"):
            last = dict(request["headers"]).get(b"last-event-id", b"").decode()
            return self._events(answer, text, last, direct)
        if not kind.startswith("text/") and "json" not in kind:
            text = (
                f"{answer.status} {responses.get(answer.status)}, {len(answer.body)} bytes {kind}"
                f" {answer.headers.get('location', '')}"
            )
        notes, value = [], None
        if len(text) > LONGEST or not answer.is_whole:
            limit = f"This is not all: a result has up to {LONGEST} characters."
            notes = [f"{limit} For the rest, ask for less, or {direct}."]
        elif "json" in kind:
            with suppress(ValueError):  # such as an Infinity, which is no JSON
                value = from_json(text, allow_inf_nan=False)
        return _result(text[:LONGEST], *notes, value=value, is_error=answer.status >= 400)

    def _events(self, answer: Answer, text: str, last: str, direct: str) -> dict[str, Any]:
        """Return the text in events (HTML standard 9.2.6), and how to get those that follow."""
        shown, note, is_whole, has_failed = "", "", answer.is_whole, answer.status >= 400
        going_on = "To go on, call again"
        *events, incomplete = re.split(r"\r?\n\r?\n", text)
        for event in events or [incomplete][: len(text) > LONGEST]:
            fields: dict[str, list[str]] = {}
            for line in re.split(r"\r?\n", event):
                name, _, value = line.partition(":")
                fields.setdefault(name, []).append(value.removeprefix(" "))
            data, [kind] = "\n".join(fields.get("data", ())), fields.get("event", [""])[-1:]
            data = f"{kind}: {data}\n" if kind else f"{data}\n"
            if shown and len(shown) + len(data) > LONGEST:
                is_whole = False
                break
            if len(data) > LONGEST:
                note = (
                    f"Cut: the event has more than {LONGEST} characters. For the rest, {direct}. "
                )
                going_on = "To go on after it, call again" if events else going_on
            if "data" in fields:
                shown += data
                has_failed |= kind == "problem"
            elif "retry" in fields:
                is_whole = False  # the server asks to come back
            if events:
                [last] = fields.get("id", [last])[-1:]
        note += "This is the end." if is_whole else f"This is not the end. {going_on}"
        if not is_whole and last and "last_event_id" in self.places:
            note += f" with last_event_id={json.dumps(last)}"
        return _result(shown[:LONGEST].removesuffix("\n"), note, is_error=has_failed)


def _result(*texts: str, value: Any = None, is_error: bool) -> dict[str, Any]:
    content: Any = [{"type": "text", "text": text} for text in texts]
    result = {"content": content, "isError": is_error, "resultType": "complete"}
    if value is not None:  # protocols before 2026-07-28 know only objects
        result["structuredContent"] = value if isinstance(value, dict) else {"result": value}
    return result


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


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
    no_fields: dict[str, Any] | None = None
    if body := operation.get("requestBody"):
        schema = body["content"]["application/json"]["schema"]
        refs = [each["$ref"] for each in (schema, *schema.get("anyOf", ())) if "$ref" in each]
        model = schemas[refs[0].removeprefix(REF)] if len(refs) == 1 else {}
        kind, fields, needed = "field", model.get("properties", {}), model.get("required", [])
        if not fields or model.get("additionalProperties") or fields.keys() & properties:
            kind, fields, needed = "body", {"body": schema}, ["body"]
        elif body.get("required"):
            no_fields = {}
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
    hints = {"readOnlyHint": True} if method == "GET" else {"destructiveHint": is_destructive}
    definition = {
        "name": name,
        "title": operation.get("summary", name),
        "description": operation.get("description", ""),
        "inputSchema": json.loads(json.dumps(schema).replace(REF, "#/$defs/")),
        "annotations": hints,
    }
    return Tool(method, path, definition, places, no_fields)
