"""The output of ``python -m local_flyte``: commands to paste, for the folder it runs in."""

import json
import os
import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from . import PEOPLE, LocalFlyte
from .people import Mode
from .same_user import is_known
from .sign_in import choice, link

ONLY_FOR_TESTS = "expired"
"""The name of a person who is shown only with their token."""

CHOOSE = """Choose a user at the address after Open, or sign in directly as one of four. For a
second one use another browser, or a private window:"""
KINDS = {
    Mode.OPEN_SOURCE: """It acts like the open-source Flyte behind a proxy that signs people in: it
trusts any token, ignores cookies, and lets everybody do everything.""",
    Mode.DEVBOX: """It acts like Flyte's devbox: without TLS, so the SDK sends no credentials.
Everybody is anonymous, and may do everything.""",
}
UNSAFE = """This system does not show which user a connection comes from, so other users of this
machine may be able to run programs as you: don't use it on a shared machine."""


def added_variables(local_flyte: LocalFlyte) -> dict[str, str]:
    """Return the variables that an app's owner must add to those that a cluster sets."""
    added = {
        Mode.UNION: {},
        Mode.OPEN_SOURCE: {"FLYTE_ENDPOINT": local_flyte.endpoint},
        Mode.DEVBOX: {"ALLOW_ANONYMOUS": "true"},
    }
    return added[local_flyte.mode]


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
        offered: The app's paths, as in its OpenAPI document: its owner may have deleted some.
        task_variables: The variables for task environments in deployment.py.
        task: A task with a name as its input; None if there is none to show.
        api_key_header: A header for API keys; None if there is none.
        notes: Further lines.
    """
    flyte, is_union = flyte_command(local_flyte), local_flyte.mode is Mode.UNION
    start = choice(url, secret) if is_union else url  # only Union takes cookies
    to_open = f"Open       {start}"
    parts = [
        f"{to_open}\nAPI docs   {url}/docs\nFlyte      {local_flyte.endpoint}, a local stand-in",
        *notes,
    ]
    if is_union:
        shown = [person for person in PEOPLE.values() if person.name != ONLY_FOR_TESTS]
        links = [f"{p.name:8}{link(url, p.name, secret)}  ({p.rights})" for p in shown]
        parts.append(_lines(CHOOSE, links))
    else:
        parts.append(KINDS[local_flyte.mode])
    if local_flyte.mode is Mode.DEVBOX:
        callers, who = {"nobody": list[str]()}, "anybody"
    else:
        who = "alice or bob"
        callers = {name: [_bearer(local_flyte, name)] for name in ("alice", "bob")}
    if "/me" in offered:
        lines = [_curl(f"{url}/me", *headers) for headers in callers.values()]
        if is_union:
            lines.append(_curl(f"{url}/me", f"Cookie: {PEOPLE['bob'].cookie}"))
        if is_union and api_key_header:
            lines.append(_curl(f"{url}/me", f"{api_key_header}: {PEOPLE['alice'].api_key}"))
        parts.append(_lines(f"Call the app as {who}:", lines))
    if task and "/tasks/{name}/runs" in offered:
        runs = f"{url}/tasks/{task}/runs"
        lines = [_curl_to_run(runs, name, *headers) for name, headers in callers.items()]
        parts.append(_lines(f"Start a run as {who}:", lines))
        if is_union:
            refused = _curl_to_run(runs, "victor", _bearer(local_flyte, "victor"))
            title = "Victor may only view, so Flyte refuses to start his run (403):"
            parts.append(_lines(title, [refused]))
    parts += [*_to_the_project(), _command_line(local_flyte)]
    if task_variables:
        register = [f"{flyte} deploy deployment.py {name}" for name in task_variables]
        parts.append(_lines("Register tasks:", register))
    title = "Deploy the app to this Flyte"
    for name in added_variables(local_flyte):
        title += f', once the line "{name}" in deployment.py is uncommented'
    parts.append(_lines(f"{title}:", [f"{flyte} deploy deployment.py app_env"]))
    if is_union:
        ca_file = local_flyte.ca_file
        parts.append(f"To call what is deployed, give curl its certificate: --cacert {ca_file}")
    return _joined([*parts, to_open])  # again, because much comes in between


def flyte_banner(local_flyte: LocalFlyte) -> str:
    """Return how to use the local Flyte without the app."""
    variables = local_flyte.app_environment() | added_variables(local_flyte)
    exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    parts = [_lines("Settings for an app that uses this Flyte:", exports)]
    tokens = {name: f"{name:8}{local_flyte.token(name)}" for name in PEOPLE}
    if local_flyte.mode is Mode.UNION:
        people = [f"{tokens[name]}  ({person.rights})" for name, person in PEOPLE.items()]
        parts.append(_lines("The people, and their tokens:", people))
    else:
        parts.append(KINDS[local_flyte.mode])
    if local_flyte.mode is Mode.OPEN_SOURCE:
        people = [line for name, line in tokens.items() if name != ONLY_FOR_TESTS]
        parts.append(_lines("The people, and their tokens:", people))
    return _joined([*parts, *_to_the_project(), _command_line(local_flyte)])


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


def _joined(parts: Sequence[str]) -> str:
    warning = [] if is_known() else [UNSAFE]
    return "\n" + "\n\n".join([*parts, *warning, "Press Ctrl-C to stop."]) + "\n"


def _lines(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, "", *(f"  {line}" for line in lines)])


def _bearer(local_flyte: LocalFlyte, name: str) -> str:
    return f"Authorization: Bearer {local_flyte.token(name)}"


def _curl(url: str, *headers: str) -> str:
    return " ".join(["curl", *(f"-H {shlex.quote(header)}" for header in headers), url])


def _curl_to_run(url: str, name: str, *headers: str) -> str:
    body = shlex.quote(json.dumps({"inputs": {"name": name.capitalize()}}))
    return _curl(f"-d {body} {url}", *headers, "Content-Type: application/json")
