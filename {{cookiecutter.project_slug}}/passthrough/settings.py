"""The settings: what they are called, what they mean, and which values are right."""

import re
import warnings
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasGenerator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from .limits import Limits
from .passthrough_auth import _ORIGIN, _SETTABLE

SIGN_IN_COOKIES = frozenset({"flyte_at", "flyte_at_1", "flyte_at_2", "flyte_idt"})
"""Flyte's sign-in cookies for access and identity tokens; calls don't need the refresh token."""
INJECTED = {
    "flyte_endpoint": "_U_EP_OVERRIDE",
    "flyte_org": "_U_ORG_NAME",
    "flyte_project": "FLYTE_INTERNAL_EXECUTION_PROJECT",
    "flyte_domain": "FLYTE_INTERNAL_EXECUTION_DOMAIN",
}
"""Variables that Flyte injects into a deployed app: they count if a setting's own is not set."""
OLD_NAMES = {
    "max_body_size": "LARGEST_BODY",
    "max_concurrent_requests_per_caller": "OPEN_REQUESTS_PER_CALLER",
}
"""Former variables of settings. They work until the next major version."""


def rule(pattern: str, wanted: str) -> AfterValidator:
    """Refuse values that don't match: say what to give, and don't show them."""

    def follow(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"give {wanted}")
        return value

    return AfterValidator(follow)


HOST = r"[^/?#@\s]+"  # with its port
# Without a scheme there must be a port or a dot, so that typing mistakes are noticed.
ENDPOINT = rf"((dns:///|https?://){HOST}|{HOST}[.:]{HOST})/?"
NAME = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"  # RFC 1123
HEADER = rf"(?ai)(?!(authorization|cookie|\*)$){_SETTABLE.pattern}"
A_HEADER = "names such as X-Api-Key, but not Authorization or Cookie"
PUBLIC_URL = rf"https?://{HOST}(/\S*[^/\s])?"
PAGE = rf"https?://{HOST}([/?#]\S*)?|/(?!/)\S*"

Endpoint = Annotated[str, rule(ENDPOINT, "dns:///host[:port], or http://host:port without TLS")]
Name = Annotated[str, rule(NAME, "lower-case letters, digits and dashes, as in flytesnacks")]
CookieName = Annotated[str, rule(r"[^*=;\s]+", "* or names such as flyte_at, flyte_idt")]
CredentialHeader = Annotated[str, rule(HEADER, A_HEADER)]
Origin = Annotated[str, rule(_ORIGIN.pattern, "origins in lower case, https://host[:port], not *")]
PublicUrl = Annotated[str, rule(PUBLIC_URL, "https://host[:port][/prefix], without a / at its end")]
Page = Annotated[str, rule(PAGE, "https://host[/path] or /path")]


def _variables_of(name: str) -> AliasChoices:
    return AliasChoices(*filter(None, (name.upper(), INJECTED.get(name), OLD_NAMES.get(name))))


def setting(*variables: str, **kwargs: Any) -> Any:
    """Declare a setting; the first of these environment variables that is set gives its value."""
    return Field(validation_alias=AliasChoices(*variables), **kwargs)


class Settings(BaseModel):
    """The app's settings, each from the environment variable of its name in capital letters."""

    model_config = ConfigDict(
        alias_generator=AliasGenerator(validation_alias=_variables_of),
        frozen=True,
        validate_default=True,
        hide_input_in_errors=True,
    )

    limits: ClassVar[Limits] = Limits()
    """To change some in ``app/settings.py``: ``limits = Limits(max_message_bytes=10_000_000)``."""

    flyte_endpoint: Endpoint | None = None
    """Flyte's address, ``dns:///host[:port]``; ``http://host:port`` means no TLS."""

    flyte_plaintext: bool = setting("_U_INSECURE", default=False)
    """Whether to connect to Flyte without TLS: the SDK then sends no credentials."""

    allow_anonymous: bool = False
    """Whether to start without TLS to Flyte: every caller is then anonymous, and any web page that
    reaches the app may call Flyte through it (DNS rebinding)."""

    flyte_org: str | None = None
    """Flyte's organization; only Union has them."""

    flyte_project: Name = "flytesnacks"
    """The project of requests that name none."""

    flyte_domain: Name = "development"
    """The domain of requests that name none."""

    flyte_timeout: float = Field(default=30.0, gt=0, le=86_400)
    """Seconds that Flyte may take to answer a call; a response may take twice that to begin."""

    cookie_names: frozenset[CookieName] | None = SIGN_IN_COOKIES
    """Cookies to forward as credentials; ``*`` forwards all of them."""

    credential_headers: tuple[CredentialHeader, ...] = ()
    """Further request headers to forward as credentials."""

    token_header: CredentialHeader | None = None
    """The header in which a proxy passes on the caller's token; ``Authorization`` is then ignored.
    Only if clients reach the app through that proxy alone, and it removes the header they send."""

    trusted_origins: tuple[Origin, ...] = ()
    """CORS: other origins whose web pages may call the app as the user, ``https://host[:port]``."""

    public_url: PublicUrl | None = None
    """The app's address as its clients know it, ``https://host[:port][/prefix]``, if a proxy
    changes the ``Host`` header."""

    max_concurrent_requests_per_caller: int = Field(default=32, gt=0)
    """Concurrency limit: requests and streams that one caller may have open at the same time;
    further ones are a 429. A service that sends requests of many users with one token needs a
    higher limit. With ``COOKIE_NAMES=*`` there is no limit for users who sign in by cookie."""

    max_body_size: int = Field(default=1024 * 1024, gt=0, le=2**30)
    """Maximum size of a request body, in bytes; a larger one is a 413. Routes of file uploads have
    their own limit."""

    access_log: bool = True
    """Whether the log has a line for each request."""

    log_format: Literal["text", "json"] = "text"
    """The form of the log: ``text``, or ``json`` with a record in each line."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least level that is logged: ``DEBUG``, ``INFO``, ``WARNING`` or ``ERROR``."""

    sign_in_url: Page | None = None
    """Where users sign in, such as ``/oauth2/start?rd=/``; each 401 of the app contains it. With
    ``TOKEN_HEADER`` it is necessary if Flyte refuses a user whom the proxy admits."""

    sign_out_url: Page | None = None
    """Where users sign out (logout), such as ``/oauth2/sign_out?rd=/``; ``GET /me`` contains it."""

    @model_validator(mode="before")
    @classmethod
    def _an_explicit_endpoint_outranks_what_is_injected(cls, values: Any) -> Any:
        explicit = values.get("FLYTE_ENDPOINT")
        endpoint = explicit or values.get("_U_EP_OVERRIDE") or ""
        if explicit or endpoint.startswith("http://"):
            return {**values, "_U_INSECURE": endpoint.startswith("http://")}
        return values

    @model_validator(mode="before")
    @classmethod
    def _warn_of_old_names(cls, values: Any) -> Any:
        for name, old in OLD_NAMES.items():
            if old in values:
                text = f"the setting {old} has been renamed: use {name.upper()}"
                warnings.warn(text, FutureWarning, stacklevel=2)
        return values

    @field_validator("*", mode="before")
    @classmethod
    def _split_lists(cls, value: object, info: ValidationInfo) -> object:
        kind = cls.model_fields[str(info.field_name)].annotation
        if not isinstance(value, str) or not re.search(r"(tuple|set|list)\[", str(kind)):
            return value
        if value.strip() == "*" and info.field_name == "cookie_names":
            return None
        return [item.strip() for item in value.split(",") if item.strip()]
