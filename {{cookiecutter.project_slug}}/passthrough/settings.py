"""Configuration, read once from the environment when the app is imported.

Everything has a default or comes from what Flyte injects into an app's container. Lists are
separated by commas.
"""

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, get_args, get_origin

import flyte
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from .passthrough_auth import FastAPIPassthroughAuthMiddleware as PassthroughAuth
from .request_scope import LARGEST_BODY
from .sdk import StartError

logger = logging.getLogger(__name__)

NAME = re.compile(r"[!#$%&'+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2, RFC 6265 4.1.1, but no "*"
HOST = r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])"
# RFC 6454 6.1 and 6.2
ORIGIN = re.compile(
    r"(?!http://.*:80$|https://.*:443$)https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]+)?"
)
# Without a scheme there must be a port or a dot, so that a typing mistake is noticed.
ENDPOINT = re.compile(rf"((dns:///|https?://){HOST}(:\d+)?|{HOST}:\d+|[\w-]+\.[\w.-]+)/?", re.ASCII)
LISTS = {tuple, frozenset, list, set}
PAGE = re.compile(r"(https?://[^/?#@\s]+(?=[/?#]|$)|/(?!/))[!-~]*")

SIGN_IN_COOKIES = frozenset({"flyte_at", "flyte_at_1", "flyte_at_2", "flyte_idt"})
"""Where Flyte's sign-in keeps access and identity tokens; calls do not need its refresh token."""

WHERE = """
  For deployment.py, one of:
    Union:                                env_vars={}    # Union injects its address
    open source, behind a proxy with TLS and sign-in:
                                          env_vars={"FLYTE_ENDPOINT": "dns:///flyte.example.com"}
    devbox, where everybody acts as nobody:
                                          env_vars={"ALLOW_ANONYMOUS": "true"}
  On your own machine, `make dev` starts the app with a local Flyte."""


def env(*names: str, **kwargs: Any) -> Any:
    """Declare a setting that is read from the first of these environment variables."""
    return Field(validation_alias=AliasChoices(*names), **kwargs)


