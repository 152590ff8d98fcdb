"""The people one can be on the local Flyte, and how their credentials are recognised."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from flyteidl2.common import identifier_pb2, identity_pb2

COOKIE = "flyte_at"
"""The cookie in which the sign-in page of a Flyte cluster keeps the access token."""


@dataclass(frozen=True)
class Person:
    """Someone the local Flyte knows.

    The credentials are readable on purpose, so that a ``curl`` line can be pasted. They are worth
    something only to a server that listens on this machine's loopback interface and was started
    for development or a test; they are left out of ``repr`` all the same.
    """

    name: str
    subject: str
    given_name: str
    family_name: str
    email: str
    token: str = field(repr=False)
    """Goes into ``Authorization: Bearer <token>``."""
    cookie: str = field(repr=False)
    """A whole ``Cookie`` header value, naming one cookie."""
    can_view: bool = True
    """May see the project's tasks, runs and apps."""
    can_run: bool = True
    """May start runs, and deploy."""
    expired: bool = False
    """The credentials were good once: they are refused as no longer valid."""

    @property
    def identity(self) -> identity_pb2.EnrichedIdentity:
        """The person as Flyte names them in ``executed_by``, ``deployed_by`` and the like."""
        return identity_pb2.EnrichedIdentity(
            user=identity_pb2.User(
                id=identifier_pb2.UserIdentifier(subject=self.subject),
                spec=identity_pb2.UserSpec(
                    first_name=self.given_name, last_name=self.family_name, email=self.email
                ),
            )
        )


def person(
    name: str,
    family_name: str = "Example",
    *,
    can_view: bool = True,
    can_run: bool = True,
    expired: bool = False,
) -> Person:
    """Make a person whose subject, e-mail address and credentials derive from ``name``."""
    return Person(
        name=name,
        subject=f"{name}-subject",
        given_name=name.capitalize(),
        family_name=family_name,
        email=f"{name}@example.com",
        token=f"local-token-of-{name}",
        cookie=f"{COOKIE}=local-cookie-of-{name}",
        can_view=can_view,
        can_run=can_run,
        expired=expired,
    )


PEOPLE: Mapping[str, Person] = {
    each.name: each
    for each in (
        person("alice", "Adams"),
        person("bob", "Brown"),
        person("carol", "Clark", can_view=False, can_run=False),
        person("expired", "Evans", expired=True),
    )
}
"""The people every local Flyte knows: alice and bob may view and run, carol has no rights on the
project, and expired holds credentials that are no longer valid."""


class Directory:
    """Everyone a running local Flyte knows, found by the credentials a call carries."""

    def __init__(self, people: Iterable[Person]) -> None:
        self._by_credential: dict[bytes, Person] = {}
        self._by_name: dict[str, Person] = {}
        for each in people:
            self.add(each)

    def __getitem__(self, name: str) -> Person:
        return self._by_name[name]

    def add(self, someone: Person) -> None:
        """Make ``someone`` known, in place of anyone of the same name."""
        self._by_name[someone.name] = someone
        self._by_credential[f"Bearer {someone.token}".encode()] = someone
        self._by_credential[someone.cookie.encode()] = someone

    def find(self, headers: Mapping[str, str]) -> Person | None:
        """Say who makes a call with these lower-cased headers, or None if nobody known does.

        An Authorization header decides alone when there is one, whatever cookies come with it.
        """
        authorization = headers.get("authorization")
        if authorization is not None:
            return self._of(authorization)
        cookies = (pair.strip() for pair in headers.get("cookie", "").split(";"))
        for pair in cookies:
            if pair.startswith(f"{COOKIE}="):
                return self._of(pair)
        return None

    def _of(self, credential: str) -> Person | None:
        scheme, _, rest = credential.partition(" ")
        if scheme.lower() == "bearer":  # RFC 9110, 11.1: the scheme is case-insensitive
            credential = f"Bearer {rest.strip()}"
        return self._by_credential.get(credential.encode())
