"""Valid settings in the environment, and the messages about invalid ones."""

from typing import Self

import pytest
from pydantic import model_validator

from passthrough import load_settings as load
from passthrough.calls.sdk import StartError
from passthrough.settings import Settings


class OwnSettings(Settings):
    colours: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _are_few(self) -> Self:
        if len(self.colours) > 2:
            raise ValueError("give two COLOURS")
        return self


def load_settings(**variables: str) -> Settings:
    return load(Settings, variables)


def test_settings_with_lists_are_comma_separated() -> None:
    settings = load(OwnSettings, {"COOKIE_NAMES": "a, b,", "COLOURS": "red, blue"})
    assert settings.cookie_names == frozenset({"a", "b"})
    assert settings.colours == ("red", "blue")
    assert load_settings(COOKIE_NAMES="*").cookie_names is None  # all


@pytest.mark.parametrize(
    ("name", "values", "remedy"),
    [
        ("FLYTE_ENDPOINT", "dns:/// http://a.example/x https://me:s3cret@a.example", "dns:///host"),
        ("_U_EP_OVERRIDE", "garbage flyte.example/x", "dns:///host"),
        ("FLYTE_PROJECT", "My_Project", "lower-case letters"),
        ("COOKIE_NAMES", "a=s3cret flyte_at,*", "* or names"),
        ("CREDENTIAL_HEADERS", "x-key:s3cret * Host X-Key,Content-Type Authorization", "X-Api-Key"),
        ("TOKEN_HEADER", "x=s3cret, Cookie authorization", "X-Api-Key"),
        ("TRUSTED_ORIGINS", "https://a.example/page https://*.example.com", "not *"),
        ("TRUSTED_ORIGINS", "https://UI.example https://me:s3cret@a.example", "lower case"),
        ("PUBLIC_URL", "a.example https://a.example/ https://me:s3cret@a.example", "https://host"),
        ("SIGN_IN_URL", "javascript:alert(1) //a.example https://me:s3cret@a.example", "/path"),
    ],
)
def test_error_of_invalid_setting_omits_its_value(name: str, values: str, remedy: str) -> None:
    """The message also says which values are valid."""
    for value in values.split():
        with pytest.raises(StartError, match=rf"\n  {name}(, entry \d)?: ") as refused:
            load_settings(**{name: value})
        assert remedy in str(refused.value), value
        assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("explicit", "injected", "insecure", "endpoint", "plaintext"),
    [
        ("http://flyte:8090", "", "", "http://flyte:8090", True),
        ("", "Flyte.example", "", "Flyte.example", False),
        ("", "http://flyte:8090", "", "http://flyte:8090", True),
        ("", "flyte:8090", "true", "flyte:8090", True),
        # The devbox's variables do not turn an endpoint with TLS into one without.
        ("https://[::1]:8443/", "flyte:8090", "true", "https://[::1]:8443/", False),
    ],
)
def test_explicit_endpoint_overrides_injected_variables(
    explicit: str, injected: str, insecure: str, endpoint: str, plaintext: bool
) -> None:
    injecting = {"_U_EP_OVERRIDE": injected, "_U_INSECURE": insecure}
    injecting["FLYTE_INTERNAL_EXECUTION_PROJECT"] = "injected"
    mine = "mine" if explicit else ""
    settings = load_settings(FLYTE_ENDPOINT=explicit, FLYTE_PROJECT=mine, **injecting)
    assert settings.flyte_project == (mine or "injected")
    assert (settings.flyte_endpoint, settings.flyte_plaintext) == (endpoint, plaintext)


def test_all_invalid_settings_are_reported_together() -> None:
    """Unusual valid values are accepted."""
    with pytest.raises(StartError, match=r"(?s)FLYTE_TIMEOUT: .*COOKIE_NAMES, entry 1: "):
        load_settings(FLYTE_TIMEOUT="soon", COOKIE_NAMES="a b")
    with pytest.raises(StartError, match="together: give two COLOURS"):
        load(OwnSettings, {"COLOURS": "a,b,c"})
    origins = "http://[::1]:443,https://ui.example:80,https://a.example:8443"
    load_settings(PUBLIC_URL="https://app.example:8443/pre/fix", TRUSTED_ORIGINS=origins)