class Settings(BaseModel):
    """What the app can be told from outside. Later names of a variable are what Flyte injects."""

    model_config = ConfigDict(
        frozen=True, validate_by_name=True, validate_default=True, hide_input_in_errors=True
    )

    flyte_endpoint: str | None = env("FLYTE_ENDPOINT", "_U_EP_OVERRIDE", default=None)
    """Where Flyte is: ``dns:///host[:port]``; ``http://`` means without TLS."""

    flyte_plaintext: bool = env("_U_INSECURE", default=False)
    """Whether Flyte is spoken to without TLS: the SDK then sends no credentials."""

    allow_anonymous: bool = env("ALLOW_ANONYMOUS", default=False)
    """Whether to start when ``flyte_plaintext``: every caller then acts as nobody."""

    flyte_org: str | None = env("FLYTE_ORG", "_U_ORG_NAME", default=None)
    flyte_project: str = env(
        "FLYTE_PROJECT",
        "FLYTE_INTERNAL_EXECUTION_PROJECT",
        default="flytesnacks",
    )
    flyte_domain: str = env(
        "FLYTE_DOMAIN",
        "FLYTE_INTERNAL_EXECUTION_DOMAIN",
        default="development",
    )
    flyte_timeout: float = env("FLYTE_TIMEOUT", default=30.0, gt=0, le=86_400, allow_inf_nan=False)
    """Seconds that Flyte may take to answer a call; a day at most."""

    flyte_data_addresses: tuple[str, ...] = env("FLYTE_DATA_ADDRESSES", default=())
    """Addresses of Flyte's clusters, ``https://host[:port]``, if they are not in its own domain.

    Where the data of runs is, is told by Flyte; credentials are sent there only if it is in the
    domain of ``flyte_endpoint``, or named here.
    """

    image_builder: Literal["remote", "local"] = env("IMAGE_BUILDER", default="remote")
    """What builds images for ``flyte.build``: Flyte, or a Docker that the app itself reaches."""

    cookie_names: frozenset[str] | None = env("COOKIE_NAMES", default=SIGN_IN_COOKIES)
    """Cookies that are credentials and forwarded; ``*`` (``None`` here) forwards all of them."""

    credential_headers: tuple[str, ...] = env(
        "CREDENTIAL_HEADERS",
        default="",
    )
    """Further request headers that are credentials and forwarded."""

    token_header: str | None = env("TOKEN_HEADER", default=None)
    """The request header in which a proxy in front of the app hands on the caller's token.

    Only for an app that nobody can reach but through that proxy, and a proxy that strips a
    client's own copy of the header. ``Authorization`` is then not looked at.
    """

    trusted_origins: tuple[str, ...] = env("TRUSTED_ORIGINS", default=())
    """Other web origins whose pages may use the app as their visitor, ``https://host[:port]``."""

    allowed_hosts: tuple[str, ...] = env("ALLOWED_HOSTS", default=())
    """Host names of an app to which everybody is nobody, besides localhost and IP addresses.

    Under any other name a page could reach it that a visitor's browser has been led to (DNS
    rebinding). Where callers sign in, their credentials belong to a name already.
    """

    largest_body: int = env("LARGEST_BODY", default=LARGEST_BODY, gt=0, le=2**30)
    """Bytes that the body of a request may have; each request may take as much memory."""

    access_log: Literal["text", "json", "off"] = env("ACCESS_LOG", default="text")
    """How each request is logged."""

    sign_in_url: str | None = env("SIGN_IN_URL", default=None)
    """Where a person signs in; each 401 names it."""

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
        """Read a list: of a setting of the owner's, too."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if not isinstance(value, str) or not LISTS & {
            get_origin(k) for k in (kind, *get_args(kind))
        }:
            return value
        if value.strip() == "*" and info.field_name == "cookie_names":
            return None
        return [each.strip() for each in value.split(",") if each.strip()]

    @field_validator("*")
    @classmethod
    def _fits(cls, value: Any, info: ValidationInfo) -> Any:
        is_good, message = RULES.get(str(info.field_name), (bool, ""))
        if message and not all(map(is_good, [value] if isinstance(value, str) else value or ())):
            raise ValueError(message)
        return value


def _is_a_credential_header(name: str) -> bool:
    """Tell whether a header may be set on a call to Flyte, and is not forwarded in any case."""
    try:
        PassthroughAuth.extract_custom_header(name)
    except ValueError:
        return False
    return bool(NAME.fullmatch(name)) and name.lower() not in {"authorization", "cookie"}


def _is_endpoint(address: str) -> bool:
    port = re.search(r":(\d+)/?$", address)
    return bool(ENDPOINT.fullmatch(address)) and (not port or 0 < int(port[1]) < 2**16)


A_NAME = (
    re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?").fullmatch,  # RFC 1123
    "is not a name that Flyte takes; give lower-case letters, digits and dashes, as in flytesnacks",
)
RULES: Mapping[str, tuple[Callable[[str], object], str]] = {
    "flyte_endpoint": (
        _is_endpoint,
        "is not the address of a Flyte; give dns:///host[:port] (spoken to over TLS), or"
        " http://host:port for one without TLS, with a port within 1 to 65535",
    ),
    "flyte_project": A_NAME,
    "flyte_domain": A_NAME,
    "flyte_data_addresses": (
        re.compile(rf"https://{HOST}(:\d+)?", re.ASCII).fullmatch,
        "holds something that is not an address with TLS; write each as https://host[:port],"
        " without a path and without *",
    ),
    "cookie_names": (
        NAME.fullmatch,
        "holds something that is not a cookie name; give names, * for all cookies, or, to add to"
        f" the default, {','.join(sorted(SIGN_IN_COOKIES))},<your cookie>",
    ),
    "credential_headers": (
        _is_a_credential_header,
        "holds something that is not the name of a header for credentials; give names, such as"
        " X-Api-Key. Authorization and Cookie are forwarded already",
    ),
    "token_header": (
        _is_a_credential_header,
        "is not the name of a header in which a proxy hands on a token; give one, such as"
        " X-Forwarded-Access-Token. Without it the token is taken from Authorization",
    ),
    "trusted_origins": (
        ORIGIN.fullmatch,
        "holds something that is not an origin as browsers send it; write each as"
        " https://host[:port]: in lower case, without a path, without *, without :443 after"
        " https:// and :80 after http://, and a host that is not ASCII as xn--...",
    ),
    "allowed_hosts": (
        re.compile(HOST.replace("A-Z", "")).fullmatch,
        "holds something that is not a host name; write each in lower case, without a port",
    ),
    "sign_in_url": (
        PAGE.fullmatch,
        "is not the address of a page; give https://host/path or /path",
    ),
}
"""What a setting, or each part of a list, must be, and what is said of one that is not."""


class SettingsError(StartError):
    """The app cannot work with this environment; the message names the variables and the remedy."""


CONNECTION = ("FLYTE_ENDPOINT", "_U_EP_OVERRIDE", "_U_INSECURE", "ALLOW_ANONYMOUS")
SAFE_TO_SHOW = (*CONNECTION, "FLYTE_TIMEOUT", "LARGEST_BODY")


AnySettings = TypeVar("AnySettings", bound=Settings)


def load_settings(kind: type[AnySettings], environ: Mapping[str, str] = os.environ) -> AnySettings:
    """Read the settings from the environment.

    Raises:
        SettingsError: Naming every variable that is wrong and what to give instead. Values are
            left out where a credential may have been put by mistake.
    """
    environment = {name: value for name, value in environ.items() if value}
    for warning in _misspelt(kind, environment):
        logger.warning("%s", warning)
    try:
        return kind.model_validate(environment)
    except ValidationError as error:
        wrong = list(_complaints(kind, error, environment))
        lines = "".join(
            f"\n  {_shown(name, environment.get(name, ''))}: {why}" for name, why in wrong
        )
        where = WHERE if any(name in CONNECTION for name, _ in wrong) else ""
        raise SettingsError(
            f"cannot start with these environment variables:{lines}{where}"
        ) from None


def checked(kind: type[Settings], variables: dict[str, str]) -> dict[str, str]:
    """Return the variables of a deployment if the app will start with them.

    Raises:
        SettingsError: One has a wrong value, or looks like a setting with a typing mistake.
    """
    for warning in _misspelt(kind, variables):
        raise SettingsError(warning)
    load_settings(kind, variables)
    return variables


def _misspelt(kind: type[Settings], variables: Iterable[str]) -> Iterator[str]:
    """Yield what to say of variables that look like settings, but are none."""
    known = {name for field in kind.model_fields.values() for name in names(field)}
    for name in variables:
        # What Flyte injects into containers begins like this, and is no mistake.
        if name not in known and not name.startswith(("_", "FLYTE_INTERNAL_")):
            for meant in get_close_matches(name, known, n=1, cutoff=0.9):
                yield f"{name} is not a setting of the app; is {meant} meant?"


def _complaints(
    kind: type[Settings], error: ValidationError, environment: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield the variables that are wrong, and why."""
    for each in error.errors(include_url=False):
        at = each["loc"][0]  # of a default, the name of the field
        field = next(f for n, f in kind.model_fields.items() if at in (n, *names(f)))
        name = next((n for n in names(field) if n in environment), names(field)[0])
        yield name, each["msg"].removeprefix("Value error, ")


