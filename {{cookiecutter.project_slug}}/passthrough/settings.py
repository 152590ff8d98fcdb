"""The settings of the app: environment variables, their meanings, and their valid values."""

import re
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
"""The cookies in which Flyte's sign-in stores access and identity tokens. The set does not
contain the cookie with the refresh token."""
INJECTED = {
    "flyte_endpoint": "_U_EP_OVERRIDE",
    "flyte_org": "_U_ORG_NAME",
    "flyte_project": "FLYTE_INTERNAL_EXECUTION_PROJECT",
    "flyte_domain": "FLYTE_INTERNAL_EXECUTION_DOMAIN",
}
"""Maps a setting to the environment variable that Flyte injects into a deployed app. If the
variable with the name of the setting is also set, the app ignores the injected variable."""


def rule(pattern: str, description: str) -> AfterValidator:
    """Return a validator that refuses values that do not match the pattern.

    The error does not contain the value, because the value may be a credential.
    """

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"give {description}")
        return value

    return AfterValidator(check)


HOST = r"[^/?#@\s]+"  # a host with or without a port
# An address without a scheme must contain a port or a dot. Otherwise any word would be a valid
# address.
ENDPOINT = rf"((dns:///|https?://){HOST}|{HOST}[.:]{HOST})/?"
NAME = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"  # RFC 1123
HEADER = rf"(?ai)(?!(authorization|cookie|\*)$){_SETTABLE.pattern}"
A_HEADER = "names such as X-Api-Key, but not Authorization or Cookie"
PUBLIC_URL = rf"https?://{HOST}(/\S*[^/\s])?"
PAGE = rf"https?://{HOST}([/?#]\S*)?|/(?!/)\S*"

Endpoint = Annotated[str, rule(ENDPOINT, "dns:///host[:port], or http://host:port without TLS")]
Name = Annotated[str, rule(NAME, "lower-case letters, digits and dashes, as in flytesnacks")]
"""A type for names of Flyte projects and domains in settings (RFC 1123).

Raises:
    ValueError: The value is not a valid name. `load_settings` converts the error to a StartError.

Example:
    class MySettings(Settings):
        flyte_project: Name = "my-project"
"""
CookieName = Annotated[str, rule(r"[^*=;\s]+", "* or names such as flyte_at, flyte_idt")]
CredentialHeader = Annotated[str, rule(HEADER, A_HEADER)]
"""A type for header names in settings. These headers contain credentials.

Raises:
    ValueError: The value is not a header name, or it is Authorization, Cookie or the name of a
        header that the app must not forward. `load_settings` converts the error to a StartError.

Example:
    class MySettings(Settings):
        credential_headers: tuple[CredentialHeader, ...] = ("x-api-key",)
"""
Origin = Annotated[str, rule(_ORIGIN.pattern, "https://host[:port] in lower case, not *")]
PublicUrl = Annotated[str, rule(PUBLIC_URL, "https://host[:port][/prefix], without a / at its end")]
Page = Annotated[str, rule(PAGE, "https://host[/path] or /path")]


def _variables_of(name: str) -> AliasChoices:
    return AliasChoices(*filter(None, (name.upper(), INJECTED.get(name))))


def setting(*variables: str, **kwargs: Any) -> Any:
    """Declare a setting with the names of its environment variables.

    Args:
        variables: Names of environment variables. The setting has the value of the first variable
            that is set.
        kwargs: Arguments of ``pydantic.Field``, such as ``default``.

    Returns:
        The result of ``pydantic.Field``, to assign to the field in the class.

    Example:
        class MySettings(Settings):
            team: str = setting("TEAM", "TEAM_NAME", default="")
    """
    return Field(validation_alias=AliasChoices(*variables), **kwargs)


