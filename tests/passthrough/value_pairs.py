"""Random types and values, sent by the SDK and by `passthrough.values`, as a task reads them.

Usage: python -m tests.passthrough.value_pairs PAIRS [SEED]   (with a project on the path)

The SDK is not changed in this process. A value is encoded with ``TypeEngine``; the JSON that
`to_json` shows of it, with some fields left out that have their defaults, with `to_literals`;
``TypeEngine`` reads both. Prints the differences as JSON.
"""

# mypy: ignore-errors
# It makes types at run time.

import asyncio
import dataclasses
import datetime as dt
import decimal
import enum
import json
import logging
import random
import sys
import uuid
from collections import Counter
from typing import Any, Literal, NamedTuple, Optional, TypedDict, Union

import pydantic
from flyte.types import TypeEngine

from passthrough.values import InvalidInputs, to_json, to_literals

VALUES = 50
"""How many values of each type: making types takes most of the time."""


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Swapped(enum.Enum):
    """Its names are the values of other members."""

    A = "B"
    B = "C"
    C = "A"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


WRITTEN_AS_TEXT = {dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID, decimal.Decimal}
WRITTEN_AS_TEXT |= {Colour, Swapped, Level, Literal["a", "b"]}


class Random:
    """Makes types and values of them."""

    def __init__(self, seed: int) -> None:
        self.of = random.Random(seed)
        self.names = 0

    def a_type(self, depth: int = 0, inside: str = "") -> Any:  # noqa: PLR0911
        """Make a type; ``inside`` is "dataclass" or "model", or "" for a task's parameter."""
        plain = [int, float, str, bool, dt.datetime, dt.date, dt.timedelta, Colour, Swapped, Level]
        if inside:
            plain += [dt.time, uuid.UUID, decimal.Decimal, Literal["a", "b"], Any]
        if inside == "dataclass":
            plain += [set[int], dict[int, str], tuple[int, ...]]
        if depth > 2 or self.of.random() < 0.4:
            return self.of.choice(plain)
        kinds = [list, dict, Optional, Union, dataclasses, pydantic]
        kinds += [tuple] * (depth == 0 or bool(inside)) + [NamedTuple, TypedDict] * (depth == 0)
        kind, depth = self.of.choice(kinds), depth + 1
        self.names += 1
        if kind is Union:
            some = [
                int,
                float,
                str,
                bool,
                dt.date,
                dt.datetime,
                Colour,
                *[uuid.UUID] * bool(inside),
            ]
            return Union[*self.of.sample(some, 3), self.a_type(depth + 1, inside)] | None
        if kind is tuple:
            return tuple[self.a_type(depth, "model"), self.a_type(depth, "model")]
        if kind is NamedTuple or kind is TypedDict:
            fields = {name: self.a_type(depth, "model") for name in "ab"}
            return kind(f"Named{self.names}", [*fields.items()] if kind is NamedTuple else fields)
        if kind is dataclasses or (kind is pydantic and inside == "dataclass"):
            return self.dataclass_type(depth, inside)  # mashumaro does not encode models
        if kind is pydantic:
            return pydantic.create_model(f"Model{self.names}", **self.fields(depth, "model"))
        args = (str, self.a_type(depth, inside)) if kind is dict else self.a_type(depth, inside)
        return kind[args]

    def fields(self, depth: int, inside: str) -> dict[str, tuple[Any, Any]]:
        """Make fields; those with a default may be left out."""
        made = {}
        for name in "abcd"[: self.of.randint(1, 4)]:
            kind = self.a_type(depth, inside)
            made[name] = kind, (self.a_value(kind) if self.of.random() < 0.5 else ...)
        return dict(sorted(made.items(), key=lambda item: item[1][1] is not ...))

    def dataclass_type(self, depth: int, inside: str) -> Any:
        name, made = f"Data{self.names}", []
        for field, (kind, default) in self.fields(depth, inside or "dataclass").items():
            options = {} if default is ... else {"default_factory": lambda each=default: each}
            made.append((field, kind, dataclasses.field(**options)))
        return dataclasses.make_dataclass(name, made)

    def a_value(self, kind: Any) -> Any:  # noqa: PLR0911
        """Make a value of a type."""
        r = self.of
        origin, args = getattr(kind, "__origin__", None), getattr(kind, "__args__", ())
        if dataclasses.is_dataclass(kind):
            given = {
                field.name: self.a_value(field.type)
                for field in dataclasses.fields(kind)
                if field.default_factory is dataclasses.MISSING or r.random() < 0.5
            }
            return kind(**given)
        if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
            given = {
                name: self.a_value(field.annotation)
                for name, field in kind.model_fields.items()
                if field.is_required() or r.random() < 0.5
            }
            return kind.model_construct(**given)
        if hasattr(kind, "_fields"):
            return kind(*map(self.a_value, kind.__annotations__.values()))
        if hasattr(kind, "__total__"):
            return {name: self.a_value(each) for name, each in kind.__annotations__.items()}
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return r.choice(list(kind))
        if origin is Literal:
            return r.choice(args)
        if origin is list:
            return [self.a_value(args[0]) for _ in range(r.randint(0, 3))]
        if origin is set:
            return {self.a_value(args[0]) for _ in range(r.randint(0, 3))}
        if origin is dict:
            return {self.a_value(args[0]): self.a_value(args[1]) for _ in range(r.randint(0, 3))}
        if origin is tuple:
            args = args[:1] * r.randint(0, 3) if args[-1] is ... else args
            return tuple(map(self.a_value, args))
        if str in args:  # JSON does not tell a date from a text, for example
            return self.a_value(r.choice([kind for kind in args if kind not in WRITTEN_AS_TEXT]))
        if args:
            return self.a_value(r.choice(args))
        moment = dt.datetime(r.randint(1, 9999), 2, 28, 1, 2, 3, r.randint(0, 999_999), dt.UTC)
        return {
            int: lambda: r.choice([0, 7, -(2**63), 2**63 - 1, 2**53 + 1]),
            float: lambda: r.choice([0.0, -0.0, 1.0, 1e300, 5e-324, r.random(), 2.0**60]),
            str: lambda: r.choice(
                ["", "12", "ñ<b>\n", "2024-01-02", "true", "RED", "red", "PT1S", str(uuid.uuid4())]
            ),
            bool: lambda: r.random() < 0.5,
            dt.datetime: lambda: moment,
            dt.date: moment.date,
            dt.time: moment.time,
            dt.timedelta: lambda: dt.timedelta(r.randint(-9999, 9999), 1, r.randint(0, 999_999)),
            uuid.UUID: lambda: uuid.UUID(int=r.getrandbits(128)),
            decimal.Decimal: lambda: decimal.Decimal(r.getrandbits(80)) / 8,
            Any: lambda: r.choice([None, 1, 1.0, "x", [1, {"a": None}]]),
            type(None): lambda: None,
        }[kind]()


