"""What ``python -m local_flyte`` prints: lines that work as they are, where it was started."""

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
    offered: Collection[str],
    task_variables: Sequence[str],
    task: str | None,
    api_key_header: str | None,
    notes: Sequence[str] = (),
) -> str:
    """Say where the app is, and how to use it as one person or another.

    Args:
        local_flyte: What the app runs on.
        url: Where the app answers.
        secret: What the sign-in links hold.
        offered: The paths that the app has, as its OpenAPI document writes them.
        task_variables: What the environments of tasks are called in deployment.py.
        task: A task that takes a name; None if there is none to show.
        api_key_header: A header by which people are recognised too; None if there is none.
        notes: What else to say.
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
    # Like the app, it takes cookies in this mode only.
    start = choice(url, secret) if local_flyte.mode is Mode.UNION else url
    parts = [
        f"Open       {start}\nAPI docs   {url}/docs\nFlyte      {local_flyte.endpoint}, a local"
        " stand-in",
        *notes,
        *people,
    ]
    if api_key_header and me and local_flyte.mode is Mode.UNION:
        header = f"{api_key_header}: {PEOPLE['alice'].api_key}"
        parts.append(_lines(f"Or as alice, by {api_key_header}:", [_curl(me, header)]))
    parts += [*_to_the_project(), _command_line(local_flyte)]
    if task_variables:
        register = [f"{flyte} deploy deployment.py {name}" for name in task_variables]
        parts.append(_lines("Register tasks:", register))
    parts += [
        _lines(
            f"Deploy the app to this Flyte{NEEDS[local_flyte.mode]}:",
            [f"{flyte} deploy deployment.py app_env"],
        ),
        "Press Ctrl-C to stop.",
    ]
    return "\n" + "\n\n".join(parts) + "\n"


def _people_with_rights(
    local_flyte: LocalFlyte, url: str, secret: str, me: str | None, runs: str | None
) -> list[str]:
    shown = [person for person in PEOPLE.values() if person.name not in ASIDE]
    links = [f"{p.name:8}{link(url, p.name, secret)}  ({p.rights})" for p in shown]
    bearer = {person.name: _bearer(local_flyte, person.name) for person in shown}
    choose = "There you choose who to be. Or sign in at once, as one of four people:"
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
            _lines("Victor may only look, so Flyte refuses to start his (403):", [refused]),
        ]
    return parts


def _people_without_rights(local_flyte: LocalFlyte, me: str | None, runs: str | None) -> list[str]:
    bearer = {name: _bearer(local_flyte, name) for name in ("alice", "bob")}
    parts = [
        "It is like the open-source Flyte behind a proxy that signs people in: it believes what a\n"
        "token says, reads no cookie, and lets everybody do everything.",
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
        "It is like Flyte's devbox: without TLS, so the SDK sends no credentials. Everybody is\n"
        "nobody, and may do everything. "
    )
    if is_known():
        return text + "Other users of this machine are refused."
    return text + (
        "This system does not say which user a connection comes\n"
        "from, so every user of this machine can run programs as you: share it with nobody."
    )


def _nobody(me: str | None, runs: str | None) -> list[str]:
    parts = [_devbox()]
    if me:
        parts.append(_lines("Call the app:", [_curl(me)]))
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
        *_to_the_project(),
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
            return [_devbox()]


def _to_the_project() -> list[str]:
    """Tell how to get here, if what started us, such as the template's demo, is somewhere else."""
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
