"""Every field of every message that Flyte answers with, and hostile values, from descriptors."""

import pkgutil
import random
from collections.abc import Callable, Iterator
from functools import cache, lru_cache, partial
from importlib import import_module
from typing import Any

from connectrpc.code import Code
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from . import inputs
from .repeating import Answer, Change

LARGEST = 2_400_000  # bytes of a message; the app refuses 2.5 MB
TEXT = 1_000_000
ENTRIES = 30_000
LEVELS = 60
DEPTH = 10  # of the fields that are looked at

Path = tuple[FieldDescriptor, ...]


@cache
def _texts(size: int) -> dict[str, str]:
    letters = inputs.VALUES["random text"].strip('"')
    return {
        "text": (letters * 9)[:size],
        "spaces": " " * size,
        "zeros": "0" * size,
        "lists": "[" * (size // 2) + "]" * (size // 2),
    }


@cache
def _bytes(size: int) -> dict[str, bytes]:
    """Return values in msgpack, which keeps those of dataclasses, and noise."""
    length = (size // 6).to_bytes(4)
    return {
        "noise": random.Random(0).randbytes(size),
        "keys that are maps": b"\x81" * 26 + b"\xc0" * 27,
        "empty maps": b"\xdd" + length + b"\x80" * (size // 6),
        "extensions": b"\xdd" + length + b"\xd6\xff\0\0\0\1" * (size // 6),
        "lists": b"\x91" * 1000 + b"\xc0",
        "a text": b"\xdb" + size.to_bytes(4) + b" " * size,
    }


NUMBERS: dict[int, list[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: [2**31 - 1, -(2**31)],
    FieldDescriptor.CPPTYPE_INT64: [2**63 - 1, -(2**63)],
    FieldDescriptor.CPPTYPE_UINT32: [2**32 - 1],
    FieldDescriptor.CPPTYPE_UINT64: [2**64 - 1],
    FieldDescriptor.CPPTYPE_DOUBLE: [float("nan"), float("inf"), -1.7e308],
    FieldDescriptor.CPPTYPE_FLOAT: [float("nan"), float("inf")],
    FieldDescriptor.CPPTYPE_ENUM: [9_999, -1],
}


@cache
def kind_of(method: str) -> Any:
    """Return the class of a method's answers; the method is named ``package.Service:Method``."""
    service, _, name = method.partition(":")
    package = import_module(service.rpartition(".")[0])
    for each in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if each.name.endswith("service_pb2"):  # which stubs do not always import
            import_module(each.name)
    found = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    return message_factory.GetMessageClass(found.output_type)


def _entry(field: FieldDescriptor) -> dict[str, FieldDescriptor]:
    """Return the key and the value of a map; of another field, nothing."""
    kind = field.message_type
    return dict(kind.fields_by_name) if kind and kind.GetOptions().map_entry else {}


def _inside(field: FieldDescriptor) -> Descriptor | None:
    """Return the type of the messages in a field."""
    return _entry(field).get("value", field).message_type


def _has_texts(field: FieldDescriptor) -> bool:
    """Tell whether a field, or the keys of a map, are texts."""
    return _entry(field).get("key", field).cpp_type == field.CPPTYPE_STRING


def paths(kind: Descriptor, above: Path = ()) -> Iterator[Path]:
    """Yield the path of each field below a message; a type comes once on each path."""
    seen = {kind.full_name, *(each.full_name.rpartition(".")[0] for each in above)}
    for field in kind.fields:
        yield (*above, field)
        inner = _inside(field)
        if inner and inner.full_name not in seen and len(above) < DEPTH:
            yield from paths(inner, (*above, field))


def _cycle(kind: Descriptor, start: FieldDescriptor) -> Path:
    """Return the shortest path from a field of a message to another message of that type."""
    ways: list[Path] = [(start,)]
    seen = set[str]()
    for way in ways:
        inner = _inside(way[-1])
        if inner and inner.full_name == kind.full_name:
            return way
        if inner and inner.full_name not in seen:
            seen.add(inner.full_name)
            ways += [(*way, field) for field in inner.fields]
    return ()


def _reach(message: Any, path: Path) -> Any:
    """Return the message at a path, of several the first; it is made if it is not there."""
    for field in path:
        value = getattr(message, field.name)
        if _entry(field):
            message = value[next(iter(value), "key" if _has_texts(field) else 1)]
        elif field.is_repeated:
            message = value[0] if value else value.add()
        else:
            value.SetInParent()
            message = value
    return message


def _set(path: Path, value: Any, message: Any) -> None:
    """Set a field; a repeated one has it once, and as the value of a map's key."""
    field, message = path[-1], _reach(message, path[:-1])
    if _entry(field):
        _fill_map(field, getattr(message, field.name), [value])
    elif field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def _fill_map(field: FieldDescriptor, found: Any, keys: list[Any]) -> None:
    for key in keys:
        if _inside(field):
            found[key].SetInParent()
        else:
            found[key] = type(_entry(field)["value"].default_value)()


def _fill(path: Path, entries: int, message: Any) -> None:
    """Give a repeated field or a map so many entries, like one that it has."""
    field, message = path[-1], _reach(message, path[:-1])
    found = getattr(message, field.name)
    if _entry(field):
        _fill_map(field, found, [str(n) if _has_texts(field) else n for n in range(entries)])
    elif field.message_type:
        entry = found[0] if found else found.add()
        found.extend([entry] * min(entries, LARGEST // (entry.ByteSize() + 8)))
    else:
        found.extend([found[0] if found else "" if _has_texts(field) else 0] * entries)


def _nest(path: Path, cycle: Path, message: Any) -> None:
    message = _reach(message, path)
    for _ in range(LEVELS // len(cycle)):
        message = _reach(message, cycle)


def _clear(path: Path, message: Any) -> None:
    _reach(message, path[:-1]).ClearField(path[-1].name)


def fields_of(
    kind: Any, size: int, entries: int
) -> Iterator[tuple[str, str, Callable[[Any], None]]]:
    """Yield each field of a message, what is odd about its value, and what changes it."""
    for path in paths(kind.DESCRIPTOR):
        field = path[-1]
        name = ".".join(each.name for each in path)
        values: dict[str, Any] = {}
        if field.type == field.TYPE_BYTES:
            values = dict(_bytes(size))
        elif _has_texts(field):
            values = dict(_texts(size))
        values |= {str(each): each for each in NUMBERS.get(field.cpp_type, ())}
        for what, value in values.items():
            yield name, what, partial(_set, path, value)
        if field.is_repeated:
            yield name, f"{ENTRIES:,} entries", partial(_fill, path, entries)
        yield name, "missing", partial(_clear, path)
        inner = _inside(field)
        for start in inner.fields if inner else ():
            if inner and (cycle := _cycle(inner, start)):
                yield name, f"{LEVELS} levels of {start.name}", partial(_nest, path, cycle)


def _fifty(message: Any) -> None:
    """Make fifty entries of each list at the top of a message, or in a message there."""
    inside = [each for _, each in message.ListFields() if hasattr(each, "ListFields")]
    for holder in (message, *inside):
        for _, entries in holder.ListFields():
            if hasattr(entries, "add"):  # messages
                first = max(entries, key=lambda each: each.ByteSize())
                entries.extend([first] * (49 if first.ByteSize() * 50 < LARGEST else 0))


def cases(
    operations: list[inputs.Operation],
    answers: dict[str, dict[str, list[Answer]]],
    turn: int | None = None,
) -> Iterator[inputs.Case]:
    """Yield a case for each change of each method's answers to operations.

    If ``turn`` is given, each change comes with one of the operations that call the method, which
    is another one in another turn; else with all of them.
    """
    for method in sorted({method for each in answers.values() for method in each}):
        callers = [each for each in operations if method in answers[each.name]]
        for number, (field, how, change) in enumerate(_changes(method)):
            one = (number + (turn or 0)) % len(callers)
            for operation in callers if turn is None else [callers[one]]:
                who = inputs.COOKIE if "credential" in how else inputs.USUAL
                make = partial(inputs.request, operation, inputs.CALLERS[who])
                name = f"{method.rpartition(':')[2]}.{field}"
                yield inputs.Case(operation, name, how, make, inputs.SECRET, change)


def _changes(method: str) -> Iterator[tuple[str, str, Change]]:
    """Yield each field of a method's answers, what is odd about it, and the change.

    Each also with fifty entries in the lists that the operation reads, of this or other methods.
    """
    for name, what, put in fields_of(kind_of(method), TEXT, ENTRIES):
        yield name, what, partial(_changed, method, put, 1)
    for name, what, put in fields_of(kind_of(method), LARGEST // 60, LARGEST // 110):
        if what in {"text", "empty maps", f"{ENTRIES:,} entries"}:
            yield name, f"{what}, 50 times", partial(_changed, method, put, 50)
    bodies = {"noise": bytes(range(256)) * 9, "nothing": b"", "too large": bytes(9_000_000)}
    for what, body in bodies.items():
        yield "all", what, partial(_instead, method, body)
    yield "all", f"{ENTRIES:,} times", lambda m, old: [old] * (ENTRIES if m == method else 1)
    texts = _texts(TEXT) | {"the credential": 17 * inputs.SECRET}
    for code in [each.value for each in Code if each is not Code.UNAVAILABLE]:  # it is repeated
        for what, text in texts.items():
            error = {"code": code, "message": text}
            yield "error", f"{code} {what}", partial(_instead, method, error)


def _instead(
    wanted: str, answer: bytes | dict[str, str], method: str, message: bytes
) -> list[bytes | dict[str, str]]:
    return [answer if method == wanted else message]


@lru_cache(maxsize=4)  # fifty details of one list are the same
def _changed(
    wanted: str, put: Callable[[Any], None], times: int, method: str, message: bytes
) -> list[bytes]:
    if method != wanted and times == 1:
        return [message]
    parsed = kind_of(method).FromString(message)
    if method == wanted:
        put(parsed)
    if times > 1:
        _fifty(parsed)
    return [parsed.SerializeToString()]
