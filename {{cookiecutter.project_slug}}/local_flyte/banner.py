"""The banner of ``python -m local_flyte``, with commands to paste into a terminal."""

import json
import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from . import PEOPLE, LocalFlyte
from .clients import RemoteFlyte
from .sign_in import choice, link

SHOWN = [person for person in PEOPLE.values() if not person.expired]
AS_YOU = """The app acts as you on the Flyte of your config, so your colleagues see your runs. The
app lists the tasks that are deployed there; `make deploy` deploys yours."""
RELOADS = "When a Python file in app/ changes, the app and its tasks reload."
CHOOSE = """Choose a user at the URL after Open, or sign in directly with one of these URLs. For a
second user, use another browser or a private window:"""


def app_banner(
    local_flyte: LocalFlyte,
    *,
    url: str,
    secret: str,
    paths: Collection[str],
    task: str | None,
    api_key_header: str | None,
) -> str:
    """Return the URL of the app, and commands to call the app as different users.

    ``paths`` come from the OpenAPI document of the app. ``task`` must take the input ``name``.
    """
    to_open = f"Open       {choice(url, secret)}"
    links = [f"{user.name:8}{link(url, user.name, secret)}  ({user.rights})" for user in SHOWN]
    alice, bob, victor, _ = (f"Authorization: Bearer {user.token}" for user in SHOWN)
    parts = [
        f"{to_open}\nAPI docs   {url}/docs\nFlyte      {local_flyte.endpoint}, a local server",
        RELOADS,
        _lines(CHOOSE, links),
    ]
    headers = [alice, bob, f"Cookie: {PEOPLE['bob'].cookie}"]
    if api_key_header:
        headers.append(f"{api_key_header}: {PEOPLE['alice'].api_key}")
    if "/me" in paths:
        lines = [_curl(f"{url}/me", header) for header in headers]
        parts.append(_lines("Call the app as alice or bob:", lines))
    to_run = next((path for path in paths if path.endswith("/tasks/{name}/runs")), None)
    if task and to_run:
        runs = url + to_run.replace("{name}", task)
        lines = [_curl_to_run(runs, "Alice", alice), _curl_to_run(runs, "Bob", bob)]
        parts.append(_lines("Start a run as alice or bob:", lines))
        title = "Victor may only view, so Flyte refuses to start a run for him (403):"
        parts.append(_lines(title, [_curl_to_run(runs, "Victor", victor)]))
    deploy = f"{_flyte_command(local_flyte, 'alice')} deploy deployment.py app_env"
    parts += [
        _flyte_commands(local_flyte, "alice"),
        _lines("Deploy the app to this Flyte server:", [deploy]),
        f"To call the deployed app with curl, add: --cacert {local_flyte.ca_file}",
        to_open,  # repeat the link, because the first link has scrolled away
    ]
    return _joined(parts)


def flyte_banner(local_flyte: LocalFlyte) -> str:
    """Return commands to use the local Flyte server without the app."""
    trust = shlex.quote(str(local_flyte.ca_file))
    export = f"export FLYTE_ENDPOINT={local_flyte.endpoint} SSL_CERT_FILE={trust}"
    headers = [f"Authorization: Bearer {user.token}" for user in SHOWN]
    parts = [
        _flyte_commands(local_flyte, *(user.name for user in SHOWN)),
        _lines("For an app of yours that uses this Flyte server:", [export]),
        _lines("Headers with which requests to that app act as these users:", headers),
    ]
    return _joined(parts)


def remote_banner(remote: RemoteFlyte, *, url: str, secret: str, **_: object) -> str:
    """Return the banner of an app that uses the Flyte server named in a config file."""
    to_open = choice(url, secret) if remote.has_authentication else url
    about = f"Open       {to_open}\nAPI docs   {url}/docs\nFlyte      {remote.endpoint}"
    note = AS_YOU if remote.has_authentication else "All callers are anonymous there."
    return _joined([about, note])


def _flyte_commands(local_flyte: LocalFlyte, *users: str) -> str:
    lines = [f"cd {shlex.quote(str(Path.cwd()))}"]
    lines += [f"{_flyte_command(local_flyte, name)} get run" for name in users]
    return _lines(f"Flyte's own command line, as {', '.join(users)}:", lines)


def _flyte_command(local_flyte: LocalFlyte, user: str) -> str:
    program, config = Path(sys.executable).with_name("flyte"), local_flyte.config_file(user)
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
