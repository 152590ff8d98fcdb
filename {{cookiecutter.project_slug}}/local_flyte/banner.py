"""What ``python -m local_flyte`` prints: lines that work as they are, where it was started."""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from . import PEOPLE, LocalFlyte
from .sign_in import link

ASIDE = ("expired",)
"""People who are of use to tests only."""


def app_banner(
    local_flyte: LocalFlyte,
    url: str,
    *,
    secret: str,
    task: str | None,
    api_key_header: str | None,
    notes: Sequence[str] = (),
) -> str:
    """Say where the app is, and how to use it as one person or another.

    Args:
        local_flyte: What the app runs on.
        url: Where the app answers.
        secret: What the sign-in links hold.
        task: A task that takes a name; None if there is none to show.
        api_key_header: A header by which people are recognised too; None if there is none.
        notes: What else to say.
    """
    people = [person for person in PEOPLE.values() if person.name not in ASIDE]
    links = [f"{p.name:8}{link(url, p.name, secret)}  ({p.rights})" for p in people]
    as_people = [
        _curl(f"Authorization: Bearer {PEOPLE['alice'].token}", f"{url}/me"),
        _curl(f"Authorization: Bearer {PEOPLE['bob'].token}", f"{url}/me"),
        _curl(f"Cookie: {PEOPLE['bob'].cookie}", f"{url}/me"),
    ]
    if api_key_header:
        header = f"{api_key_header}: {PEOPLE['alice'].api_key}"
        as_people.append(_curl(header, f"{url}/me"))
    flyte = flyte_command(local_flyte)
    parts = [
        f"The app    {url}\nAPI docs   {url}/docs\nFlyte      {local_flyte.endpoint}, a local"
        " stand-in",
        *notes,
        _lines("Sign in, in a browser, as one of four people:", links),
        _lines("Or call the app as alice or as bob:", as_people),
    ]
    if task:
        runs = f"{url}/tasks/{task}/runs"
        alice, bob, victor = (_run_as(name, runs) for name in ("alice", "bob", "victor"))
        parts += [
            _lines("Start a run, as alice or as bob:", [alice, bob]),
            _lines("Victor may only look, so Flyte refuses to start his (403):", [victor]),
        ]
    parts += [
        _lines("Flyte's own command line, as alice:", [f"{flyte} get run"]),
        _lines("Register tasks:", [f"{flyte} deploy deployment.py task_env"]),
        _lines("Deploy the app to this Flyte:", [f"{flyte} deploy deployment.py app_env"]),
        "Press Ctrl-C to stop.",
    ]
    return "\n" + "\n\n".join(parts) + "\n"


def flyte_banner(local_flyte: LocalFlyte) -> str:
    """Say how to use the local Flyte without the app."""
    variables = local_flyte.app_environment().items()
    flyte = flyte_command(local_flyte)
    parts = [
        _lines(
            "What an app needs to know to use this Flyte:",
            [f"export {name}={shlex.quote(value)}" for name, value in variables],
        ),
        _lines(
            "The people, and their tokens:",
            [f"{person.name:8}{person.token}  ({person.rights})" for person in PEOPLE.values()],
        ),
        _lines("Flyte's own command line, as alice:", [f"{flyte} get run"]),
        "Press Ctrl-C to stop.",
    ]
    return "\n" + "\n\n".join(parts) + "\n"


def flyte_command(local_flyte: LocalFlyte) -> str:
    """Return how to call the ``flyte`` command as alice from the current folder."""
    program = Path(sys.executable).with_name("flyte")
    shown = Path(os.path.relpath(program))
    if ".." in shown.parts:
        shown = program
    return f"{shlex.quote(str(shown))} -c {shlex.quote(str(local_flyte.config_file('alice')))}"


def _lines(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, "", *(f"  {line}" for line in lines)])


def _curl(header: str, url: str) -> str:
    return f"curl -H {shlex.quote(header)} {url}"


def _run_as(name: str, url: str) -> str:
    body = json.dumps({"inputs": {"name": name.capitalize()}})
    return (
        f"curl -H 'Authorization: Bearer {PEOPLE[name].token}' -H 'Content-Type: application/json' "
        f"-d '{body}' {url}"
    )
