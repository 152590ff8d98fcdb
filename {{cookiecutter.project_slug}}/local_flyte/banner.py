"""What ``python -m local_flyte`` prints: lines that work as they are, where it was started."""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from . import PEOPLE, LocalFlyte
from .modes import Mode
from .sign_in import choice, link

ASIDE = ("expired",)
"""People who are of use to tests only."""


NEEDS = {
    Mode.UNION: "",
    Mode.OPEN_SOURCE: ', once the line "FLYTE_ENDPOINT" in deployment.py is uncommented',
    Mode.DEVBOX: ', once the line "ALLOW_ANONYMOUS" in deployment.py is uncommented',
}
"""What the app's owner does before it is deployed."""


def app_variables(local_flyte: LocalFlyte) -> dict[str, str]:
    """Return what a cluster sets for an app, and what its owner adds on this kind of Flyte."""
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
    has_tasks: bool,
    task: str | None,
    api_key_header: str | None,
    notes: Sequence[str] = (),
) -> str:
    """Say where the app is, and how to use it as one person or another.

    Args:
        local_flyte: What the app runs on.
        url: Where the app answers.
        secret: What the sign-in links hold.
        has_tasks: Whether the project has tasks to register.
        task: A task that takes a name; None if there is none to show.
        api_key_header: A header by which people are recognised too; None if there is none.
        notes: What else to say.
    """
    flyte = flyte_command(local_flyte)
    runs = f"{url}/tasks/{task}/runs" if task else None
    match local_flyte.mode:
        case Mode.UNION:
            people = _people_with_rights(local_flyte, url, secret, runs)
        case Mode.OPEN_SOURCE:
            people = _people_without_rights(local_flyte, url, runs)
        case Mode.DEVBOX:
            people = _nobody(url, runs)
    # Like the app, it takes cookies in this mode only.
    start = choice(url, secret) if local_flyte.mode is Mode.UNION else url
    parts = [
        f"Open       {start}\nAPI docs   {url}/docs\nFlyte      {local_flyte.endpoint}, a local"
        " stand-in",
        *notes,
        *people,
    ]
    if api_key_header and local_flyte.mode is Mode.UNION:
        header = f"{api_key_header}: {PEOPLE['alice'].api_key}"
        parts.append(_lines(f"Or as alice, by {api_key_header}:", [_curl(f"{url}/me", header)]))
    parts.append(_command_line(local_flyte))
    if has_tasks:
        parts.append(_lines("Register tasks:", [f"{flyte} deploy deployment.py task_env"]))
    parts += [
        _lines(
            f"Deploy the app to this Flyte{NEEDS[local_flyte.mode]}:",
            [f"{flyte} deploy deployment.py app_env"],
        ),
        "Press Ctrl-C to stop.",
    ]
    return "\n" + "\n\n".join(parts) + "\n"


def _people_with_rights(
    local_flyte: LocalFlyte, url: str, secret: str, runs: str | None
) -> list[str]:
    shown = [person for person in PEOPLE.values() if person.name not in ASIDE]
    links = [f"{p.name:8}{link(url, p.name, secret)}  ({p.rights})" for p in shown]
    bearer = {person.name: _bearer(local_flyte, person.name) for person in shown}
    me = [_curl(f"{url}/me", bearer[name]) for name in ("alice", "bob")]
    me.append(_curl(f"{url}/me", f"Cookie: {PEOPLE['bob'].cookie}"))
    parts = [
        _lines("There you choose who to be. Or sign in at once, as one of four people:", links),
        _lines("Or call the app as alice or as bob:", me),
    ]
    if runs:
        start = [_curl_to_run(runs, name, bearer[name]) for name in ("alice", "bob")]
        refused = _curl_to_run(runs, "victor", bearer["victor"])
        parts += [
            _lines("Start a run, as alice or as bob:", start),
            _lines("Victor may only look, so Flyte refuses to start his (403):", [refused]),
        ]
    return parts


def _people_without_rights(local_flyte: LocalFlyte, url: str, runs: str | None) -> list[str]:
    bearer = {name: _bearer(local_flyte, name) for name in ("alice", "bob")}
    parts = [
        "It is like the open-source Flyte behind a proxy that signs people in: it believes what a\n"
        "token says, reads no cookie, and lets everybody do everything.",
        _lines(
            "Call the app as alice or as bob:",
            [_curl(f"{url}/me", header) for header in bearer.values()],
        ),
    ]
    if runs:
        start = [_curl_to_run(runs, name, header) for name, header in bearer.items()]
        parts.append(_lines("Start a run, as alice or as bob:", start))
    return parts


def _nobody(url: str, runs: str | None) -> list[str]:
    parts = [
        "It is like Flyte's devbox: without TLS, so the SDK sends no credentials. Everybody is\n"
        "nobody, and may do everything.",
        _lines("Call the app:", [_curl(f"{url}/me")]),
    ]
    if runs:
        parts.append(_lines("Start a run:", [_curl_to_run(runs, "nobody")]))
    return parts


def flyte_banner(local_flyte: LocalFlyte) -> str:
    """Say how to use the local Flyte without the app."""
    variables = app_variables(local_flyte).items()
    parts = [
        _lines(
            "What an app needs to know to use this Flyte:",
            [f"export {name}={shlex.quote(value)}" for name, value in variables],
        ),
        *_tokens(local_flyte),
        _command_line(local_flyte),
        "Press Ctrl-C to stop.",
    ]
    return "\n" + "\n\n".join(parts) + "\n"


def _tokens(local_flyte: LocalFlyte) -> list[str]:
    """List whom this kind of Flyte tells apart, with what tells them apart there."""
    tokens = {name: local_flyte.token(name) for name in PEOPLE}
    match local_flyte.mode:
        case Mode.UNION:
            people = [f"{name:8}{tokens[name]}  ({p.rights})" for name, p in PEOPLE.items()]
            return [_lines("The people, and their tokens:", people)]
        case Mode.OPEN_SOURCE:
            people = [f"{name:8}{tokens[name]}" for name in PEOPLE if name not in ASIDE]
            return [_lines("The people, who all may do everything, and their tokens:", people)]
        case Mode.DEVBOX:
            return ["Everybody is nobody, and may do everything."]


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
