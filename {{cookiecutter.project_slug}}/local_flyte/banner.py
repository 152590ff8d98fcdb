"""The output of ``python -m local_flyte``: commands to paste, for the folder it runs in."""

import json
import os
import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from . import PEOPLE, LocalFlyte
from .modes import Mode
from .same_user import is_known
from .sign_in import choice, link

ASIDE = ("expired",)
"""People who are useful only for tests."""


NEEDS = {
    Mode.UNION: "",
    Mode.OPEN_SOURCE: ', once the line "FLYTE_ENDPOINT" in deployment.py is uncommented',
    Mode.DEVBOX: ', once the line "ALLOW_ANONYMOUS" in deployment.py is uncommented',
}
"""What the app's owner must do before deploying."""


def app_variables(local_flyte: LocalFlyte) -> dict[str, str]:
    """Return the variables that a cluster sets for an app, and those that its owner must add."""
    added = {
        Mode.UNION: {},
        Mode.OPEN_SOURCE: {"FLYTE_ENDPOINT": local_flyte.endpoint},
        Mode.DEVBOX: {"ALLOW_ANONYMOUS": "true"},
    }
    return local_flyte.app_environment() | added[local_flyte.mode]


def app_banner(
    local_flyte: LocalFlyte,
    url: str,
    *,
    secret: str,
    offered: Collection[str],
    task_variables: Sequence[str],
    task: str | None,
    api_key_header: str | None,
    notes: Sequence[str] = (),
) -> str:
    """Return the app's address, and how to use it as different people.

    Args:
        local_flyte: The local Flyte that the app uses.
        url: The app's address.
        secret: The secret in the sign-in links.
        offered: The app's paths, as in its OpenAPI document.
        task_variables: The variables for task environments in deployment.py.
        task: A task with a name as its input; None if there is none to show.
        api_key_header: A header for API keys; None if there is none.
        notes: Further lines.
    """
    flyte = flyte_command(local_flyte)
    runs = f"{url}/tasks/{task}/runs" if task and "/tasks/{name}/runs" in offered else None
    me = f"{url}/me" if "/me" in offered else None
    match local_flyte.mode:
        case Mode.UNION:
            people = _people_with_rights(local_flyte, url, secret, me, runs)
        case Mode.OPEN_SOURCE:
            people = _people_without_rights(local_flyte, me, runs)
        case Mode.DEVBOX:
            people = _nobody(me, runs)
    # Cookies work only in this mode, as they do for the app.
    start = choice(url, secret) if local_flyte.mode is Mode.UNION else url
    parts = [
        f"Open       {start}\nAPI docs   {url}/docs\nFlyte      {local_flyte.endpoint}, a local"
        " stand-in",
        *notes,
        *people,
    ]
    if api_key_header and me and local_flyte.mode is Mode.UNION:
        header = f"{api_key_header}: {PEOPLE['alice'].api_key}"
        parts.append(_lines(f"Or as alice, with {api_key_header}:", [_curl(me, header)]))
    parts += [*_to_the_project(), _command_line(local_flyte)]
    if task_variables:
        register = [f"{flyte} deploy deployment.py {name}" for name in task_variables]
        parts.append(_lines("Register tasks:", register))
    parts.append(
        _lines(
            f"Deploy the app to this Flyte{NEEDS[local_flyte.mode]}:",
            [f"{flyte} deploy deployment.py app_env"],
        )
    )
    if local_flyte.mode is Mode.UNION:
        authority = local_flyte.app_environment()["SSL_CERT_FILE"]
        parts.append(f"To call what is deployed, give curl its certificate: --cacert {authority}")
    parts += [
        "Press Ctrl-C to stop.",
    ]
    return "\n" + "\n\n".join(parts) + "\n"


def _people_with_rights(
    local_flyte: LocalFlyte, url: str, secret: str, me: str | None, runs: str | None
) -> list[str]:
    shown = [person for person in PEOPLE.values() if person.name not in ASIDE]
    links = [f"{p.name:8}{link(url, p.name, secret)}  ({p.rights})" for p in shown]
    bearer = {person.name: _bearer(local_flyte, person.name) for person in shown}
    choose = (
        "At the address after Open you can choose a user. Or sign in directly, as one of four\n"
        "people. A second person needs another browser, or a private window:"
    )
    parts = [_lines(choose, links)]
    if me:
        headers = [bearer["alice"], bearer["bob"], f"Cookie: {PEOPLE['bob'].cookie}"]
        lines = [_curl(me, header) for header in headers]
        parts.append(_lines("Or call the app as alice or as bob:", lines))
    if runs:
        start = [_curl_to_run(runs, name, bearer[name]) for name in ("alice", "bob")]
        refused = _curl_to_run(runs, "victor", bearer["victor"])
        parts += [
            _lines("Start a run, as alice or as bob:", start),
            _lines("Victor may only view, so Flyte refuses to start his run (403):", [refused]),
        ]
    return parts


