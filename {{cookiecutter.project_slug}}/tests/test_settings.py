"""What the environment may say, and what the app says to the rest."""

import asyncio

import pytest

from app.flyte_client import connect
from app.main import create_app
from app.settings import CONNECTION, Settings, SettingsError, check_connection, load_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields.values():
        for name in field.validation_alias.choices:  # type: ignore[union-attr]
            monkeypatch.delenv(str(name), raising=False)


def says_what_to_deploy(message: str) -> bool:
    """Tell whether a message has the lines for Union, for open source and for the devbox."""
    lines = ("env_vars={}", '{"FLYTE_ENDPOINT": "dns:///', '{"ALLOW_ANONYMOUS": "true"}')
    return all(line in message for line in lines)


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
    ("name", "value", "remedy"),
    [
        ("FLYTE_ENDPOINT", "garbage", "dns:///host"),
        ("FLYTE_ENDPOINT", "ftp://flyte.example", "dns:///host"),
        ("FLYTE_ENDPOINT", "dns:///", "dns:///host"),
        ("FLYTE_ENDPOINT", "https://flyte.example/console", "dns:///host"),
        ("_U_EP_OVERRIDE", "gar bage:80", "dns:///host"),
        ("FLYTE_ENDPOINT", "dns:///127.0.0.1:99999", "1 to 65535"),
        ("_U_EP_OVERRIDE", "flyte.example:0/", "1 to 65535"),
        ("FLYTE_PROJECT", "My Project", "lower-case letters"),
        ("FLYTE_INTERNAL_EXECUTION_DOMAIN", "-", "lower-case letters"),
        ("FLYTE_TIMEOUT", "inf", "finite"),
        ("FLYTE_TIMEOUT", "nan", "finite"),
        ("FLYTE_TIMEOUT", "86401", "less than or equal to 86400"),
        ("FLYTE_DATA_ADDRESSES", "http://data.example", "with TLS"),
        ("FLYTE_DATA_ADDRESSES", "data.example", "https://host"),
        ("FLYTE_TIMEOUT", "soon", "number"),
        ("FLYTE_TIMEOUT", "0", "greater than 0"),
        ("ALLOW_ANONYMOUS", "maybe", "boolean"),
        ("_U_INSECURE", "maybe", "boolean"),
        ("COOKIE_NAMES", "a b", "flyte_at,flyte_at_1,flyte_at_2,flyte_idt,<your cookie>"),
        ("CREDENTIAL_HEADERS", "x-key:", "X-Api-Key"),
        ("CREDENTIAL_HEADERS", "*", "X-Api-Key"),
        ("CREDENTIAL_HEADERS", "Host", "X-Api-Key"),
        ("CREDENTIAL_HEADERS", "X-Key, Content-Type", "X-Api-Key"),
        ("CREDENTIAL_HEADERS", "Authorization", "forwarded already"),
        ("TOKEN_HEADER", "a b", "X-Forwarded-Access-Token"),
        ("TOKEN_HEADER", "Cookie", "X-Forwarded-Access-Token"),
        ("TOKEN_HEADER", "Authorization", "taken from Authorization"),
        ("TRUSTED_ORIGINS", "https://a.example/page", "https://host"),
        ("TRUSTED_ORIGINS", "*", "https://host"),
        ("TRUSTED_ORIGINS", "https://*.example.com", "without *"),
        ("TRUSTED_ORIGINS", "https://münchen.example", "xn--"),
        ("TRUSTED_ORIGINS", "https://UI.example", "lower case"),
        ("TRUSTED_ORIGINS", "https://ui.example:443", "without :443"),
        ("TRUSTED_ORIGINS", "http://ui.example:80", ":80 after http://"),
        ("SIGN_IN_URL", "javascript:alert(1)", "https://host/path"),
        ("SIGN_IN_URL", "//elsewhere.example", "https://host/path"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable_and_what_to_give_instead(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, remedy: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=rf"\n  {name}(='.*')?: ") as refused:
        load_settings()
    assert remedy in str(refused.value)
    assert says_what_to_deploy(str(refused.value)) is (name in CONNECTION)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CREDENTIAL_HEADERS", "x-api-key: s3cret-key"),
        ("COOKIE_NAMES", "flyte_at=s3cret-key"),
        ("TOKEN_HEADER", "Bearer s3cret-key"),
        ("FLYTE_ENDPOINT", "https://me:s3cret-key@flyte.example"),
        ("TRUSTED_ORIGINS", "https://me:s3cret-key@flyte.example"),
        ("SIGN_IN_URL", "https://me:s3cret-key@flyte.example"),
    ],
)
def test_a_credential_given_by_mistake_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name) as refused:
        load_settings()
    assert "s3cret" not in str(refused.value)