def _shown(name: str, value: str) -> str:
    """Show a variable, without its value if that may hold a credential."""
    return f"{name}={value!r}" if name in SAFE_TO_SHOW and "@" not in value else name


def names(field: Any) -> list[str]:
    """Return the environment variables that a setting is read from."""
    return [str(name) for name in field.validation_alias.choices]


async def connect(settings: Settings) -> None:
    """Initialise the SDK so that it calls Flyte as whoever is calling. Sends nothing yet.

    Raises:
        SettingsError: If there is no address of a Flyte, or if Flyte would be spoken to in
            plaintext, over which the SDK silently leaves the caller's credentials out
            (github.com/flyteorg/flyte-sdk, pull request 761).
    """
    found = [_shown(name, os.environ[name]) for name in CONNECTION if os.environ.get(name)]
    beginning = f"cannot start with {', '.join(found) or 'no address of a Flyte'}: "
    if not settings.flyte_endpoint:
        raise SettingsError(
            f"{beginning}neither FLYTE_ENDPOINT nor what Flyte injects, _U_EP_OVERRIDE, says where"
            f" Flyte is.{WHERE}"
        )
    if settings.flyte_plaintext and not settings.allow_anonymous:
        raise SettingsError(
            f"{beginning}Flyte would be spoken to in plaintext, and over plaintext the Flyte SDK"
            " drops the caller's credentials. Give FLYTE_ENDPOINT an address with TLS, or set"
            f" ALLOW_ANONYMOUS=true to let everybody act as nobody.{WHERE}"
        )
    if settings.allow_anonymous and not settings.flyte_plaintext:
        logger.warning(
            "ALLOW_ANONYMOUS has no effect: Flyte is spoken to over TLS, and callers without"
            " credentials are refused"
        )
    if settings.flyte_plaintext:
        logger.warning("Flyte is spoken to in plaintext: every caller acts as nobody")
    await flyte.init.aio(
        endpoint=settings.flyte_endpoint,
        org=settings.flyte_org,
        project=settings.flyte_project,
        domain=settings.flyte_domain,
        insecure=settings.flyte_plaintext,
        auth_type="Passthrough",
        image_builder=settings.image_builder,
        batch_size=200,  # as many as Flyte lists at once
    )
