"""Translates for `agents`: operations to tools, arguments to requests, and responses to results."""

import json
import re
from collections import defaultdict
from collections.abc import Collection
from http.client import responses
from typing import Any, NamedTuple
from urllib.parse import urlencode

from pydantic_core import to_json
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from ..http.stopping import COME_BACK
from ..limits import limits

JSON = "application/json"
OCTETS = "application/octet-stream"
KINDS = {JSON, OCTETS}
REF = "#/components/schemas/"
NOT_IN_SCHEMA = "the arguments are not as the tool's inputSchema says"


class Tool(NamedTuple):
    """An operation as a tool; ``definition`` describes it in the protocol's format.

    Each argument has a place (the ``path``, the ``query``, a ``header``, a ``field`` of the body,
    or the whole ``body``), and the name of the parameter or field there. The body is JSON, or a
    text if the operation takes a file.
    """

    method: str
    path: str
    definition: dict[str, Any]
    places: dict[str, tuple[str, str]]
    needs_body: bool
    kind: str

    def request(self, given: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Return the request with these arguments: parts of an ASGI scope, and the body.

        Raises:
            HTTPException: Some are unknown, one of the path is missing, or one outside of the body
                is an object.
        """
        at = defaultdict[str, dict[str, Any]](dict)
        try:
            for argument, value in given.items():
                place, name = self.places[argument]
                if place in ("field", "body"):
                    at[place][name] = value
                elif place == "query" and isinstance(value, list):
                    at[place][name] = [*map(_text, value)]
                elif value is not None:
                    at[place][name] = _text(value)
            path = self.path.format_map(at["path"])
            query = urlencode(at["query"], doseq=True).encode()
            headers = [(name.encode(), value.encode()) for name, value in at["header"].items()]
            fields = at["field"] if at["field"] or self.needs_body else None
            body = at["body"].get("body", fields)
            content = to_json(body) if self.kind == JSON else _text(body or "").encode()
        except (KeyError, TypeError, ValueError):
            raise HTTPException(422, NOT_IN_SCHEMA) from None
        if body is not None:
            headers.append((b"content-type", self.kind.encode()))
        scope = {"method": self.method, "path": path, "query_string": query, "headers": headers}
        return scope, b"" if body is None else content


def _text(value: Any) -> str:
    """Return an argument as it stands in a URL or a header.

    Raises:
        TypeError: It is an object or a list.
    """
    if isinstance(value, dict | list):
        raise TypeError
    return value if isinstance(value, str) else json.dumps(value)


def result_of(status: int, headers: Headers, body: bytes, *, is_whole: bool) -> dict[str, Any]:
    """Return the result of a call, as text: of events, what is in them."""
    kind, is_error = headers.get("content-type", ""), status >= 400
    text, notes = body.decode("utf-8", "ignore"), list[str]()
    if kind.startswith("text/event-stream"):
        text, last, has_failed = _read_events(text)
        is_error |= has_failed
        if is_whole and not has_failed and not body.endswith(COME_BACK):
            notes = ["This is the end."]
        elif last:
            notes = [f"This is not the end: call again with last_event_id={last}."]
        else:
            notes = ["This is not the end: another call begins anew."]
    elif not kind.startswith("text/") and "json" not in kind:
        text = f"{status} {responses.get(status)} {kind} {headers.get('location', '')}"
    elif not is_whole:
        most = limits().agent_result_bytes
        notes = [f"This is not all: a result has up to {most} bytes. Ask for less."]
    content = [{"type": "text", "text": part} for part in (text, *notes)]
    return {"resultType": "complete", "content": content, "isError": is_error}


def _read_events(stream: str) -> tuple[str, str, bool]:
    """Return the text in the complete events (HTML standard 9.2.6), the last id, and if one failed.

    The data of an event with a name begins with it.
    """
    texts, last, has_failed = list[str](), "", False
    for event in stream.replace("\r\n", "\n").split("\n\n")[:-1]:
        parts = (line.partition(":") for line in event.split("\n"))
        fields = [(name, value.removeprefix(" ")) for name, _, value in parts]
        named = dict(fields)
        last = named.get("id", last)
        if data := [value for name, value in fields if name == "data"]:
            if name := named.get("event"):
                has_failed |= name == "problem"
                data[0] = f"{name}: {data[0]}"
            texts += data
    return "\n".join(texts), last, has_failed


def tools_of(document: dict[str, Any], only: Collection[str] | None) -> dict[str, Tool]:
    """Return tools, by name, for operations that need credentials and take JSON, a file or nothing.

    Args:
        document: The OpenAPI document.
        only: Operation ids or tags of the operations; default: all.
    """
    return {
        operation["operationId"]: _tool(method, path, operation, document["components"]["schemas"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if operation["security"]
        and (only is None or {operation["operationId"], *operation.get("tags", ())} & {*only})
        and ("requestBody" not in operation or KINDS & operation["requestBody"]["content"].keys())
    }


def _tool(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> Tool:
    found = [
        (
            parameter["in"],
            parameter["name"],
            parameter["schema"] | {"description": parameter.get("description", "")},
            parameter.get("required", False),
        )
        for parameter in operation.get("parameters", ())
        # Any other header, or a cookie, could be a credential.
        if parameter["in"] in ("path", "query") or parameter["name"] == "last-event-id"
    ]
    body = operation.get("requestBody", {})
    needs_body = body.get("required", False)
    kind = JSON if not body or JSON in body["content"] else OCTETS
    if body:
        schema = body["content"][kind]["schema"]
        refs = [part["$ref"] for part in (schema, *schema.get("anyOf", ())) if "$ref" in part]
        model = schemas[refs[0].removeprefix(REF)] if len(refs) == 1 else {}
        if fields := model.get("properties"):
            needed = model.get("required", []) if needs_body else []
            found += [("field", name, fields[name], name in needed) for name in fields]
        else:
            found.append(("body", "body", schema, needs_body))
    places: dict[str, tuple[str, str]] = {}
    properties: dict[str, Any] = {}
    required: list[str] = []
    for place, name, schema, is_required in found:
        argument = name.replace("-", "_") if place == "header" else name
        while argument in places:
            argument = f"{place}_{argument}"
        places[argument], properties[argument] = (place, name), schema
        if is_required:
            required.append(argument)
    schema = {"type": "object", "properties": properties, "required": required}
    needs: dict[str, Any] = {}
    while missing := {*re.findall(f'"{REF}(.+?)"', json.dumps([schema, needs]))} - needs.keys():
        needs |= {name: schemas[name] for name in missing}
    schema |= {"additionalProperties": False} | ({"$defs": needs} if needs else {})
    definition = {
        "name": operation["operationId"],
        "title": operation["summary"],
        "description": operation.get("description", ""),
        "inputSchema": json.loads(json.dumps(schema).replace(REF, "#/$defs/")),
        "annotations": {"readOnlyHint": True} if method == "get" else {},
    }
    return Tool(method.upper(), path, definition, places, needs_body, kind)