class Settings(BaseModel):
    """The settings of the app.

    The value of a setting comes from the environment variable with the same name in capital
    letters. Subclass `Settings` to add a setting or to change a default. `load_settings` reads the
    variables and returns an instance.

    Example:
        class MySettings(Settings):
            limits = Limits(max_upload_bytes=20_000_000)

            flyte_timeout: float = 60.0
            team: str = ""  # the environment variable TEAM
    """

    model_config = ConfigDict(
        alias_generator=AliasGenerator(validation_alias=_variables_of),
        frozen=True,
        validate_default=True,
        hide_input_in_errors=True,
    )

    limits: ClassVar[Limits] = Limits()
    """The limits of the app. A subclass may set other limits."""

    flyte_endpoint: Endpoint | None = None
    """The address of Flyte: ``dns:///host[:port]`` with TLS, or ``http://host:port`` without
    TLS."""

    flyte_plaintext: bool = setting("_U_INSECURE", default=False)
    """Whether to connect to Flyte without TLS. Without TLS, the SDK sends no credentials."""

    allow_anonymous: bool = False
    """Whether the app may start if the connection to Flyte has no TLS. Without TLS, there is no
    authentication, so all callers are anonymous, and any web page that can reach the app can call
    Flyte (DNS rebinding)."""

    flyte_org: str | None = None
    """The name of the organization on Union. The open-source Flyte has no organizations."""

    flyte_project: Name = "flytesnacks"
    """The project of requests without the parameter ``project``."""

    flyte_domain: Name = "development"
    """The domain of requests without the parameter ``domain``."""

    flyte_timeout: float = Field(default=30.0, gt=0, le=86_400)
    """Timeout of a call to Flyte, in seconds. If a response does not begin within twice this time,
    the app responds with 504."""

    cookie_names: frozenset[CookieName] | None = SIGN_IN_COOKIES
    """The cookies that the app forwards to Flyte as credentials. ``*`` means all cookies."""

    credential_headers: tuple[CredentialHeader, ...] = ()
    """Request headers, besides ``Authorization``, that the app forwards to Flyte as credentials."""

    token_header: CredentialHeader | None = None
    """The header in which a reverse proxy sends the OAuth access token (JWT) of the user. With this
    setting, the app ignores ``Authorization``. Use this setting only if all requests pass the proxy
    and the proxy removes this header from requests of clients."""

    trusted_origins: tuple[Origin, ...] = ()
    """CORS and CSRF: web pages of these origins may call the app with the credentials of the user.
    An origin is ``https://host[:port]``."""

    public_url: PublicUrl | None = None
    """The address of the app for clients, ``https://host[:port][/prefix]``. This setting is
    necessary if a reverse proxy changes the header ``Host`` or the path."""

    max_concurrent_requests_per_caller: int = Field(default=32, gt=0)
    """Concurrency limit (429): the maximum number of open requests and streams with the same
    credentials. There is no rate limit. A service that sends requests of many users with one token
    needs a higher limit."""

    max_body_size: int = Field(default=1024 * 1024, gt=0, le=2**30)
    """Maximum body size of a request, in bytes. The app responds to a larger body with 413. Routes
    of file uploads have a separate limit, `Limits.max_upload_bytes`."""

    access_log: bool = True
    """Whether the app logs one line for each request."""

    log_format: Literal["text", "json"] = "text"
    """The format of the log: ``text``, or ``json`` with one object per line."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The minimum level of log messages: ``DEBUG``, ``INFO``, ``WARNING`` or ``ERROR``."""

    sign_in_url: Page | None = None
    """The URL where users sign in (login, authentication), such as ``/oauth2/start?rd=/``. Each
    response with 401 contains this URL. With ``TOKEN_HEADER``, users need this URL if the proxy
    admits them but Flyte refuses them."""

    sign_out_url: Page | None = None
    """The URL where users sign out (logout), such as ``/oauth2/sign_out?rd=/``. The response to
    ``GET /me`` contains this URL."""

    @model_validator(mode="before")
    @classmethod
    def _prefer_explicit_endpoint(cls, values: Any) -> Any:
        explicit = values.get("FLYTE_ENDPOINT")
        endpoint = explicit or values.get("_U_EP_OVERRIDE") or ""
        if explicit or endpoint.startswith("http://"):
            return {**values, "_U_INSECURE": endpoint.startswith("http://")}
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
