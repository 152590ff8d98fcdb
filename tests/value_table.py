"""What a value may be, and what becomes of it on its way: the rows of docs/values.md of a project.

``python -m tests.value_table`` writes the page's table. ``tests/passthrough/test_values.py``
proves each row by HTTP and with the SDK's own type engine, which reads values in tasks.
"""

import datetime as dt
import enum
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from flyte.io import DataFrame, File
from pydantic import BaseModel

PAGE = Path(__file__).parents[1] / "{{cookiecutter.project_slug}}/docs/values.md"
BEGIN, END = "<!-- made by tests/value_table.py -->", "<!-- end -->"
REFUSED = "refused: "


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: float = 2.0


class Numbers(BaseModel):
    names: dict[int, str]


class Row(NamedTuple):
    """One value: of which type, and what becomes of it."""

    called: str
    kind: Any
    sent: str
    """JSON, as it stands in a body."""
    received: Any
    """The task's argument; or a text that begins with `REFUSED`."""
    shown: str = ""
    """JSON, as it stands in an answer; the same as what was sent if it is empty."""

    @property
    def refusal(self) -> str:
        """Why it is refused; empty if it is not."""
        is_refused = isinstance(self.received, str) and self.received.startswith(REFUSED)
        return self.received.removeprefix(REFUSED) if is_refused else ""


AT_9_30 = dt.datetime(2026, 1, 31, 9, 30, tzinfo=dt.UTC)
AT_7_30 = AT_9_30 - dt.timedelta(hours=2)
FILE, TABLE = File(path="s3://bucket/key"), DataFrame(uri="s3://bucket/key")
SHOWN = '{{"kind": "{}", "uri": "s3://bucket/key"}}'
NO_TIME = f"{REFUSED}must be of the format date-time, such as 2026-01-31T09:30:00.250Z"
NO_DURATION = f"{REFUSED}must be of the format duration, such as P1DT2H30M"
TOO_LARGE = f'{REFUSED}a number is too large for JSON: infinity is written "Infinity"'
NO_INTEGER = f"{REFUSED}must be of type integer"
AMBIGUOUS = f"{REFUSED}matches 2 types of the union: ambiguous"
ONE_KEY = f"{REFUSED}would be the same key as another, if they are numbers"
PICKLE = f"{REFUSED}cannot be given: a Python object, which Flyte stores as a pickle"
ROWS = (
    Row("integer", int, "9223372036854775807", 2**63 - 1),
    Row("integer", int, "9223372036854775808", f"{REFUSED}must be an integer of 64 bits"),
    Row("integer", int, "1.0", NO_INTEGER),
    Row("integer", int, '"1"', NO_INTEGER),
    Row("number", float, "1", 1.0, "1.0"),
    Row("number", float, "-0.0", -0.0),
    Row("number", float, '"NaN"', math.nan),
    Row("number", float, "1e400", TOO_LARGE),
    Row("number or text", float | str, "1", 1.0, "1.0"),
    Row("number or text", float | str, '"1"', "1"),
    Row("number or text", float | str, '"NaN"', AMBIGUOUS),
    Row("boolean", bool, "true", True),
    Row("boolean", bool, "1", f"{REFUSED}must be of type boolean"),
    Row("text", str, '"a\\r\\n\\u0000 \\u202e"', "a\r\n\x00 \u202e"),
    Row("text", str, '"\\ud800"', f"{REFUSED}must be Unicode text"),
    Row("optional text", str | None, "null", None),
    Row("date-time", dt.datetime, '"2026-01-31T09:30:00Z"', AT_9_30),
    Row("date-time", dt.datetime, '"2026-01-31T09:30:00+02:00"', AT_7_30, '"2026-01-31T07:30:00Z"'),
    Row("naive date-time", dt.datetime, '"2026-01-31T09:30:00"', AT_9_30, '"2026-01-31T09:30:00Z"'),
    Row("date-time", dt.datetime, '"2026-01-31"', NO_TIME),
    Row("date-time", dt.datetime, '"2026-01-31T09:30:00.1234567Z"', NO_TIME),
    Row("duration", dt.timedelta, '"P1DT2H"', dt.timedelta(days=1, hours=2), '"PT93600S"'),
    Row("duration", dt.timedelta, '"-PT1.5S"', dt.timedelta(seconds=-1.5)),
    Row("duration", dt.timedelta, '"P1M"', NO_DURATION),
    Row("choice", Color, '"RED"', Color.RED),
    Row("choice", Color, '"red"', f"{REFUSED}must be RED or BLUE"),
    Row("list", list[int], "[1, 2]", [1, 2]),
    Row("map", dict[str, int], '{"b": 1, "a": 2}', {"a": 2, "b": 1}, '{"a": 2, "b": 1}'),
    Row("dataclass", Point, '{"x": 1}', Point(1)),
    Row("dataclass", Point, '{"x": 1, "y": "Infinity"}', Point(1, math.inf)),
    Row("dataclass", Point, '{"x": 1, "z": 1}', f"{REFUSED}there is no such field"),
    Row("model", Numbers, '{"names": {"1": "a"}}', Numbers(names={1: "a"})),
    Row("model", Numbers, '{"names": {"1": "a", "01": "b"}}', ONE_KEY),
    Row("file", File, '"s3://bucket/key"', FILE, SHOWN.format("file")),
    Row("file", File, '"key"', f"{REFUSED}must be of the format uri"),
    Row("dataframe", DataFrame, '"s3://bucket/key"', TABLE, SHOWN.format("dataframe")),
    Row("Python object", bytes, '"AA=="', PICKLE),
)


def _written(received: Any) -> str:
    if isinstance(received, File | DataFrame):
        return f"{type(received).__name__} of the URI"
    if isinstance(received, enum.Enum):
        return str(received)
    if isinstance(received, str):
        return json.dumps(received)
    return repr(received).replace("datetime.", "")


def page() -> str:
    """Return the page with its table."""
    table = ["| Type | Sent | Arrives in the task as | Shown |", "|---|---|---|---|"]
    for row in ROWS:
        received = row.received if row.refusal else f"`{_written(row.received)}`"
        shown = "" if row.refusal else f"`{row.shown or row.sent}`"
        table.append(f"| {row.called} | `{row.sent}` | {received} | {shown} |")
    before, rest = PAGE.read_text("utf-8").split(BEGIN)
    return "\n".join([before + BEGIN, "", *table, "", END + rest.split(END)[1]])


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
