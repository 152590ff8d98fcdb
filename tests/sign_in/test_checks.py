"""The commands in docs/sign-in.md, which must detect each mistake in the configuration."""

import re
from contextlib import closing
from dataclasses import replace

import pytest
import yaml

from local_flyte.apps import free_port

from ..baking import BIN, run
from ..walkthrough import code_blocks
from .conftest import Chain

ACCOUNTS = {"ci": "flyte", "guest": "other"}
"""Audiences of the tokens of service accounts."""
UPSTREAM = r"http://my-flyte-app-[\w-]+\.flyte\.svc\.cluster\.local"
END = "-- end of a check --"
STEP_3 = "3. Configure and deploy the app"


def shell(chain: Chain, commands: str, cookie: str = "") -> str:
    """Run commands of the page in bash, and return the output."""
    values = {"<value>": cookie, "<address>": chain.published}
    for account, audience in ACCOUNTS.items():
        client = {"client_secret": f"secret-{account}", "audience": audience}
        chain.provider.clients[account] = client
        values[f"<secret of {account}>"] = client["client_secret"]
    for placeholder, value in values.items():
        commands = commands.replace(placeholder, value)
    commands = re.sub(UPSTREAM, chain.app, chain.here(commands))
    return run(["bash", "-c", commands], chain.folder, CURL_CA_BUNDLE=str(chain.folder / "ca.pem"))


def blocks(chain: Chain) -> list[tuple[str, str]]:
    """Return the steps with their shell commands, except those for a cluster."""
    sections = chain.page.read_text("utf-8").split("\n## ")
    found = re.compile(r"^```sh no test\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    every = [(section[0], block) for section in sections for block in found.findall(section)]
    return [(step, block) for step, block in every if "kubectl" not in block]


def failed_steps(chain: Chain) -> str:
    """Run all checks of the page, and return the steps with an unexpected result."""
    with closing(chain.signed_in("alice")) as alice:
        cookie = alice.cookies["__Host-oauth2_proxy"]
    texts = {"the issuer": f'"{chain.provider.issuer}"'}
    texts |= {"the service account": '"account-ci"', "the user": '"alice"'}
    lines = [(step, line) for step, block in blocks(chain) for line in block.splitlines()]
    checks = [(step, line.partition("  # ")[2]) for step, line in lines if "  # " in line]
    commands = [f"{line}\necho '{END}'" if "  # " in line else line for _, line in lines]
    outputs = shell(chain, "\n".join(commands), cookie).split(f"{END}\n")
    assert len(outputs) - 1 == len(checks) > 15
    failed = {
        step
        for (step, expected), output in zip(checks, outputs, strict=False)
        for text in expected.split(", ")
        if (f" {text}\n" if text.isdecimal() else texts.get(text, text)) not in output
    }
    return "".join(sorted(failed))


def test_checks_pass_with_configuration_of_page(chain: Chain) -> None:
    assert failed_steps(chain) == ""


@pytest.mark.parametrize(
    ("flag", "steps"),
    [
        ("--skip-auth-strip-headers=false", "45"),
        ("--bearer-token-login-fallback=false", "4"),
        ("--skip-jwt-bearer-tokens=false", "47"),
        ("--pass-access-token=false", "457"),
        ("--pass-host-header=true", "4567"),
    ],
)
def test_checks_detect_wrong_oauth2_proxy_option(chain: Chain, flag: str, steps: str) -> None:
    with chain.behind(flag) as changed:
        assert failed_steps(changed) == steps


@pytest.mark.parametrize(
    ("old", "new", "steps"),
    [
        ("requires: {provider_name: idp}", "", "28"),
        ("audiences: [flyte]", "audiences: [other]", "28"),
        ("audiences: [flyte]", "", "8"),
        ("x-amzn-oidc-identity, ", "", "2"),
    ],
)
def test_checks_detect_wrong_envoy_configuration(
    *, chain: Chain, old: str, new: str, steps: str
) -> None:
    with chain.with_envoy(free_port(), {old: new}) as changed:
        assert failed_steps(changed) == steps


def test_checks_detect_app_without_gateway_restriction(chain: Chain) -> None:
    assert failed_steps(replace(chain, published=chain.app)) == "3"


def test_flyte_command_gets_token_from_documented_config(chain: Chain) -> None:
    """Make runs some commands in ``sh``, which may not pass on functions of bash."""
    (config,) = code_blocks(chain.page, STEP_3, "yaml")
    file = chain.folder / "config.yaml"
    settings = yaml.safe_load(chain.here(config))
    settings["admin"]["caCertFilePath"] = str(chain.folder / "ca.pem")
    file.write_text(yaml.safe_dump(settings), "utf-8")
    definitions = "\n".join(block for _, block in blocks(chain)[:2])
    assert "flytesnacks" in shell(
        chain, f"{definitions}\nsh -c '{BIN}/flyte -c {file} get project'"
    )
