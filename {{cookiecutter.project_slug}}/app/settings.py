"""Configuration, read once from the environment when the app is imported.

Everything has a default or comes from what Flyte injects into an app's container, so a deployed
app needs no configuration at all. Lists are comma-separated.
"""

import os
import re
from typing import Any

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    ValidationError,
    field_validator,
)

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2, RFC 6265 4.1.1
ORIGIN = re.compile(r"https?://[^/?#\s]+")  # RFC 6454 6.1


def _env(*names: str, **kwargs: Any) -> Any:
    return Field(validation_alias=AliasChoices(*names), **kwargs)


class Settings(BaseModel):
    """What the app can be told from outside. Later names of a variable are what Flyte injects."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, validate_default=True)

    flyte_endpoint: str | None = _env("FLYTE_ENDPOINT", "_U_EP_OVERRIDE", default=None)
    """Where Flyte is: ``dns:///host[:port]``, spoken to over TLS."""

    flyte_org: str | None = _env("FLYTE_ORG", "_U_ORG_NAME", default=None)
    flyte_project: str = _env(
        "FLYTE_PROJECT",
        "FLYTE_INTERNAL_EXECUTION_PROJECT",
        default="{{ cookiecutter.flyte_project }}",
        min_length=1,
    )
    flyte_domain: str = _env(
        "FLYTE_DOMAIN",
        "FLYTE_INTERNAL_EXECUTION_DOMAIN",
        default="{{ cookiecutter.flyte_domain }}",
        min_length=1,
    )
    flyte_plaintext: bool = _env("FLYTE_PLAINTEXT", "_U_INSECURE", default=False)
    """Whether Flyte is spoken to without TLS, which drops the callers' credentials."""

    flyte_timeout: PositiveFloat = _env("FLYTE_TIMEOUT", default=30.0)
    """Seconds that the calls to Flyte behind one request may take together."""

    allow_anonymous: bool = _env("ALLOW_ANONYMOUS", default=False)
    """Whether to start at all when callers' credentials cannot reach Flyte."""

    cookie_names: frozenset[str] | None = _env(
        "COOKIE_NAMES", default=frozenset({"flyte_at", "flyte_at_1", "flyte_at_2", "flyte_idt"})
    )
    """Cookies that are credentials and forwarded; ``*`` (``None`` here) forwards all of them.

    By default those in which Flyte's sign-in keeps access and identity tokens. Its refresh token
    (``flyte_rt``) is not among them: no call needs it.
    """

    credential_headers: tuple[str, ...] = _env(
        "CREDENTIAL_HEADERS",
        default="{{ cookiecutter.credential_headers }}",
    )
    """Further request headers that are credentials and forwarded."""

    trusted_origins: tuple[str, ...] = _env("TRUSTED_ORIGINS", default=())
    """Other web origins whose pages may act with a visitor's cookies, ``https://host[:port]``."""

    @field_validator("cookie_names", "credential_headers", "trusted_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return None if value.strip() == "*" else [v.strip() for v in value.split(",") if v.strip()]

    @field_validator("cookie_names", "credential_headers")
    @classmethod
    def _tokens(cls, names: Any) -> Any:
        for name in names or ():
            if not TOKEN.fullmatch(name):
                raise ValueError(f"{name!r} is not a name; give names separated by commas")
        return names

    @field_validator("trusted_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin; give https://host[:port]")
        return origins


class SettingsError(Exception):
    """The environment holds a value that the app cannot use; the message names the variable."""


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsError: Naming every variable that is wrong, what is wrong with it and its value.
    """
    try:
        return Settings.model_validate({name: value for name, value in os.environ.items() if value})
    except ValidationError as error:
        problems = "".join(
            f"\n  {e['loc'][0]}={e['input']!r}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise SettingsError(f"cannot start with these environment variables:{problems}") from None
