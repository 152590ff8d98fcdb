"""Converts API operations to MCP tools, tool calls to requests, and responses to results."""

import json
import re
from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple
from urllib.parse import urlencode

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from pydantic_core import from_json
from starlette.datastructures import Headers

from ..http.response import SSE_RETRY

MESSAGE_BYTES = 256 * 1024  # maximum size of an agent's message; agents send large inputs by URI
RESULT_BYTES = 50_000  # maximum size of the result of a tool call
RESULT_SECONDS = 5.0  # maximum time to read a response, such as an event stream
JSON = "application/json"
OCTETS = "application/octet-stream"
KINDS = {JSON, OCTETS}
REF = "#/components/schemas/"


class Tool(NamedTuple):
    """An operation of the app that AI agents can call as a tool.

    The ``definition`` describes the tool in the format of MCP. ``places`` maps each argument of the
    tool to a place in the request (``path``, ``query``, ``header`` or ``body``) and to the name of
    the parameter. ``kind`` is the media type of the body. If ``kind`` is not JSON, the body is a
    file, and agents send the content of the file as text.
    """

    method: str
    path: str
    takes_slash: bool
    definition: dict[str, Any]
    places: dict[str, tuple[str, str]]
    kind: str

    def request(self, arguments: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Return the request of a tool call: a part of the ASGI scope, and the body.

        Raises:
            ValueError: An argument is unknown, a required argument is missing, or an argument in
                the path contains a character that the route does not accept.
        """
        by_place = defaultdict[str, dict[str, Any]](dict)
        arguments = {name: value for name, value in arguments.items() if value is not None}
        accepted, required = [*self.places], self.definition["inputSchema"]["required"]
        if {*arguments} - {*accepted} or {*required} - {*arguments}:
            raise ValueError(f"{self.definition['name']} takes {accepted}, and needs {required}")
        for argument, value in arguments.items():
            place, name = self.places[argument]
            if place == "query" and isinstance(value, list):
                by_place[place][name] = [*map(_text, value)]
            elif place == "body" and self.kind == JSON:
                by_place[place][name] = json.dumps(value)
            else:
                by_place[place][name] = _text(value)
        if not self.takes_slash and any("/" in text for text in by_place["path"].values()):
            raise ValueError("no argument in this path may have a slash")
        path = self.path.format_map(by_place["path"])
        path.encode()  # raises a ValueError for a lone surrogate, which JSON can contain
        query = urlencode(by_place["query"], doseq=True).encode()
        by_place["header"]["content-type"] = self.kind
        headers = [(name.encode(), text.encode()) for name, text in by_place["header"].items()]
        scope = {"method": self.method, "path": path, "query_string": query, "headers": headers}
        return scope, by_place["body"].get("body", "").encode()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def result_of(status: int, headers: Headers, body: bytes, *, is_whole: bool) -> dict[str, Any]:
    """Convert a response to the result of a tool call. Add a note if the response is incomplete."""
    kind, is_error, note = headers.get("content-type", ""), status >= 400, ""
    texts, more = [body.decode("utf-8", "ignore")], dict[str, Any]()
    if kind.startswith("text/event-stream"):
        # Omit the text after the last empty line, because it is an incomplete event.
        stream = texts[0].replace("\r\n", "\n").rpartition("\n\n")[0]
        has_problem = "problem" in re.findall("^event: ?(.+)", stream, re.MULTILINE)
        is_complete = is_whole and not has_problem and not body.endswith(SSE_RETRY)
        texts, note = _texts_of(stream), _note_at_end(stream, is_complete=is_complete)
        is_error = is_error or has_problem
    elif not kind.startswith("text/") and "json" not in kind:
        texts = [f"Status {status}. {kind} {headers.get('location', '')}"]
    elif not is_whole:
        limit = f"{RESULT_BYTES} bytes, read in {RESULT_SECONDS} seconds"
        note = f"\nThis is not all: a result has up to {limit}."
    elif "json" in kind:
        with suppress(ValueError):  # a body with Infinity, for example, is not JSON
            value = from_json(texts[0], allow_inf_nan=False)
            # MCP versions before 2026-07-28 accept only objects as structured content.
            more["structuredContent"] = value if isinstance(value, dict) else {"result": value}
    content = [{"type": "text", "text": text} for text in (*texts, note) if text]
    return {"resultType": "complete", "content": content, "isError": is_error, **more}


def _note_at_end(stream: str, *, is_complete: bool) -> str:
    if is_complete:
        return "This is the end."
    if ids := re.findall("^id: ?(.+)", stream, re.MULTILINE):
        return f"This is not the end: call again with last_event_id={ids[-1]}."
    return "This is not the end: another call starts from the beginning."


def _texts_of(stream: str) -> list[str]:
    """Return the data of an event stream, such as the lines of a log, as a list of texts.

    Events with a name and events without a name are in different texts. Therefore a line of a log,
    which is an event without a name, cannot imitate an event with a name.
    """
    lines = list[tuple[str, str]]()
    for event in stream.split("\n\n"):
        pattern = "^((?:event|data):.*)" if re.search("^event:", event, re.M) else "^data: ?(.*)"
        lines += [(pattern, line) for line in re.findall(pattern, event, re.MULTILINE)]
    # End each line with a line feed, because some agents concatenate the texts of a result.
    return ["".join(f"{line}\n" for _, line in part) for _, part in groupby(lines, itemgetter(0))]


def tools_of(app: FastAPI, only: Collection[str] | None) -> dict[str, Tool]:
    """Return tools by name, for private operations that accept JSON, a file or no body."""
    routes = iter_route_contexts(app.routes)
    with_slash = {route.path_format for route in routes if ":path}" in str(route.path)}
    document = app.openapi()
    schemas = document["components"]["schemas"]
    return {
        operation["operationId"]: _tool(method, path, path in with_slash, operation, schemas)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if operation["security"]
        and (only is None or {operation["operationId"], *operation.get("tags", ())} & {*only})
        and ("requestBody" not in operation or KINDS & operation["requestBody"]["content"].keys())
    }


def _tool(
    method: str, path: str, takes_slash: bool, operation: dict[str, Any], schemas: dict[str, Any]
) -> Tool:
    """Convert an operation of the OpenAPI document to a tool."""
    parameters, kind = [*operation.get("parameters", ())], JSON
    if body := operation.get("requestBody"):
        kind = JSON if JSON in body["content"] else OCTETS
        schema, is_required = body["content"][kind]["schema"], body.get("required")
        parameters.append({"in": "body", "name": "body", "schema": schema, "required": is_required})
    places: dict[str, tuple[str, str]] = {}
    properties: dict[str, Any] = {}
    required: list[str] = []
    for parameter in parameters:
        place, name = parameter["in"], parameter["name"]
        if place in ("header", "cookie") and name != "last-event-id":
            continue  # omit headers and cookies, which may be credentials
        argument = name.replace("-", "_")
        if argument in places:
            argument = f"{place}_{argument}"
        description = {key: parameter[key] for key in ("description",) if key in parameter}
        places[argument], properties[argument] = (place, name), description | parameter["schema"]
        if parameter.get("required"):
            required.append(argument)
    schema = {"type": "object", "properties": properties, "required": required}
    defs: dict[str, Any] = {}
    while missing := {*re.findall(f'"{REF}(.+?)"', json.dumps([schema, defs]))} - defs.keys():
        defs |= {name: schemas[name] for name in missing}
    schema |= {"additionalProperties": False, "$defs": defs}
    definition = {
        "name": operation["operationId"],
        "title": operation["summary"],
        "description": operation.get("description") or operation["summary"],
        "inputSchema": json.loads(json.dumps(schema).replace(REF, "#/$defs/")),
        "annotations": {"readOnlyHint": True} if method == "get" else {},
    }
    return Tool(method.upper(), path, takes_slash, definition, places, kind)
