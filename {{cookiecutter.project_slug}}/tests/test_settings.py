"""What the environment may say, and what the app says to the rest."""

import asyncio

import pytest

from app.flyte_client import FlyteConnectionError, connect
from app.settings import Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields.values():
        for name in field.validation_alias.choices:  # type: ignore[union-attr]
            monkeypatch.delenv(str(name), raising=False)


def test_everything_but_the_endpoint_has_a_default() -> None:
    settings = load_settings()
    assert settings.flyte_endpoint is None
    assert settings.flyte_project
    assert settings.flyte_domain
    assert settings.flyte_timeout == 30
    assert settings.trusted_origins == ()
    assert "flyte_rt" not in (settings.cookie_names or ())


def test_what_flyte_injects_is_used_and_what_the_owner_sets_wins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("_U_EP_OVERRIDE", "dns:///injected")
    monkeypatch.setenv("FLYTE_INTERNAL_EXECUTION_PROJECT", "injected")
    assert load_settings().flyte_endpoint == "dns:///injected"
    assert load_settings().flyte_project == "injected"
    monkeypatch.setenv("FLYTE_ENDPOINT", "dns:///mine")
    assert load_settings().flyte_endpoint == "dns:///mine"


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COOKIE_NAMES", "a, b,")
    monkeypatch.setenv("CREDENTIAL_HEADERS", "x-api-key")
    monkeypatch.setenv("TRUSTED_ORIGINS", "https://a.example,https://b.example:8443")
    settings = load_settings()
    assert settings.cookie_names == frozenset({"a", "b"})
    assert settings.credential_headers == ("x-api-key",)
    assert settings.trusted_origins == ("https://a.example", "https://b.example:8443")


def test_an_asterisk_forwards_every_cookie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COOKIE_NAMES", "*")
    assert load_settings().cookie_names is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FLYTE_TIMEOUT", "soon"),
        ("FLYTE_TIMEOUT", "0"),
        ("ALLOW_ANONYMOUS", "maybe"),
        ("COOKIE_NAMES", "a b"),
        ("CREDENTIAL_HEADERS", "x-key:"),
        ("CREDENTIAL_HEADERS", "*"),
        ("TRUSTED_ORIGINS", "https://a.example/page"),
        ("TRUSTED_ORIGINS", "*"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load_settings()


def test_all_wrong_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_TIMEOUT", "soon")
    monkeypatch.setenv("COOKIE_NAMES", "a b")
    with pytest.raises(SettingsError, match=r"(?s)FLYTE_TIMEOUT.*COOKIE_NAMES"):
        load_settings()


def test_without_an_endpoint_the_app_says_what_to_set() -> None:
    with pytest.raises(FlyteConnectionError, match="FLYTE_ENDPOINT"):
        asyncio.run(connect(Settings()))


@pytest.mark.parametrize(
    "variables",
    [
        {"FLYTE_ENDPOINT": "http://flyte.example"},
        {"FLYTE_ENDPOINT": "dns:///flyte.example", "_U_INSECURE": "true"},
    ],
)
def test_a_plaintext_connection_is_refused_because_it_drops_credentials(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(FlyteConnectionError, match=r"plaintext.*ALLOW_ANONYMOUS"):
        asyncio.run(connect(load_settings()))
