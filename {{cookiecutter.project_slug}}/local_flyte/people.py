"""The local Flyte's people, and how it recognises their credentials."""

import json
import secrets
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from flyteidl2.common import identifier_pb2, identity_pb2

COOKIE = "flyte_at"  # has the access token, and is set by the sign-in page of a Flyte cluster


class Mode(StrEnum):
    """A kind of Flyte, which determines how it identifies callers."""

    UNION = "union"
    """Callers are authenticated, and have rights on a project."""
    OPEN_SOURCE = "open-source"
    """Open-source Flyte, which must be behind a proxy that verifies tokens, because it does not.

    It reads the caller's identity from headers; callers may do everything.
    """
    DEVBOX = "devbox"
    """The open-source Flyte, in plaintext: every caller is anonymous, and may do everything."""


@dataclass(frozen=True)
class Person:
    """A person with credentials for the local Flyte.

    The credentials are random, and new in each process: other users of this machine cannot guess
    them.
    """

    name: str
    subject: str
    given_name: str = ""
    family_name: str = ""
    email: str = ""
    token: str = field(default="", repr=False)
    """For ``Authorization: Bearer <token>``."""
    cookie: str = field(default="", repr=False)
    """A complete ``Cookie`` header value with one cookie."""
    api_key: str = field(default="", repr=False)
    """The value for any further credential header."""
    can_view: bool = True
    """May see the project's tasks, runs and apps."""
    can_run: bool = True
    """May deploy, start runs, and abort anyone's runs."""
    expired: bool = False
    """The credentials are refused."""

    @property
    def rights(self) -> str:
        """A description of the person's rights."""
        if self.expired:
            return "is refused: the token has expired"
        if self.can_run:
            return "may run tasks"
        return "may only view" if self.can_view else "has no rights here"

    @property
    def identity(self) -> identity_pb2.EnrichedIdentity:
        """The person in Flyte's format for ``executed_by``, ``deployed_by`` and similar fields."""
        id_ = identifier_pb2.UserIdentifier(subject=self.subject)
        names = {"first_name": self.given_name, "last_name": self.family_name}
        spec = identity_pb2.UserSpec(**names, email=self.email)
        return identity_pb2.EnrichedIdentity(user=identity_pb2.User(id=id_, spec=spec))


def person(name: str, family_name: str = "Example", **rights: Any) -> Person:
    """Make a person with new credentials, and a subject and e-mail address based on ``name``."""
    token, cookie, api_key = (f"{name}-{secrets.token_urlsafe(24)}" for _ in range(3))
    return Person(
        name=name,
        subject=f"{name}-subject",
        given_name=name.capitalize(),
        family_name=family_name,
        email=f"{name}@example.com",
        token=token,
        cookie=f"{COOKIE}={cookie}",
        api_key=api_key,
        **rights,
    )


PEOPLE: dict[str, Person] = {
    someone.name: someone
    for someone in (
        person("alice", "Adams"),
        person("bob", "Brown"),
        person("victor", "Vance", can_run=False),
        person("carol", "Clark", can_view=False, can_run=False),
        person("expired", "Evans", expired=True),
    )
}
"""The people of every local Flyte in this process."""


class Directory:
    """The people of a running local Flyte, by their credentials."""

    def __init__(self, people: Iterable[Person], headers: Iterable[str]) -> None:
        """Create a directory of people, whose API keys may be in these headers."""
        self._headers = [name.lower() for name in headers]
        self._by_credential: dict[str, Person] = {}
        self._by_name: dict[str, Person] = {}
        for someone in people:
            self.add(someone)

    def __getitem__(self, name: str) -> Person:
        return self._by_name[name]

    def add(self, someone: Person) -> None:
        """Add a person, replacing anyone with the same name."""
        self._by_name[someone.name] = someone
        for value in (f"Bearer {someone.token}", someone.cookie, someone.api_key):
            self._by_credential[value] = someone

    def find(self, headers: Mapping[str, str]) -> Person | None:
        """Return the person who makes a call with these lower-case headers, or None.

        Authorization counts before the headers for API keys, and these before the cookie.
        """
        if (authorization := headers.get("authorization")) is not None:
            scheme, _, token = authorization.partition(" ")  # the scheme in any case (RFC 9110)
            return self._by_credential.get(f"{scheme.capitalize()} {token.strip()}")
        if keys := [headers[name] for name in self._headers if name in headers]:
            return next(filter(None, map(self._by_credential.get, keys)), None)
        for pair in headers.get("cookie", "").split(";"):
            if pair.strip().startswith(f"{COOKIE}="):
                return self._by_credential.get(pair.strip())
        return None


def claimed_identity(headers: Mapping[str, str]) -> Person | None:
    """Return the caller as open-source Flyte's ``identity.go`` does, which verifies nothing.

    The headers of AWS load balancers count before the token, as in the default configuration.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if someone := _claimed_by(headers.get("x-amzn-oidc-data", "")):
        return someone
    if subject := headers.get("x-amzn-oidc-identity", "").strip():
        return Person(name=subject, subject=subject)
    return _claimed_by(token.strip()) if scheme.lower() == "bearer" else None


def _claimed_by(token: str) -> Person | None:
    """Return the person in the claims of a JWT; None for any other text."""
    try:
        _, payload, _ = token.split(".")
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        names = {name: claims.get(name, "") for name in ("email", "given_name", "family_name")}
        subject = claims["sub"]
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    return Person(name=subject, subject=subject, **names) if subject else None
