"""What the app refuses to start with."""

import asyncio

import pytest
from starlette.types import Message
from template import ROOT

from passthrough.calls.sdk import StartError
from passthrough.settings import Settings
from passthrough.start import connect, validated

from ..baking import PROJECT
from .support import build_app
from .test_settings import OwnSettings, load_settings


def test_a_misspelt_setting_of_a_deployment_is_refused_and_others_are_not() -> None:
    assert "env_vars=validated(" in (ROOT / PROJECT / "deployment.py").read_text("utf-8")
    for name, meant in {"TRUSTED_ORIGIN": "TRUSTED_ORIGINS", "COLORS": "COLOURS"}.items():
        with pytest.raises(StartError, match=f"{name} is not .* did you mean {meant}"):
            validated(OwnSettings, {name: "5"})
    names = "DO_NOT_TRACK", "FLYTE_INTERNAL_EXECUTION_ID", "PATH", "_U_ORG"
    others = dict.fromkeys(names, "1")
    assert validated(Settings, others) == others


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({}, "neither FLYTE_ENDPOINT nor _U_EP_OVERRIDE, which Flyte injects, is set"),
        ({"FLYTE_ENDPOINT": "http://flyte.example"}, "would be plaintext .FLYTE_ENDPOINT"),
        ({"_U_EP_OVERRIDE": "a.example:1", "_U_INSECURE": "1"}, "plaintext .*_U_INSECURE is set"),
    ],
)
def test_a_plaintext_connection_is_refused_because_it_drops_credentials(
    variables: dict[str, str], problem: str
) -> None:
    with pytest.raises(StartError, match=problem) as refused:
        asyncio.run(connect(load_settings(**variables)))
    assert "deployment.py" in str(refused.value)  # which says what Union and others need


@pytest.mark.usefixtures("_safe_sdk")
async def test_a_refusal_at_start_is_one_message() -> None:
    """For the server, which prints it without a traceback."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    app = build_app(flyte_endpoint="http://127.0.0.1:1", flyte_plaintext=True)
    await app({"type": "lifespan", "app": app}, receive, send)
    ((kind, message),) = (message.values() for message in sent)
    assert kind == "lifespan.startup.failed"
    assert message.startswith("cannot start: the connection to Flyte would be plaintext")
