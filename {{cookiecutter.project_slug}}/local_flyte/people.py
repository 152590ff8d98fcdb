"""The people one can be on the local Flyte, and how their credentials are recognised."""

import hmac
import json
import secrets
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from flyteidl2.common import identifier_pb2, identity_pb2

COOKIE = "flyte_at"
"""The cookie in which the sign-in page of a Flyte cluster keeps the access token."""

CLAIMS = ("sub", "email", "given_name", "family_name")
"""What is read from a JWT."""

_SIGNING_KEY = secrets.token_bytes(32)


@dataclass(frozen=True)
class Person:
    """Someone the local Flyte knows.

    The credentials are random, and new in each process: other users of this machine, who reach its
    loopback interface too, can't guess them. They are left out of ``repr``.
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
    api_key: str = field(repr=False)
    """The secret of their API key, and the value of any other header that the local Flyte was told
    to take credentials from."""
    can_view: bool = True
    """May see the project's tasks, runs and apps."""
    can_run: bool = True
    """May start and abort runs, whoever's they are, and deploy."""
    expired: bool = False
    """The credentials were good once: they are refused as no longer valid."""

    @property
    def rights(self) -> str:
        """What the person may do, for people to read."""
        if self.expired:
            return "is refused: the token has expired"
        if self.can_run:
            return "may run tasks"
        return "may only look" if self.can_view else "has no rights here"

    @property
    def jwt(self) -> str:
        """A bearer token that names the person to a Flyte that verifies nothing itself."""
        values = (self.subject, self.email, self.given_name, self.family_name)
        return signed(dict(zip(CLAIMS, values, strict=True)))

    @property
    def identity(self) -> identity_pb2.EnrichedIdentity:
        """The person as Flyte names them in ``executed_by``, ``deployed_by`` and the like."""
        user = identity_pb2.User(id=identifier_pb2.UserIdentifier(subject=self.subject))
        if self.given_name or self.family_name or self.email:
            user.spec.first_name = self.given_name
            user.spec.last_name = self.family_name
            user.spec.email = self.email
        return identity_pb2.EnrichedIdentity(user=user)


def person(
    name: str,
    family_name: str = "Example",
    *,
    can_view: bool = True,
    can_run: bool = True,
    expired: bool = False,
) -> Person:
    """Make a person with new credentials; subject and e-mail address derive from ``name``."""

    def secret() -> str:
        return f"{name}-{secrets.token_urlsafe(24)}"

    return Person(
        name=name,
        subject=f"{name}-subject",
        given_name=name.capitalize(),
        family_name=family_name,
        email=f"{name}@example.com",
        token=secret(),
        cookie=f"{COOKIE}={secret()}",
        api_key=secret(),
        can_view=can_view,
        can_run=can_run,
        expired=expired,
    )


PEOPLE: Mapping[str, Person] = {
    each.name: each
    for each in (
        person("alice", "Adams"),
        person("bob", "Brown"),
        person("victor", "Vance", can_run=False),
        person("carol", "Clark", can_view=False, can_run=False),
        person("expired", "Evans", expired=True),
    )
}
"""The people every local Flyte of this process knows: alice and bob may view and run, victor may
only view, carol has no rights on the project, and expired holds credentials that are no longer
valid."""


class Directory:
    """Everyone a running local Flyte knows, found by the credentials a call carries."""

    def __init__(self, people: Iterable[Person], headers: Iterable[str] = ()) -> None:
        """Know these people.

        Args:
            people: Whom to know.
            headers: Names of the headers that may hold an API key.
        """
        self._headers = [name.lower() for name in headers]
        self._by_credential: dict[str, Person] = {}
        self._by_name: dict[str, Person] = {}
        for each in people:
            self.add(each)

    def __getitem__(self, name: str) -> Person:
        return self._by_name[name]

    def add(self, someone: Person) -> None:
        """Make ``someone`` known, in place of anyone of the same name."""
        self._by_name[someone.name] = someone
        self._by_credential[f"Bearer {someone.token}"] = someone
        self._by_credential[someone.cookie] = someone
        pair = b64encode(f"{someone.name}:{someone.api_key}".encode()).decode()
        self._by_credential[f"Basic {pair}"] = someone
        for name in self._headers:
            self._by_credential[f"{name}: {someone.api_key}"] = someone

    def of_key(self, authorization: str) -> Person | None:
        """Say whose API key a client authenticates by, or None if it is nobody's."""
        is_basic = authorization.startswith("Basic ")
        return self._by_credential.get(authorization) if is_basic else None

    def lets_in(self, headers: Mapping[str, str]) -> bool:
        """Say whether the proxy of an open-source Flyte lets a call with these headers in.

        It does so with any token that was given out here, whatever that says to Flyte.
        """
        bearer = headers.get("authorization", "").partition(" ")[2]
        if _is_signed(bearer) or _is_signed(headers.get("x-amzn-oidc-data", "")):
            return True
        someone = self.find(headers)
        return someone is not None and not someone.expired

    def find(self, headers: Mapping[str, str]) -> Person | None:
        """Say who makes a call with these lower-cased headers, or None if nobody known does.

        The first of these that is there decides alone: the Authorization header, the headers for
        API keys, the sign-in cookie.
        """
        if (authorization := headers.get("authorization")) is not None:
            scheme, _, token = authorization.partition(" ")
            # RFC 9110, 11.1: the scheme is case-insensitive
            bearer = f"Bearer {token.strip()}" if scheme.lower() == "bearer" else ""
            return self._by_credential.get(bearer)
        if keys := [f"{name}: {headers[name]}" for name in self._headers if name in headers]:
            return next(filter(None, map(self._by_credential.get, keys)), None)
        for pair in headers.get("cookie", "").split(";"):
            if pair.strip().startswith(f"{COOKIE}="):
                return self._by_credential.get(pair.strip())
        return None


def claimed(headers: Mapping[str, str]) -> Person | None:
    """Say who a call claims to be from, as the open-source Flyte does: it verifies nothing.

    A proxy in front of it does. No cookie is read, and an opaque token says
    nothing.
    """
    if (someone := _of_jwt(headers.get("x-amzn-oidc-data", ""))) is not None:
        return someone
    if subject := headers.get("x-amzn-oidc-identity", "").strip():
        return _unverified(subject, {})
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return _of_jwt(token.strip()) if scheme.lower() == "bearer" else None


def signed(claims: object) -> str:
    """Return claims as the JWT of the identity provider whose tokens the proxy lets in."""
    unsigned = ".".join(
        urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "HS256"}, claims)
    )
    return f"{unsigned}.{_signature(unsigned)}"


def _is_signed(token: str) -> bool:
    unsigned, _, signature = token.strip().rstrip("=").rpartition(".")
    return hmac.compare_digest(_signature(unsigned).encode(), signature.encode())


def _signature(unsigned: str) -> str:
    digest = hmac.digest(_SIGNING_KEY, unsigned.encode(), "sha256")
    return urlsafe_b64encode(digest).decode().rstrip("=")


def _of_jwt(token: str) -> Person | None:
    try:
        _, payload, _ = token.split(".")
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        known = {name: claims[name] for name in CLAIMS if name in claims}
    except (ValueError, TypeError):
        return None
    if not all(isinstance(value, str) for value in known.values()) or not known.get("sub"):
        return None
    return _unverified(known["sub"], known)


def _unverified(subject: str, claims: Mapping[str, str]) -> Person:
    return Person(
        name=subject,
        subject=subject,
        given_name=claims.get("given_name", ""),
        family_name=claims.get("family_name", ""),
        email=claims.get("email", ""),
        token="",
        cookie="",
        api_key="",
    )
