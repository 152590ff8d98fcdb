"""Every input of every operation, from the OpenAPI document and the tools, with hostile values."""

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any
from urllib.parse import quote

from local_flyte import PEOPLE

from .repeating import Change

LARGE = 900_000  # bytes, of the megabyte that a body may have
LARGE_OUTSIDE = 40_000  # in a URL or a header
CREDENTIAL = 58_000
CHANCE = random.Random(0)
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
Place = tuple[str | int, ...]
SECRET = "".join(CHANCE.choices(LETTERS, k=CREDENTIAL))
"""An invented token; its pieces also come in other texts."""


ALICE = PEOPLE["alice"]
USUAL, COOKIE = "alice", "a long cookie"
CALLERS: dict[str, dict[str, str]] = {
    USUAL: {"Authorization": f"Bearer {ALICE.token}"},
    "a long token": {"Authorization": f"Bearer {SECRET}"},
    COOKIE: {"Cookie": f"{ALICE.cookie}; flyte_idt={SECRET[:50_000]}"},
}
"""The headers of each kind of caller."""


def _text(text: str) -> str:
    return f'"{text}"'


VALUES: dict[str, str] = {
    "random text": _text("".join(CHANCE.choices(LETTERS + "  ", k=LARGE))),
    "the credential, repeated": _text((SECRET * 16)[:LARGE]),
    "quotes": _text("'" * LARGE),
    "double quotes": _text('\\"' * (LARGE // 2)),
    "spaces": _text(" " * LARGE),
    "lines": _text("\\n" * (LARGE // 2)),
    "lone surrogates": _text("\\ud800" * (LARGE // 6)),
    "300,000 zeros": f"[{','.join('0' * 300_000)}]",
    "200,000 empty objects": f"[{','.join(['{}'] * 200_000)}]",
    "7,000 lists": f"[{','.join(['[' * 60 + ']' * 60] * 7_000)}]",
    "70,000 keys": json.dumps(dict.fromkeys(map(str, range(70_000)), 0)),
    "a key": json.dumps({"'" + 400_000 * "k": 0}),
    "4,000 digits": "7" * 4_000,
    "900,000 digits": "7" * LARGE,
}
"""Large values, as JSON."""
AGENTS: dict[str, str] = {
    "200 kB of text": _text("".join(CHANCE.choices(LETTERS + "  ", k=200_000))),
    "200 kB of the credential": _text((SECRET * 4)[:200_000]),
    "200 kB of spaces": _text(" " * 200_000),
    "200 kB of quotes": _text("'" * 200_000),
    "9,000 zeros": f"[{','.join('0' * 9_000)}]",
    "9,000 empty objects": f"[{','.join(['{}'] * 9_000)}]",
    "300 lists": f"[{','.join(['[' * 28 + ']' * 28] * 300)}]",
    "9,000 keys": json.dumps({20 * "k" + str(number): 0 for number in range(9_000)}),
}
"""Values that a message of an agent may just have."""
ODD = r"""
    null true -1 9e307 1e999 NaN "" "'" "\u0000" "\ud800" {} {"":0} [[]]
    "-P999999999DT1S" "0001-01-01T00:00:00+14:00"
"""
SMALL = {value: value for value in ODD.split()}
EVERY = VALUES | AGENTS | SMALL


@dataclass
class Operation:
    """An operation of the app, with values that it accepts."""

    name: str
    method: str
    path: str
    inputs: dict[tuple[str, str], Any] = field(default_factory=dict)
    """Values by place (path, query or header) and name."""
    body: Any = None
    places: list[Place] = field(default_factory=list)
    """Where hostile values come in the body."""
    has_bugs: bool = False
    """Whether it is one of the owner's, which may be answered with 500."""

    @property
    def is_tool(self) -> bool:
        return self.path == "/mcp"


@dataclass
class Case:
    """A request, and what is odd about it: the input, or a field of Flyte's answer, and a value."""

    operation: Operation
    what: str
    how: str
    request: Callable[[], bytes]
    secret: str = ""
    change: Change | None = None
    """Changes what Flyte answers."""

    @property
    def name(self) -> str:
        return f"{self.operation.name} {self.what}: {self.how}"


def example(schema: dict[str, Any], known: dict[str, Any]) -> Any:
    """Return a value that a JSON Schema describes, with every property."""
    if "$ref" in schema:
        return example(known[schema["$ref"].rpartition("/")[2]], known)
    given = [schema.get("const"), schema.get("default")]
    for each in (*given, *schema.get("enum", ()), *schema.get("examples", ())):
        if each is not None:
            return each
    for each in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        if each.get("type") != "null":
            return example(each, known)
    kind = schema.get("type", "object")
    if kind == "object":
        more = schema.get("additionalProperties")
        named = {"key": more} if isinstance(more, dict) else {}
        properties = named | schema.get("properties", {})
        return {name: example(each, known) for name, each in properties.items()}
    if kind == "array":
        return [example(schema.get("items", {}), known)]
    usual = {"integer": 1, "number": 1.0, "boolean": True, "uri": "s3://bucket/key"}
    usual |= {"date-time": "2026-01-01T00:00:00Z", "date": "2026-01-01", "duration": "PT1S"}
    return usual.get(schema.get("format", str(kind)), usual.get(str(kind), "text"))


def operations_of(document: dict[str, Any], base: dict[str, dict[str, Any]]) -> list[Operation]:
    """Return the operations in a document; ``base`` has values of inputs by beginnings of paths."""
    known = document["components"]["schemas"]
    found = []
    for path, methods in document["paths"].items():
        values: dict[str, Any] = {}
        for beginning in sorted(base, key=len):
            values |= base[beginning] if path.startswith(beginning) else {}
        for method, about in methods.items():
            operation = Operation(about.get("operationId", path), method.upper(), path)
            operation.has_bugs = "bugs" in about.get("tags", ())
            for each in about.get("parameters", ()):
                name, place = each["name"], each["in"]
                usual = values.get(name, each["schema"].get("default"))
                if usual is None and each.get("required"):
                    usual = example(each["schema"], known)
                operation.inputs[place, name] = usual
            content = about.get("requestBody", {}).get("content", {}).get("application/json")
            if content:
                operation.body = example(content["schema"], known)
                if isinstance(operation.body, dict):
                    operation.body |= {key: values[key] for key in operation.body if key in values}
                operation.places = [*places_in(operation.body)]
            found.append(operation)
    return found


def tools_among(tools: list[dict[str, Any]], operations: list[Operation]) -> list[Operation]:
    """Return an operation for each tool, whose inputs are members of a message."""
    found = []
    usual = {each.name: each for each in operations}
    for tool in tools:
        same, properties = usual[tool["name"]], tool["inputSchema"]["properties"]
        given = {name: value for (_, name), value in same.inputs.items()}
        given |= same.body if isinstance(same.body, dict) else {"body": same.body}
        arguments = {name: given[name] for name in properties if given.get(name) is not None}
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
        call["params"] = {"name": tool["name"], "arguments": arguments}
        operation = Operation(f"tool:{tool['name']}", "POST", "/mcp", body=call)
        operation.has_bugs = same.has_bugs
        inside: Place = ("params", "arguments")
        places = [*places_in(call), *((*inside, name) for name in properties.keys() - arguments)]
        # The rest of a message is the same for each tool.
        operation.places = [each for each in places if tool["name"] == "me" or each[:2] == inside]
        found.append(operation)
    return found


def places_in(value: Any, path: Place = ()) -> Iterator[Place]:
    """Yield the path of each value in a JSON value, and of that itself."""
    yield path
    keyed = dict(enumerate(value)) if isinstance(value, list) else value
    for key, each in keyed.items() if isinstance(keyed, dict) else ():
        yield from places_in(each, (*path, key))


def _with(value: Any, path: Place, new: Any) -> Any:
    """Return a copy of a JSON value with another one at a path."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else dict(enumerate(value))
    copy[path[0]] = _with(copy.get(path[0]), path[1:], new)
    return copy if isinstance(value, dict) else [*copy.values()]


def request(
    operation: Operation,
    headers: dict[str, str],
    body: bytes | None = None,
    place: tuple[str, str] | None = None,
    texts: Sequence[str] = (),
) -> bytes:
    """Return the bytes of a request, with texts instead of one of its inputs."""
    path, query = operation.path, []
    for (kind, name), value in operation.inputs.items():
        usual = value if isinstance(value, str) else json.dumps(value)
        given = value if isinstance(value, list) else [] if value is None else [usual]
        for text in texts if place == (kind, name) else given:
            if kind == "path":
                path = path.replace(f"{{{name}}}", quote(text, safe=""))
            elif kind == "query":
                query.append(f"{quote(name)}={quote(text, safe='')}")
            elif kind == "header":
                headers = headers | {name: text}
    if body is None:
        body = b"" if operation.body is None else json.dumps(operation.body).encode()
    own = {"Host": "127.0.0.1", "Content-Length": str(len(body)), "Connection": "close"}
    own |= {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    lines = [f"{operation.method} {path}{'?' if query else ''}{'&'.join(query)} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in (own | headers).items()]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1", "replace") + body


HEADERS = """
    Accept Accept-Encoding Authorization Content-Type Cookie Host Last-Event-ID Origin Referer
    Sec-Fetch-Site User-Agent X-Request-ID X-Forwarded-For X-Forwarded-Host Forwarded If-None-Match
    Range Traceparent Tracestate Baggage Mcp-Protocol-Version Mcp-Session-Id Mcp-Method Mcp-Name
"""
"""Headers that the app, or something in it, may read."""


def cases(operations: list[Operation]) -> Iterator[Case]:
    """Yield a case for each input of each operation and each hostile value, by each caller."""
    for operation in operations:
        for who, headers in CALLERS.items():
            secret = "" if who == USUAL else SECRET
            also = (AGENTS if operation.is_tool else {}) | (SMALL if who == USUAL else {})
            for name in VALUES | also:
                for what, make in _changed(operation, name, headers):
                    yield Case(operation, what, f"{name}, {who}", make, secret)
        for name in HEADERS.split() if not operation.is_tool else ():
            for letter in "a,;=":
                given = CALLERS[USUAL] | {name: 15_000 * f"{letter}b\"'"}
                make = partial(request, operation, given)
                yield Case(operation, f"header {name}", letter, make)


def _changed(
    operation: Operation, name: str, headers: dict[str, str]
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield each input of an operation, and what makes the request with a hostile value there."""
    for place, key in operation.inputs:
        given = partial(_outside, operation, headers, (place, key), name)
        yield f"{place} {key}", given
        if place == "query" and name == "spaces":
            yield f"{place} {key} 3,000 times", partial(given, times=3_000)
    for path in operation.places:
        where = ".".join(map(str, path)) or "all"
        yield f"body {where}", partial(_inside, operation, headers, path, name)
    if operation.body is not None and not operation.is_tool:
        cut = lambda: request(operation, headers, EVERY[name].encode()[:-1])  # noqa: E731
        yield "body, not JSON", cut


def _inside(operation: Operation, headers: dict[str, str], path: Place, name: str) -> bytes:
    mark = "(here)"
    body = json.dumps(_with(operation.body, path, mark)).replace(f'"{mark}"', EVERY[name])
    return request(operation, headers, body.encode())


def _outside(
    operation: Operation, headers: dict[str, str], place: tuple[str, str], name: str, times: int = 1
) -> bytes:
    room = LARGE_OUTSIDE if len("".join(headers.values())) < LARGE_OUTSIDE else 4_000
    text = _short(name, room) if times == 1 else "1"
    if place[0] == "header":
        text = re.sub(r"[\0\r\n]", " ", text)
    return request(operation, headers, None, place, times * [text])


@cache
def _short(name: str, room: int) -> str:
    """Return a hostile value that fits into so many bytes of a URL."""
    text = EVERY[name]
    text = (text[1:-1] if text[:1] == '"' else text)[: room - room % 6]  # no escape is cut
    text = text.encode().decode("unicode_escape") if "\\" in text[:2] else text
    text = text.encode("utf-8", "replace").decode()
    while (length := len(quote(text, safe=""))) > room:
        text = text[: len(text) * room // length]
    return text
