"""Configuration, read once from the environment when the app is imported.

Every setting has a default, or a value that Flyte injects into an app's container. Lists are
separated by commas.
"""

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import flyte
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from .calls.errors import StartError
from .passthrough_auth import FastAPIPassthroughAuthMiddleware as PassthroughAuth

logger = logging.getLogger(__name__)

NAME = re.compile(r"[!#$%&'+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2, RFC 6265 4.1.1, but no "*"
HOST = r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])"
# RFC 6454 6.1 and 6.2
ORIGIN = re.compile(
    r"(?!http://.*:80$|https://.*:443$)https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]+)?"
)
# Without a scheme there must be a port or a dot, so that typing mistakes are noticed.
ENDPOINT = re.compile(rf"((dns:///|https?://){HOST}(:\d+)?|{HOST}:\d+|[\w-]+\.[\w.-]+)/?", re.ASCII)
LARGEST_BODY = 1024 * 1024  # bytes
LISTS = {tuple, frozenset, list, set}
PAGE = re.compile(r"(https?://[^/?#@\s]+(?=[/?#]|$)|/(?!/))[!-~]*")

SIGN_IN_COOKIES = frozenset({"flyte_at", "flyte_at_1", "flyte_at_2", "flyte_idt"})
"""Flyte's sign-in cookies for access and identity tokens; calls don't need the refresh token."""

WHERE = """
  For deployment.py, one of:
    Union:                                env_vars={}    # Union injects its address
    open source, behind a proxy with TLS and sign-in:
                                          env_vars={"FLYTE_ENDPOINT": "dns:///flyte.example.com"}
    devbox, without sign-in: every caller is anonymous:
                                          env_vars={"ALLOW_ANONYMOUS": "true"}
  On your own machine, `make dev` starts the app with a local Flyte."""


def is_credential_header(name: str) -> bool:
    """Tell whether a header may be set on calls to Flyte and is not forwarded anyway."""
    try:
        PassthroughAuth.extract_custom_header(name)
    except ValueError:
        return False
    return bool(NAME.fullmatch(name)) and name.lower() not in {"authorization", "cookie"}


def is_endpoint(address: str) -> bool:
    """Tell whether Flyte may be at this address."""
    port = re.search(r":(\d+)/?$", address)
    return bool(ENDPOINT.fullmatch(address)) and (not port or 0 < int(port[1]) < 2**16)


def rule(is_good: Callable[[str], object], message: str) -> AfterValidator:
    """Refuse values for which a check is false, with a message that says what to give instead."""

    def check(value: str) -> str:
        if not is_good(value):
            raise ValueError(message)
        return value

    return AfterValidator(check)


Endpoint = Annotated[
    str,
    rule(
        is_endpoint,
        "is not the address of a Flyte server; give dns:///host[:port] to connect with TLS, or"
        " http://host:port without, and a port from 1 to 65535",
    ),
]
Name = Annotated[
    str,
    rule(
        re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?").fullmatch,  # RFC 1123
        "is not a valid name in Flyte; use lower-case letters, digits and dashes, as in"
        " flytesnacks",
    ),
]
DataAddress = Annotated[
    str,
    rule(
        re.compile(rf"https://{HOST}(:\d+)?", re.ASCII).fullmatch,
        "holds something that is not an address with TLS; write each as https://host[:port],"
        " without a path or *",
    ),
]
CookieName = Annotated[
    str,
    rule(
        NAME.fullmatch,
        "holds something that is not a cookie name; give names, * for all cookies, or, to add to"
        f" the default, {','.join(sorted(SIGN_IN_COOKIES))},<your cookie>",
    ),
]
CredentialHeader = Annotated[
    str,
    rule(
        is_credential_header,
        "holds something that is not the name of a header for credentials; give names, such as"
        " X-Api-Key. Authorization and Cookie are forwarded already",
    ),
]
TokenHeader = Annotated[
    str,
    rule(
        is_credential_header,
        "is not the name of a header in which a proxy can pass on a token; give one, such as"
        " X-Forwarded-Access-Token. Without it the token is taken from Authorization",
    ),
]
Origin = Annotated[
    str,
    rule(
        ORIGIN.fullmatch,
        "holds something that is not an origin as browsers send it; write each as"
        " https://host[:port] in lower case, without a path, without *, without :443 after"
        " https:// or :80 after http://, and with a non-ASCII host as xn--...",
    ),
]
HostName = Annotated[
    str,
    rule(
        re.compile(HOST.replace("A-Z", "")).fullmatch,
        "holds something that is not a host name; write each in lower case, without a port",
    ),
]
Issuer = Annotated[
    str,
    rule(
        re.compile(r"https?://[^/?#@\s]+(/[!->@-~]*)?").fullmatch,
        "is not the URL of an issuer; give https://host[/path], without a query",
    ),
]
PageURL = Annotated[
    str,
    rule(PAGE.fullmatch, "is not the URL of a page; give https://host/path or /path"),
]


