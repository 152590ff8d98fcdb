"""Users of the local Flyte server, and functions that find a user by credentials."""

import json
import secrets
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from flyteidl2.common import identifier_pb2, identity_pb2

COOKIE = "flyte_at"  # session cookie of a Flyte cluster, with the access token as its value


class Mode(StrEnum):
    """Kind of Flyte to imitate, which determines how callers are authenticated."""

    UNION = "union"
    """A Union cluster: callers are authenticated, and have rights on a project."""
    DEVBOX = "devbox"
    """Open-source Flyte, without TLS: callers may do everything.

    Flyte reads identities from headers without verification. The SDK sends credentials only over
    TLS, so every caller is anonymous unless a proxy with TLS is in front.
    """


@dataclass(frozen=True)
class Person:
    """A user of the local Flyte server. The credentials are random, and new in each process."""

    name: str
    subject: str
    given_name: str = ""
    family_name: str = ""
    email: str = ""
    token: str = field(default="", repr=False)
    """Bearer token, for the header ``Authorization``."""
    cookie: str = field(default="", repr=False)
    """Complete value of a ``Cookie`` header, with one cookie."""
    api_key: str = field(default="", repr=False)
    """API key, which a client sends in any of the ``credential_headers``."""
    can_view: bool = True
    can_run: bool = True
    """Whether the user may deploy, start runs, and abort all runs of the project."""
    expired: bool = False

    @property
    def rights(self) -> str:
        """Description of the user's rights, for the banner."""
        if self.expired:
            return "is refused: the token has expired"
        if self.can_run:
            return "may run tasks"
        return "may only view" if self.can_view else "has no rights here"

    @property
    def identity(self) -> identity_pb2.EnrichedIdentity:
        id_ = identifier_pb2.UserIdentifier(subject=self.subject)
        names = {"first_name": self.given_name, "last_name": self.family_name}
        spec = identity_pb2.UserSpec(**names, email=self.email)
        return identity_pb2.EnrichedIdentity(user=identity_pb2.User(id=id_, spec=spec))


def person(name: str, family_name: str = "Example", **rights: Any) -> Person:
    """Create a user with new credentials, and with a subject and e-mail address from ``name``."""
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
    user.name: user
    for user in (
        person("alice", "Adams"),
        person("bob", "Brown"),
        person("victor", "Vance", can_run=False),
        person("carol", "Clark", can_view=False, can_run=False),
        person("expired", "Evans", expired=True),
    )
}
"""Users of all local Flyte servers in this process, by name."""


class Directory(dict[str, Person]):
    """Users of a running local Flyte server, by name."""

    def __init__(self, people: Iterable[Person], headers: Iterable[str]) -> None:
        """Add ``people``. Each of ``headers`` may contain an API key."""
        super().__init__()
        self._headers = [name.lower() for name in headers]
        self._by_credential: dict[str, Person] = {}
        for user in people:
            self.add(user)

    def add(self, user: Person) -> None:
        self[user.name] = user
        for value in (f"Bearer {user.token}", user.cookie, user.api_key):
            self._by_credential[value] = user

    def find(self, headers: Mapping[str, str]) -> Person | None:
        """Return the user whose credentials are in ``headers`` (with lower-case names), or None.

        ``Authorization`` takes precedence over API keys, and API keys over the cookie.
        """
        if (authorization := headers.get("authorization")) is not None:
            scheme, _, token = authorization.partition(" ")  # the scheme is case-insensitive
            return self._by_credential.get(f"{scheme.capitalize()} {token.strip()}")
        if keys := [headers[name] for name in self._headers if name in headers]:
            return next(filter(None, map(self._by_credential.get, keys)), None)
        for pair in headers.get("cookie", "").split(";"):
            if pair.strip().startswith(f"{COOKIE}="):
                return self._by_credential.get(pair.strip())
        return None


def claimed_identity(headers: Mapping[str, str]) -> Person | None:
    """Return the user whom the headers claim, without verification, or None.

    As in open-source Flyte, headers of AWS load balancers take precedence over the token.
    """
    if user := _claimed_by(headers.get("x-amzn-oidc-data", "")):
        return user
    if subject := headers.get("x-amzn-oidc-identity", "").strip():
        return Person(name=subject, subject=subject)
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return _claimed_by(token.strip()) if scheme.lower() == "bearer" else None


def _claimed_by(token: str) -> Person | None:
    """Return the user that the claims of a JWT name, or None if ``token`` is no JWT."""
    try:
        _, payload, _ = token.split(".")
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        names = {name: claims.get(name, "") for name in ("email", "given_name", "family_name")}
        subject = claims["sub"]
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    return Person(name=subject, subject=subject, **names) if subject else None