def test_nor_is_one_in_a_variable_that_is_outranked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_U_EP_OVERRIDE", "https://me:s3cret-key@flyte.example")
    monkeypatch.setenv("FLYTE_ENDPOINT", "http://flyte.example")
    with pytest.raises(SettingsError, match=r"plaintext") as refused:
        check_connection(load_settings())
    assert "_U_EP_OVERRIDE" in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_all_wrong_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_TIMEOUT", "soon")
    monkeypatch.setenv("COOKIE_NAMES", "a b")
    with pytest.raises(SettingsError, match=r"(?s)FLYTE_TIMEOUT='soon'.*COOKIE_NAMES"):
        load_settings()


@pytest.mark.parametrize(
    ("variables", "endpoint", "plaintext"),
    [
        ({"FLYTE_ENDPOINT": "dns:///flyte.example"}, "dns:///flyte.example", False),
        ({"FLYTE_ENDPOINT": "https://[::1]:8443/"}, "https://[::1]:8443/", False),
        ({"FLYTE_ENDPOINT": "http://flyte:8090"}, "http://flyte:8090", True),
        ({"_U_EP_OVERRIDE": "flyte.example"}, "flyte.example", False),
        ({"_U_EP_OVERRIDE": "flyte:8090", "_U_INSECURE": "true"}, "flyte:8090", True),
        ({"_U_EP_OVERRIDE": "http://flyte:8090"}, "http://flyte:8090", True),
        # What the devbox injects does not turn an endpoint with TLS into one without.
        (
            {
                "FLYTE_ENDPOINT": "dns:///flyte.example",
                "_U_EP_OVERRIDE": "flyte:8090",
                "_U_INSECURE": "true",
            },
            "dns:///flyte.example",
            False,
        ),
    ],
)
def test_an_explicit_endpoint_outranks_everything_that_is_injected(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], endpoint: str, plaintext: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert (settings.flyte_endpoint, settings.flyte_plaintext) == (endpoint, plaintext)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FLYTE_ENDPOINT", "dns:///127.0.0.1:65535"),
        ("FLYTE_DATA_ADDRESSES", "https://Data.example:443"),  # compared with what Flyte says
        ("TRUSTED_ORIGINS", "http://[::1]:443,https://ui.example:80,https://a.example:8443"),
    ],
)
def test_values_that_only_look_wrong_are_taken(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    create_app(load_settings())


def test_what_the_middleware_refuses_stops_the_app_before_the_first_request() -> None:
    with pytest.raises(ValueError, match=r"not an origin"):
        create_app(load_settings().model_copy(update={"trusted_origins": ("*",)}))


@pytest.mark.parametrize(("endpoint", "warnings"), [("dns:///flyte", 1), ("http://flyte:8090", 0)])
def test_allowing_nobody_where_everybody_is_somebody_is_said_to_have_no_effect(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    endpoint: str,
    warnings: int,
) -> None:
    monkeypatch.setenv("FLYTE_ENDPOINT", endpoint)
    monkeypatch.setenv("ALLOW_ANONYMOUS", "true")
    check_connection(load_settings())
    assert caplog.text.count("ALLOW_ANONYMOUS has no effect") == warnings


def test_without_an_endpoint_the_app_says_what_to_set() -> None:
    with pytest.raises(SettingsError, match=r"FLYTE_ENDPOINT.*_U_EP_OVERRIDE") as refused:
        asyncio.run(connect(load_settings()))
    assert says_what_to_deploy(str(refused.value))


@pytest.mark.parametrize(
    "variables",
    [
        {"FLYTE_ENDPOINT": "http://flyte.example"},
        {"_U_EP_OVERRIDE": "flyte.example:8090", "_U_INSECURE": "true"},
    ],
)
def test_a_plaintext_connection_is_refused_because_it_drops_credentials(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=r"plaintext.*ALLOW_ANONYMOUS") as refused:
        asyncio.run(connect(load_settings()))
    assert all(f"{name}={value!r}" in str(refused.value) for name, value in variables.items())
    assert says_what_to_deploy(str(refused.value))
    monkeypatch.setenv("ALLOW_ANONYMOUS", "true")
    check_connection(load_settings())
