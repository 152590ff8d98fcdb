"""The output of ``python -m local_flyte``: commands to paste, for the folder it runs in."""

import json
import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from . import PEOPLE, LocalFlyte
from .clients import Elsewhere
from .sign_in import choice, link

SHOWN = [person for person in PEOPLE.values() if not person.expired]
AS_YOU = """The app acts as you, on the Flyte of your config: your colleagues see what you run. Its
tasks are those that are deployed there; `make deploy` deploys yours."""
RELOADS = "When a Python file in app/ changes, the app and its tasks reload."
CHOOSE = """Choose a user at the address after Open, or sign in directly as one of four. For a
second one use another browser, or a private window:"""


def app_banner(
    local_flyte: LocalFlyte,
    *,
    url: str,
    secret: str,
    offered: Collection[str],
    task: str | None,
    api_key_header: str | None,
) -> str:
    """Return the app's address, and how to use it as different people.

    ``offered`` has the paths of its OpenAPI document. The task takes a name.
    """
    to_open = f"Open       {choice(url, secret)}"
    links = [f"{p.name:8}{link(url, p.name, secret)}  ({p.rights})" for p in SHOWN]
    alice, bob, victor = (
        f"Authorization: Bearer {PEOPLE[name].token}" for name in ("alice", "bob", "victor")
    )
    parts = [
        f"{to_open}\nAPI docs   {url}/docs\nFlyte      {local_flyte.endpoint}, a local stand-in",
        RELOADS,
        _lines(CHOOSE, links),
    ]
    headers = [alice, bob, f"Cookie: {PEOPLE['bob'].cookie}"]
    if api_key_header:
        headers.append(f"{api_key_header}: {PEOPLE['alice'].api_key}")
    if "/me" in offered:
        lines = [_curl(f"{url}/me", header) for header in headers]
        parts.append(_lines("Call the app as alice or bob:", lines))
    to_run = next((path for path in offered if path.endswith("/tasks/{name}/runs")), None)
    if task and to_run:
        runs = url + to_run.replace("{name}", task)
        lines = [_curl_to_run(runs, "Alice", alice), _curl_to_run(runs, "Bob", bob)]
        parts.append(_lines("Start a run as alice or bob:", lines))
        title = "Victor may only view, so Flyte refuses to start his run (403):"
        parts.append(_lines(title, [_curl_to_run(runs, "Victor", victor)]))
    deploy = f"{flyte_command(local_flyte, 'alice')} deploy deployment.py app_env"
    parts += [
        _flyte_commands(local_flyte, "alice"),
        _lines("Deploy the app to this Flyte:", [deploy]),
        f"To call the deployed app with curl, add: --cacert {local_flyte.ca_file}",
        to_open,  # again, because much comes in between
    ]
    return _joined(parts)


def flyte_banner(local_flyte: LocalFlyte) -> str:
    """Return how to use the local Flyte without the app."""
    return _joined([_flyte_commands(local_flyte, *(someone.name for someone in SHOWN))])


def banner_elsewhere(elsewhere: Elsewhere, *, url: str, secret: str, **_: object) -> str:
    """Return the address of an app that uses another Flyte."""
    to_open = choice(url, secret) if elsewhere.has_people else url
    about = f"Open       {to_open}\nAPI docs   {url}/docs\nFlyte      {elsewhere.endpoint}"
    who = AS_YOU if elsewhere.has_people else "Everybody is anonymous there."
    return _joined([about, who])


def _flyte_commands(local_flyte: LocalFlyte, *people: str) -> str:
    """Return how to use Flyte's command line. The demo runs in another folder than its terminal."""
    lines = [f"cd {shlex.quote(str(Path.cwd()))}"]
    lines += [f"{flyte_command(local_flyte, name)} get run" for name in people]
    return _lines(f"Flyte's own command line, as {', '.join(people)}:", lines)


def flyte_command(local_flyte: LocalFlyte, person: str) -> str:
    """Return how to call the ``flyte`` command as a person."""
    program, config = Path(sys.executable).with_name("flyte"), local_flyte.config_file(person)
    return f"{shlex.quote(str(program))} -c {shlex.quote(str(config))}"


def _joined(parts: Sequence[str]) -> str:
    return "\n" + "\n\n".join([*parts, "Press Ctrl-C to stop."]) + "\n"


def _lines(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, "", *(f"  {line}" for line in lines)])


def _curl(url: str, *headers: str) -> str:
    return " ".join(["curl", *(f"-H {shlex.quote(header)}" for header in headers), url])


def _curl_to_run(url: str, name: str, authorization: str) -> str:
    body = shlex.quote(json.dumps({"inputs": {"name": name}}))
    return _curl(f"-d {body} {url}", authorization, "Content-Type: application/json")
