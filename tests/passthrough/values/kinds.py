"""Types whose values tasks take and return."""

import datetime as dt
import decimal
import enum
import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any
from typing import Literal as Constant

from pydantic import BaseModel, Field, SecretStr, create_model


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: float = 2.0


class Numbers(BaseModel):
    names: dict[int, str]


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Swapped(enum.Enum):
    """Its names are the values of other members."""

    A = "B"
    B = "A"


ODD = {"at": dt.time, "id": uuid.UUID, "amount": decimal.Decimal, "numbers": set[int]}
Odd = make_dataclass("Odd", [*ODD.items(), ("more", tuple[int, ...])])


@dataclass
class Painted:
    color: Color
    swapped: Swapped


class Leveled(BaseModel):
    level: Level
    by: Color | bool | None = None
    since: Color | dt.date | None = None


class Wall(BaseModel):
    """The SDK lists an enum's names everywhere, but a dataclass in a model takes its values."""

    color: Color
    painted: Painted
    maybe: Color | None = None


class Half(enum.Enum):
    HALF = 0.5
    MORE = 1.5


class Tree(BaseModel):
    value: int
    children: list["Tree"]


PARTS: Any = [("level", Level), ("pair", tuple[int, str]), ("names", dict[int, str])]
Parts = make_dataclass("Parts", PARTS)
KINDS: Any = (Constant["cat"], Constant["dog"])
Cat, Dog = create_model("Cat", kind=KINDS[0]), create_model("Dog", kind=KINDS[1])
PET: Any = Annotated[Cat | Dog, Field(discriminator="kind")]
Owner = create_model("Owner", pet=PET)


@dataclass
class One:
    a: int


@dataclass
class Two:
    a: float
    b: str = ""


ModelOne = create_model("ModelOne", a=int)
ModelTwo = create_model("ModelTwo", a=float, b=(str, ""))
Secret = create_model("Secret", password=(SecretStr, SecretStr("s3cret")), port=(int, 1))


def with_union(union: Any) -> Any:
    """Make a dataclass with a field of this type."""
    return make_dataclass("WithUnion", [("u", union)])


def model_with_union(union: Any) -> Any:
    """Make a model with a field of this type."""
    return create_model("ModelWithUnion", u=union)


NOW = dt.datetime(2024, 1, 2, 3, 4, 5, 678000, tzinfo=dt.UTC)
VALUES: dict[Any, list[Any]] = {
    int: [0, 1, -1, 42, 10**15, 2**53 + 1, 2**63 - 1, -(2**63)],
    float: [0.0, -0.0, 1.0, 2.5, 1e16, -1e300, 5e-324, 0.1 + 0.2],
    str: ["", "a", "1", "null", " x ", "\u00e4\u20ac\U0001f600", "a\r\n\0 \u202e", "a" * 1000],
    bool: [True, False],
    dt.datetime: [NOW, NOW.replace(microsecond=0), NOW.replace(year=1, microsecond=1)],
    dt.date: [NOW.date(), dt.date.min.replace(year=2), dt.date.max],
    dt.timedelta: [dt.timedelta(days=1, hours=2), dt.timedelta(microseconds=-1), dt.timedelta()],
    Color: [*Color],
    Level: [*Level],
    Half: [*Half],
    uuid.UUID: [uuid.UUID(int=5), uuid.UUID(int=2**128 - 1)],
    decimal.Decimal: [decimal.Decimal("0.10"), decimal.Decimal(12345678901234567890)],
}
IN_PARTS_ONLY = {uuid.UUID, decimal.Decimal, Half, Level}
"""Types that the SDK stores in a dataclass or a model, but not as JSON by themselves."""


def typed_values() -> Iterator[tuple[Any, Any]]:
    """Yield types with values: alone, in lists, maps and unions, and in dataclasses and models."""
    kind: Any
    for kind, values in VALUES.items():
        more: Any = [("first", kind), ("rest", list[kind]), ("maybe", kind | None, None)]
        dataclass_of = make_dataclass(f"{kind.__name__.title()}Fields", more)
        fields: Any = {"rest": (list[kind], ...), "first": (kind, ...)}
        fields |= {"maybe": (kind | None, None)}
        model_of = create_model(f"{kind.__name__.title()}Model", **fields)
        for value in values:
            yield dataclass_of, dataclass_of(value, values, value)
            yield dataclass_of, dataclass_of(value, [], None)
            yield model_of, model_of(first=value, rest=values, maybe=value)
            yield model_of, model_of(first=value, rest=[])
            if kind not in IN_PARTS_ONLY:
                yield kind, value
                yield kind | None, value
                yield dict[str, kind], {"a": value, "b": value}
        if kind not in IN_PARTS_ONLY:
            yield list[kind], values
            yield kind | None, None
    yield float, math.inf
    yield One | None, One(1)
    yield Two, Two(1.0)
    yield list[Two], [Two(1.0, "b"), Two(-0.0)]
