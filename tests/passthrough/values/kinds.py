"""Types whose values tasks take and return."""

import datetime as dt
import decimal
import enum
import uuid
from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any
from typing import Literal as Constant

from pydantic import BaseModel, Field, create_model


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


class Tree(BaseModel):
    value: int
    children: list["Tree"]


PARTS: Any = [("level", Level), ("pair", tuple[int, str]), ("names", dict[int, str])]
Parts = make_dataclass("Parts", PARTS)
KINDS: Any = (Constant["cat"], Constant["dog"])
Cat, Dog = create_model("Cat", kind=KINDS[0]), create_model("Dog", kind=KINDS[1])
PET: Any = Annotated[Cat | Dog, Field(discriminator="kind")]
Owner = create_model("Owner", pet=PET)
