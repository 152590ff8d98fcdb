"""Valid settings in the environment, and the messages about invalid ones."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from passthrough.settings import CONNECTION, Settings, SettingsError, checked, connect, env
from passthrough.settings import load_settings as load

BIN = Path(sys.executable).parent


class OwnSettings(Settings):
    colours: tuple[str, ...] = env("COLOURS", default=())


def load_settings(**variables: str) -> Settings:
    return load(Settings, variables)


def says_what_to_deploy(message: str) -> bool:
    """Tell whether a message has the lines for Union, open source and the devbox."""
    lines = ("env_vars={}", '{"FLYTE_ENDPOINT": "dns:///', '{"ALLOW_ANONYMOUS": "true"}')
    return all(line in message for line in lines)


def test_everything_but_the_endpoint_has_a_default() -> None:
    settings = load_settings()
    assert settings.flyte_endpoint is None
    assert "flyte_rt" not in (settings.cookie_names or ())


def test_the_owners_settings_override_those_that_flyte_injects() -> None:
    injected = {"_U_EP_OVERRIDE": "dns:///injected", "FLYTE_INTERNAL_EXECUTION_PROJECT": "injected"}
    assert load_settings(**injected).flyte_endpoint == "dns:///injected"
    assert load_settings(**injected).flyte_project == "injected"
    assert load_settings(**injected, FLYTE_ENDPOINT="dns:///mine").flyte_endpoint == "dns:///mine"


def test_lists_are_comma_separated_the_owners_too() -> None:
    settings = load(OwnSettings, {"COOKIE_NAMES": "a, b,", "COLOURS": "red, blue"})
    assert settings.cookie_names == frozenset({"a", "b"})
    assert settings.colours == ("red", "blue")


def test_an_asterisk_forwards_every_cookie() -> None:
    assert load_settings(COOKIE_NAMES="*").cookie_names is None


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
        ("FLYTE_TIMEOUT", "soon", "number"),
        ("FLYTE_TIMEOUT", "0", "greater than 0"),
        ("FLYTE_DATA_ADDRESSES", "http://data.example", "with TLS"),
        ("FLYTE_DATA_ADDRESSES", "data.example", "https://host"),
        ("ALLOW_ANONYMOUS", "maybe", "boolean"),
        ("_U_INSECURE", "maybe", "boolean"),
        ("COOKIE_NAMES", "a b", "flyte_at,flyte_at_1,flyte_at_2,flyte_idt,<your cookie>"),
        ("COOKIE_NAMES", "flyte_at,*", "* for all cookies"),
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
        ("TRUSTED_ORIGINS", "http://ui.example:80", ":80"),
        ("ALLOWED_HOSTS", "app.example:8080", "without a port"),
        ("ALLOWED_HOSTS", "https://app.example", "host name"),
        ("ALLOWED_HOSTS", "*", "host name"),
        ("OAUTH_ISSUER", "login.example.com", "https://host[/path]"),
        ("SIGN_IN_URL", "javascript:alert(1)", "https://host/path"),
        ("SIGN_IN_URL", "//elsewhere.example", "https://host/path"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable_and_what_to_give_instead(
    name: str, value: str, remedy: str
) -> None:
    with pytest.raises(SettingsError, match=rf"\n  {name}(='.*')?: ") as refused:
        load_settings(**{name: value})
    assert remedy in str(refused.value)
    assert says_what_to_deploy(str(refused.value)) is (name in CONNECTION)


def test_an_invalid_default_is_reported_with_its_variable() -> None:
    class Wrong(Settings):
        size: int = env("SIZE", default="small")

    with pytest.raises(SettingsError, match="SIZE: Input should be a valid integer"):
        load(Wrong, {})


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
def test_a_credential_given_by_mistake_is_not_shown(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name) as refused:
        load_settings(**{name: value})
    assert "s3cret" not in str(refused.value)


def test_all_invalid_values_are_reported_at_once() -> None:
    with pytest.raises(SettingsError, match=r"(?s)FLYTE_TIMEOUT='soon'.*COOKIE_NAMES"):
        load_settings(FLYTE_TIMEOUT="soon", COOKIE_NAMES="a b")


@pytest.mark.parametrize(
    ("variables", "endpoint", "plaintext"),
    [
        ({"FLYTE_ENDPOINT": "dns:///flyte.example"}, "dns:///flyte.example", False),
        ({"FLYTE_ENDPOINT": "https://[::1]:8443/"}, "https://[::1]:8443/", False),
        ({"FLYTE_ENDPOINT": "dns:///127.0.0.1:65535"}, "dns:///127.0.0.1:65535", False),
        ({"FLYTE_ENDPOINT": "http://flyte:8090"}, "http://flyte:8090", True),
        ({"_U_EP_OVERRIDE": "flyte.example"}, "flyte.example", False),
        ({"_U_EP_OVERRIDE": "flyte:8090", "_U_INSECURE": "true"}, "flyte:8090", True),
        ({"_U_EP_OVERRIDE": "http://flyte:8090"}, "http://flyte:8090", True),
        # The devbox's variables do not turn an endpoint with TLS into one without.
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
    variables: dict[str, str], endpoint: str, plaintext: bool
) -> None:
    settings = load_settings(**variables)
    assert (settings.flyte_endpoint, settings.flyte_plaintext) == (endpoint, plaintext)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FLYTE_DATA_ADDRESSES", "https://Data.example:443"),  # compared with Flyte's answer
        ("TRUSTED_ORIGINS", "http://[::1]:443,https://ui.example:80,https://a.example:8443"),
    ],
)
def test_valid_values_that_look_wrong_are_accepted(name: str, value: str) -> None:
    load_settings(**{name: value})


# Misspelt settings


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("FLYTE_TIMOUT", "FLYTE_TIMEOUT"),
        ("TRUSTED_ORIGIN", "TRUSTED_ORIGINS"),
        ("COLORS", "COLOURS"),
    ],
)
def test_a_misspelt_setting_gives_a_warning_at_start_and_an_error_when_deploying(
    name: str, meant: str, caplog: pytest.LogCaptureFixture
) -> None:
    load(OwnSettings, {name: "5"})
    assert f"{name} is not a setting of the app; did you mean {meant}?" in caplog.text
    with pytest.raises(SettingsError, match=f"did you mean {meant}"):
        checked(OwnSettings, {name: "5"})


def test_variables_that_resemble_no_setting_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    others = {
        "DO_NOT_TRACK": "1",
        "FLYTE_INTERNAL_TASK_PROJECT": "x",
        "PATH": "/bin",
        "_U_ORG": "x",
    }
    assert checked(Settings, others) == others
    load(Settings, {**os.environ, **others})
    assert caplog.text == ""


# Refusals at start


def refusal(settings: Settings) -> str:
    with pytest.raises(SettingsError) as refused:
        asyncio.run(connect(settings))
    return str(refused.value)


def test_without_an_endpoint_the_message_says_what_to_set() -> None:
    message = refusal(load_settings())
    assert "neither FLYTE_ENDPOINT nor _U_EP_OVERRIDE, which Flyte injects, is set" in message
    assert says_what_to_deploy(message)


@pytest.mark.parametrize(
    "variables",
    [
        {"FLYTE_ENDPOINT": "http://flyte.example"},
        {"_U_EP_OVERRIDE": "flyte.example:8090", "_U_INSECURE": "true"},
        {
            "FLYTE_ENDPOINT": "http://flyte.example",
            "_U_EP_OVERRIDE": "https://me:s3cret-key@flyte.example",
        },
    ],
)
def test_a_plaintext_connection_is_refused_because_it_drops_credentials(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    message = refusal(load_settings(**variables))
    assert "plaintext" in message
    assert all(name in message for name in variables)
    assert "s3cret" not in message
    assert says_what_to_deploy(message)


UVICORN = [BIN / "uvicorn", "app.main:app", "--port", "0"]


@pytest.mark.parametrize(
    ("command", "environment", "message"),
    [
        (UVICORN, {"FLYTE_ENDPOINT": "http://127.0.0.1:1"}, "plaintext"),
        (UVICORN, {}, "neither FLYTE_ENDPOINT"),
        (UVICORN, {"FLYTE_TIMEOUT": "-1"}, "FLYTE_TIMEOUT='-1': Input should be greater than 0"),
        ([sys.executable, "-c", "import app.main"], {"COOKIE_NAMES": "a b"}, "COOKIE_NAMES: holds"),
    ],
)
def test_a_refusal_at_start_is_one_message_without_a_traceback(
    command: list[str | Path], environment: dict[str, str], message: str, default_project: Path
) -> None:
    printed = failing(command, default_project, **environment)
    assert message in printed
    assert printed.count("cannot start with") == 1
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"FLYTE_TIMEOUT": "soon"}, "FLYTE_TIMEOUT='soon': Input should be a valid number"),
        (
            {"FLYTE_TIMOUT": "5"},
            "FLYTE_TIMOUT is not a setting of the app; did you mean FLYTE_TIMEOUT?",
        ),
    ],
)
def test_a_wrong_or_misspelt_setting_in_deployment_py_fails_a_dry_run(
    variables: dict[str, str], message: str, default_project: Path, tmp_path: Path
) -> None:
    deployment = (default_project / "deployment.py").read_text("utf-8")
    changed = deployment.replace('"DO_NOT_TRACK": "1",', str(variables)[1:-1] + ",")
    assert changed != deployment
    (tmp_path / "wrong.py").write_text(changed, "utf-8")
    config = tmp_path / "flyte.yaml"
    config.write_text(
        "admin: {endpoint: 'dns:///127.0.0.1:1'}\n", "utf-8"
    )  # a dry run makes no calls
    command = ["flyte", "--config", str(config), "deploy", "--dry-run"]
    printed = failing(
        [BIN / command[0], *command[1:], str(tmp_path / "wrong.py"), "app_env"], default_project
    )
    assert message in printed
    assert "Traceback" not in printed


def failing(command: Sequence[str | Path], folder: Path, **environment: str) -> str:
    """Run a command that must fail; return what it printed."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FLYTE", "_U_", "ALLOW"))}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**clean, "PYTHONPATH": str(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode != 0, done.stdout
    return done.stdout