def without_defaults(shown: Any, value: Any, chance: random.Random) -> Any:
    """Leave out some fields of a shown value, at any depth, that have their defaults."""
    if isinstance(value, list | tuple) and isinstance(shown, list):
        return [without_defaults(*pair, chance) for pair in zip(shown, value, strict=True)]
    if not isinstance(shown, dict):
        return shown
    defaults: dict[str, Any] = {}
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            if field.default_factory is not dataclasses.MISSING:
                defaults[field.name] = field.default_factory()
    elif isinstance(value, pydantic.BaseModel):
        for name, field in type(value).model_fields.items():
            if not field.is_required():
                defaults[name] = field.default
    held = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    return {
        name: without_defaults(each, held.get(name), chance)
        for name, each in shown.items()
        if not (
            name in defaults
            and canonical(defaults[name]) == canonical(held[name])
            and chance.random() < 0.5
        )
    }


def canonical(value: Any) -> Any:
    """Return what is compared: types too, but neither the order of keys nor the kind of UTC."""
    if isinstance(value, dict):
        return sorted((repr(key), canonical(each)) for key, each in value.items())
    if isinstance(value, set):
        return sorted(map(repr, value))
    if isinstance(value, list | tuple):
        return type(value).__name__, [canonical(each) for each in value]
    if dataclasses.is_dataclass(value) or isinstance(value, pydantic.BaseModel):
        return type(value).__name__, canonical(vars(value))
    text = value.isoformat() if isinstance(value, dt.datetime) else repr(value)
    return type(value).__name__, text


def main(pairs: int, seed: int) -> None:
    """Compare this many pairs, and print what was found."""
    logging.disable()
    make, run = Random(seed), asyncio.new_event_loop().run_until_complete
    outcomes, different = Counter[str](), list[str]()
    while outcomes.total() < pairs:
        kind = make.a_type()
        try:
            declared = TypeEngine.to_literal_type(kind)
        except Exception:  # noqa: BLE001 # not a type that the SDK can send
            continue
        for _ in range(VALUES):
            value = make.a_value(kind)
            try:
                theirs = run(TypeEngine.to_literal(value, kind, declared))
                expected = run(TypeEngine.to_python_value(theirs, kind))
            except Exception:  # noqa: BLE001 # not a value that the SDK can send
                break
            shown = json.loads(json.dumps(to_json([("a", theirs)])["a"]))
            given = without_defaults(shown, expected, make.of)
            try:
                ours = to_literals({"a": given}, {"a": declared})["a"]
                found = run(TypeEngine.to_python_value(ours, kind))
            except InvalidInputs:  # what the SDK writes for some unions fits none of their types
                outcomes["refused"] += 1
                continue
            is_equal = canonical(found) == canonical(expected)
            outcomes["equal" if is_equal else "different"] += 1
            if not is_equal:
                different.append(f"{kind}: {given!r} became {found!r}, not {expected!r}")
    print(json.dumps({"seed": seed, **outcomes, "different": different[:20]}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else random.getrandbits(32))