def _people_without_rights(local_flyte: LocalFlyte, me: str | None, runs: str | None) -> list[str]:
    bearer = {name: _bearer(local_flyte, name) for name in ("alice", "bob")}
    parts = [
        "It acts like the open-source Flyte behind a proxy that signs people in: it trusts any\n"
        "token, ignores cookies, and lets everybody do everything.",
    ]
    if me:
        lines = [_curl(me, header) for header in bearer.values()]
        parts.append(_lines("Call the app as alice or as bob:", lines))
    if runs:
        start = [_curl_to_run(runs, name, header) for name, header in bearer.items()]
        parts.append(_lines("Start a run, as alice or as bob:", start))
    return parts


def _devbox() -> str:
    text = (
        "It acts like Flyte's devbox: without TLS, so the SDK sends no credentials. Everybody is\n"
        "anonymous, and may do everything. "
    )
    if is_known():
        return text + "Other users of this machine are refused."
    return text + (
        "This system does not show which user a connection comes\n"
        "from, so every user of this machine can run programs as you: don't use it on a shared\n"
        "machine."
    )


def _nobody(me: str | None, runs: str | None) -> list[str]:
    parts = [_devbox()]
    if me:
        parts.append(_lines("Call the app:", [_curl(me)]))
    if runs:
        parts.append(_lines("Start a run:", [_curl_to_run(runs, "nobody")]))
    return parts


def flyte_banner(local_flyte: LocalFlyte) -> str:
    """Return how to use the local Flyte without the app."""
    variables = app_variables(local_flyte).items()
    parts = [
        _lines(
            "Settings for an app that uses this Flyte:",
            [f"export {name}={shlex.quote(value)}" for name, value in variables],
        ),
        *_tokens(local_flyte),
        *_to_the_project(),
        _command_line(local_flyte),
        "Press Ctrl-C to stop.",
    ]
    return "\n" + "\n\n".join(parts) + "\n"


def _tokens(local_flyte: LocalFlyte) -> list[str]:
    """List the people that this kind of Flyte distinguishes, with their tokens."""
    tokens = {name: local_flyte.token(name) for name in PEOPLE}
    match local_flyte.mode:
        case Mode.UNION:
            people = [f"{name:8}{tokens[name]}  ({p.rights})" for name, p in PEOPLE.items()]
            return [_lines("The people, and their tokens:", people)]
        case Mode.OPEN_SOURCE:
            people = [f"{name:8}{tokens[name]}" for name in PEOPLE if name not in ASIDE]
            return [_lines("The people, who may all do everything, and their tokens:", people)]
        case Mode.DEVBOX:
            return [_devbox()]


def _to_the_project() -> list[str]:
    """Return how to get to this folder, if the command was started elsewhere, as by the demo."""
    here, there = Path.cwd(), os.environ.get("PWD", "")
    if not there or Path(there).resolve() == here.resolve():
        return []
    return [_lines("The commands below are for this folder:", [f"cd {shlex.quote(str(here))}"])]


def _command_line(local_flyte: LocalFlyte) -> str:
    somebody = "" if local_flyte.mode is Mode.DEVBOX else ", as alice"
    line = f"{flyte_command(local_flyte)} get run"
    return _lines(f"Flyte's own command line{somebody}:", [line])


def flyte_command(local_flyte: LocalFlyte) -> str:
    """Return how to call the ``flyte`` command as alice from the current folder."""
    program = Path(sys.executable).with_name("flyte")
    shown = Path(os.path.relpath(program))
    if ".." in shown.parts:
        shown = program
    return f"{shlex.quote(str(shown))} -c {shlex.quote(str(local_flyte.config_file('alice')))}"


def _lines(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, "", *(f"  {line}" for line in lines)])


def _bearer(local_flyte: LocalFlyte, name: str) -> str:
    return f"Authorization: Bearer {local_flyte.token(name)}"


def _curl(url: str, *headers: str) -> str:
    return " ".join(["curl", *(f"-H {shlex.quote(header)}" for header in headers), url])


def _curl_to_run(url: str, name: str, *headers: str) -> str:
    body = shlex.quote(json.dumps({"inputs": {"name": name.capitalize()}}))
    return _curl(f"-d {body} {url}", *headers, "Content-Type: application/json")