def env(*names: str, **kwargs: Any) -> Any:
    """Declare a setting; the first of these environment variables that is set gives its value."""
    return Field(validation_alias=AliasChoices(*names), **kwargs)


class Settings(BaseModel):
    """The app's settings. Where one has several names, the later ones are injected by Flyte."""

    model_config = ConfigDict(
        frozen=True, validate_by_name=True, validate_default=True, hide_input_in_errors=True
    )

    flyte_endpoint: Endpoint | None = env("FLYTE_ENDPOINT", "_U_EP_OVERRIDE", default=None)
    """Flyte's address: ``dns:///host[:port]``; ``http://`` means without TLS."""

    flyte_plaintext: bool = env("_U_INSECURE", default=False)
    """Whether to connect to Flyte without TLS: the SDK then sends no credentials."""

    allow_anonymous: bool = env("ALLOW_ANONYMOUS", default=False)
    """Whether to start if ``flyte_plaintext`` is set: every caller is then anonymous."""

    flyte_org: str | None = env("FLYTE_ORG", "_U_ORG_NAME", default=None)
    flyte_project: Name = env(
        "FLYTE_PROJECT", "FLYTE_INTERNAL_EXECUTION_PROJECT", default="flytesnacks"
    )
    flyte_domain: Name = env(
        "FLYTE_DOMAIN", "FLYTE_INTERNAL_EXECUTION_DOMAIN", default="development"
    )
    flyte_timeout: float = env("FLYTE_TIMEOUT", default=30.0, gt=0, le=86_400, allow_inf_nan=False)
    """Seconds that Flyte may take to answer a call; at most a day."""

    flyte_data_addresses: tuple[DataAddress, ...] = env("FLYTE_DATA_ADDRESSES", default=())
    """Addresses of Flyte's clusters, ``https://host[:port]``, if they are not in its own domain.

    Flyte returns the address that stores a run's data. Credentials are sent there only if it is in
    the domain of ``flyte_endpoint`` or listed here.
    """

    image_builder: Literal["remote", "local"] = env("IMAGE_BUILDER", default="remote")
    """The image builder for ``flyte.build``: Flyte, or a Docker that the app itself can use."""

    cookie_names: frozenset[CookieName] | None = env("COOKIE_NAMES", default=SIGN_IN_COOKIES)
    """Cookies to forward as credentials; ``*`` (``None`` here) forwards all of them."""

    credential_headers: tuple[CredentialHeader, ...] = env("CREDENTIAL_HEADERS", default=())
    """Further request headers to forward as credentials."""

    token_header: TokenHeader | None = env("TOKEN_HEADER", default=None)
    """The request header in which a proxy in front of the app passes on the caller's token.

    Set it only if the app cannot be reached except through that proxy, and the proxy removes the
    header from clients' requests. ``Authorization`` is then ignored.
    """

    trusted_origins: tuple[Origin, ...] = env("TRUSTED_ORIGINS", default=())
    """Other origins, ``https://host[:port]``, whose pages may call the app as their visitors."""

    allowed_hosts: tuple[HostName, ...] = env("ALLOWED_HOSTS", default=())
    """Host names for an app with ``allow_anonymous``, besides localhost and IP addresses.

    Other names are refused: a malicious page could use one to reach the app (DNS rebinding). With
    sign-in this is not needed: browsers send credentials only to the name they belong to.
    """

    largest_body: int = env("LARGEST_BODY", default=LARGEST_BODY, gt=0, le=2**30)
    """The largest body of a request, in bytes; each request may take this much memory."""

    access_log: Literal["text", "json", "off"] = env("ACCESS_LOG", default="text")
    """The format of the access log."""

    oauth_issuer: Issuer | None = env("OAUTH_ISSUER", default=None)
    """The issuer of Flyte's tokens, where AI agents sign in; default: what Flyte says."""

    sign_in_url: PageURL | None = env("SIGN_IN_URL", default=None)
    """Where people sign in; every 401 contains it."""

    @model_validator(mode="before")
    @classmethod
    def _an_explicit_endpoint_outranks_what_is_injected(cls, values: Any) -> Any:
        explicit = values.get("FLYTE_ENDPOINT")
        endpoint = explicit or values.get("_U_EP_OVERRIDE") or ""
        if explicit or endpoint.startswith("http://"):
            return {**values, "_U_INSECURE": endpoint.startswith("http://")}
        return values

    @field_validator("*", mode="before")
    @classmethod
    def _split(cls, value: object, info: ValidationInfo) -> object:
        """Split lists, including those of the owner's own settings."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if not isinstance(value, str) or not LISTS & {
            get_origin(k) for k in (kind, *get_args(kind))
        }:
            return value
        if value.strip() == "*" and info.field_name == "cookie_names":
            return None
        return [each.strip() for each in value.split(",") if each.strip()]


class SettingsError(StartError):
    """The app cannot work with this environment; the message says which variables to change."""


CONNECTION = ("FLYTE_ENDPOINT", "_U_EP_OVERRIDE", "_U_INSECURE", "ALLOW_ANONYMOUS")
SAFE_TO_SHOW = (*CONNECTION, "FLYTE_TIMEOUT", "LARGEST_BODY")


AnySettings = TypeVar("AnySettings", bound=Settings)


def load_settings(kind: type[AnySettings], environ: Mapping[str, str] = os.environ) -> AnySettings:
    """Read the settings from the environment.

    Raises:
        SettingsError: Lists every variable that is wrong and what to give instead. Values that
            may be credentials, given by mistake, are not shown.
    """
    environment = {name: value for name, value in environ.items() if value}
    for warning in _misspelt(kind, environment):
        logger.warning("%s", warning)
    try:
        return kind.model_validate(environment)
    except ValidationError as error:
        lines, where = {"cannot start with these environment variables:": None}, ""
        for each in error.errors(include_url=False):
            at = str(each["loc"][0])  # for a default, the name of the field
            name = names(kind.model_fields[at])[0] if at in kind.model_fields else at
            why = each["msg"].removeprefix("Value error, ")
            lines[f"  {_shown(name, environment.get(name, ''))}: {why}"] = None  # each once
            where = WHERE if name in CONNECTION else where
        raise SettingsError("\n".join(lines) + where) from None


def checked(kind: type[Settings], variables: dict[str, str]) -> dict[str, str]:
    """Return the variables of a deployment if the app will start with them.

    Raises:
        SettingsError: One has a wrong value, or looks like a misspelt setting.
    """
    for warning in _misspelt(kind, variables):
        raise SettingsError(warning)
    load_settings(kind, variables)
    return variables


def _misspelt(kind: type[Settings], variables: Iterable[str]) -> Iterator[str]:
    """Yield a warning for each variable that looks like a misspelt setting."""
    known = {name for field in kind.model_fields.values() for name in names(field)}
    for name in variables:
        # Variables that Flyte injects into containers start like this.
        if name not in known and not name.startswith(("_", "FLYTE_INTERNAL_")):
            for meant in get_close_matches(name, known, n=1, cutoff=0.9):
                yield f"{name} is not a setting of the app; did you mean {meant}?"


def _shown(name: str, value: str) -> str:
    """Return a variable with its value, or without if the value may hold a credential."""
    is_safe = name in SAFE_TO_SHOW and len(value) <= 80 and not re.search("[@?=]", value)
    return f"{name}={value!r}" if is_safe else name


def names(field: Any) -> list[str]:
    """Return the environment variables that a setting is read from."""
    return [str(name) for name in field.validation_alias.choices]


async def connect(settings: Settings) -> None:
    """Initialise the SDK to call Flyte as each request's caller. Sends nothing yet.

    Raises:
        SettingsError: If there is no address for Flyte, or the connection would be plaintext. The
            SDK silently drops the caller's credentials on plaintext connections
            (github.com/flyteorg/flyte-sdk, pull request 761).
    """
    found = [_shown(name, os.environ[name]) for name in CONNECTION if os.environ.get(name)]
    beginning = f"cannot start with {', '.join(found) or 'no address for Flyte'}: "
    if not settings.flyte_endpoint:
        raise SettingsError(
            f"{beginning}neither FLYTE_ENDPOINT nor _U_EP_OVERRIDE, which Flyte injects, is set."
            f"{WHERE}"
        )
    if settings.flyte_plaintext and not settings.allow_anonymous:
        raise SettingsError(
            f"{beginning}the connection to Flyte would be plaintext, and over plaintext the Flyte"
            " SDK drops the caller's credentials. Set FLYTE_ENDPOINT to an address with TLS, or set"
            f" ALLOW_ANONYMOUS=true to make every caller anonymous.{WHERE}"
        )
    if settings.flyte_plaintext:
        logger.warning("The connection to Flyte is plaintext: every caller is anonymous")
    await flyte.init.aio(
        endpoint=settings.flyte_endpoint,
        org=settings.flyte_org,
        project=settings.flyte_project,
        domain=settings.flyte_domain,
        insecure=settings.flyte_plaintext,
        auth_type="Passthrough",
        image_builder=settings.image_builder,
        batch_size=200,  # the most that Flyte lists at once
    )
