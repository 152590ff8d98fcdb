"""Finds endpoints that give or change objects of another user in the app's own database.

Flyte decides who may see a run, but only the app decides who may see a row of its database.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from . import Person
from .operations import Endpoints, Operation, needs_object
from .visits import ExampleRun, Exchange, Visits

REFUSED = {401, 403, 404, 409, 410}
CAUSES = (
    "Possible causes, the most likely first: a query of the database has no condition on the owner;"
    " the owner is a value of the request, instead of the subject of `CallerDep`; nobody checks the"
    " role of the caller; a global, a cache or `app.state` keeps data."
)
UNIQUE = "If a value must be unique for all users, say so in the example with 'shared'."
Values = dict[str, str]
"""Maps the place of each text and number in a response to the value."""


@dataclass(frozen=True)
class Problem:
    """What is wrong, and the exchanges that show it."""

    text: str
    exchanges: Sequence[Exchange]


def has_owner(endpoints: Endpoints, operation: Operation) -> bool:
    """Return whether the example of an operation contains an object or a role of the user."""
    example = endpoints.example(operation)
    has_owner = needs_object(example) or "only" in example
    return has_owner and not endpoints.is_shared(operation)


def check_foreign_request(
    visits: Visits, operation: Operation, way: str, operations: Sequence[Operation]
) -> Problem | None:
    """Let zoe send a request that was prepared for ann, and return the problem if there is one."""
    with visits.example_run() as run:
        ann, zoe = visits.add_user("ann"), visits.add_user("zoe")
        request = visits.prepare(ann, run, operation)
        foreign = _ForeignRequest(visits, operation, way, run, ann, zoe, request)
        return (
            foreign.check_reading() if operation[0] == "GET" else foreign.check_writing(operations)
        )


@dataclass(frozen=True)
class _ForeignRequest:
    """A request that was prepared for ann, and that zoe also sends."""

    visits: Visits
    operation: Operation
    way: str
    run: ExampleRun
    ann: Person
    zoe: Person
    request: Endpoints

    def check_reading(self) -> Problem | None:
        """Check that zoe's response contains nothing of ann's response."""
        mine, foreign, again = self._send(self.ann), self._send(self.zoe), self._send(self.ann)
        if problem := self._check_status(foreign, again):
            return problem
        if foreign.status in REFUSED:
            return None
        own = self.visits.prepare(self.zoe, self.run, self.operation)
        response = self.visits.send(self.zoe, own, self.operation, self.way)
        sent = f"{self.request.path(self.operation)} {self.request.example(self.operation)}"
        known = sent.lower() + response.response.text.lower() + foreign.received
        private = {value for value in _values(mine).values() if value.lower() not in known}
        if leaked := private & {*_values(foreign).values()}:
            text = f"zoe's response to ann's request contains {min(leaked, key=len)!r} of ann"
            return Problem(f"{text}. {CAUSES}", [mine, foreign])
        if _values(mine) and _values(mine) == _values(foreign) and not foreign.needs_rights:
            return Problem(f"zoe and ann get the same response. {CAUSES}", [mine, foreign])
        return None

    def check_writing(self, operations: Sequence[Operation]) -> Problem | None:
        """Check that zoe's request changes nothing that ann reads, and that ann can send hers."""
        readings = self._prepare_readings(operations)
        before = [self._read(readings) for _ in range(2)]
        foreign, after, mine = self._send(self.zoe), self._read(readings), self._send(self.ann)
        if problem := self._check_status(foreign, mine):
            return problem
        if foreign.status in REFUSED:
            return None
        for reading in readings:
            if change := _change(before[0][reading], before[1][reading], after[reading]):
                text = f"zoe's request changes what ann reads with {' '.join(reading)}: {change}"
                exchanges = [foreign, before[1][reading], after[reading]]
                return Problem(f"{text}. {CAUSES}", exchanges)
        if problem_of_ann := self.visits.problem_of(mine):
            text = f"zoe's request succeeds, and then ann's own request fails. {UNIQUE} {CAUSES}"
            return Problem(f"{text} {problem_of_ann}", [foreign, mine])
        return None

    def _send(self, user: Person) -> Exchange:
        self.run.copy(self.operation)
        return self.visits.send(user, self.request, self.operation, self.way, keeps_runs=True)

    def _check_status(self, foreign: Exchange, mine: Exchange) -> Problem | None:
        """Check that zoe is refused, or may be served, and that ann can still send her request."""
        if foreign.status in REFUSED:
            if problem := self.visits.problem_of(mine):
                return Problem(
                    f"zoe is refused, but then ann fails, too. {problem}", [foreign, mine]
                )
        elif foreign.status >= 400:
            text = f"zoe gets {foreign.status} for ann's request, and not one of {sorted(REFUSED)}"
            return Problem(text, [foreign])
        elif only := self.visits.endpoints.example(foreign.operation).get("only"):
            text = f"zoe succeeds, but only {only} may send this request. {CAUSES}"
            return Problem(text, [foreign])
        return None

    def _prepare_readings(self, operations: Sequence[Operation]) -> dict[Operation, Endpoints]:
        """Prepare the GET requests of ann, with the objects in the path of the request."""
        path = self.request.example(self.operation).get("path", {})
        same = path if isinstance(path, Mapping) else {}
        return {
            reading: self.visits.prepare(self.ann, self.run, reading, same)
            for reading in operations
            if reading[0] == "GET"
            and self.visits.endpoints.is_private(reading)
            and not self.visits.first(reading, "endpoint").is_stream
        }

    def _read(self, readings: Mapping[Operation, Endpoints]) -> dict[Operation, Exchange]:
        return {
            one: self.visits.send(self.ann, endpoints, one, "endpoint", keeps_runs=True)
            for one, endpoints in readings.items()
        }


def check_traces(
    beginning: Sequence[Mapping[Operation, Exchange]], end: Mapping[Operation, Exchange]
) -> list[Problem]:
    """Compare GET responses of two users in a new process with those of a user in a used process.

    The users own nothing. Differences between the first two users, such as times, are no problem.
    """
    first, second = beginning
    problems = []
    for operation, exchange in end.items():
        if change := _change(first[operation], second[operation], exchange):
            text = (
                "Requests of other users have changed the response for a new user who owns nothing:"
                f" {change}. {CAUSES}"
            )
            problems.append(Problem(text, [second[operation], exchange]))
    return problems


def _change(first: Exchange, second: Exchange, later: Exchange) -> str | None:
    """Return a difference of the later exchange from both earlier ones, or None.

    If Flyte has sent other data to the later user, the difference may come from Flyte.
    """
    if later.received != second.received or later.is_stream:
        return None
    if first.status == second.status != later.status:
        return f"the status is {later.status} instead of {second.status}"
    values = [_values(one) for one in (first, second, later)]
    for place in dict.fromkeys(chain(*values)):
        one, other, now = (found.get(place) for found in values)
        if one == other != now:
            return f"{place or 'the text'} is {now!r} instead of {other!r}"
    return None


def _values(exchange: Exchange) -> Values:
    """Return the texts and numbers in a response, except shared fields and names of the user."""
    text = exchange.own_text
    try:
        return dict(_leaves("", json.loads(text)))
    except ValueError:
        return {"": text} if text else {}


def _leaves(place: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        parts = [(f"{place}.{key}".lstrip("."), one) for key, one in value.items()]
    elif isinstance(value, list):
        parts = [(f"{place}[{number}]", one) for number, one in enumerate(value)]
    else:
        return [] if value in (None, "") or isinstance(value, bool) else [(place, str(value))]
    return [*chain.from_iterable(_leaves(*part) for part in parts)]
