"""``python -m local_flyte``: the app on a local Flyte, until Ctrl-C."""

import argparse
import contextlib
import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import PEOPLE, LocalFlyte, Person

PACKAGE = "app"
TASK = "{{ cookiecutter.project_slug }}-tasks.greet"
PROJECT = "{{ cookiecutter.flyte_project }}"
DOMAIN = "{{ cookiecutter.flyte_domain }}"
HOST = "127.0.0.1"
PORT = 8080
READY_SECONDS = 60
STOP_SECONDS = 5
# How long to sleep at most. The system may hand a signal to another of our threads, and then
# nothing wakes this one, in which Python handles it.
WAKE_SECONDS = 0.2


def main(arguments: Sequence[str] | None = None) -> int:
    """Start everything, wait for Ctrl-C or SIGTERM, stop everything.

    Returns:
        The exit code: 0 if it was asked to stop, 1 if something did not start.
    """
    parser = argparse.ArgumentParser(prog="python -m local_flyte", description=__doc__)
    parser.add_argument("--port", type=int, default=PORT, help="port of the app (default: 8080)")
    parser.add_argument("--no-reload", action="store_true", help="do not restart when files change")
    parser.add_argument("--flyte-only", action="store_true", help="start Flyte without the app")
    options = parser.parse_args(arguments)

    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts background jobs without SIGINT
        signal.signal(number, signal.default_int_handler)
    try:
        return _run(options)
    except KeyboardInterrupt:
        print("\nStopped.")
        return 0
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    root = Path.cwd()
    with contextlib.ExitStack() as stack:
        print("Starting local Flyte…", flush=True)
        local_flyte = stack.enter_context(LocalFlyte(PROJECT, DOMAIN))
        stack.callback(_ignore_further_signals)
        print("Registering the sample tasks…", flush=True)
        local_flyte.deploy(root)
        if options.flyte_only:
            print(_flyte_banner(local_flyte), flush=True)
            while True:
                time.sleep(WAKE_SECONDS)
        print("Starting the app…", flush=True)
        port = _free_port(options.port)
        app = stack.enter_context(_app(local_flyte, port, reload=not options.no_reload))
        stack.callback(_ignore_further_signals)
        _wait_until_ready(app, port)
        print(_banner(local_flyte, port, options.port), flush=True)
        while app.poll() is None:
            time.sleep(WAKE_SECONDS)
        return app.returncode or 1  # it does not end by itself unless something is wrong


def _ignore_further_signals() -> None:
    # What runs when the stack unwinds must not be interrupted by a second Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextlib.contextmanager
def _app(local_flyte: LocalFlyte, port: int, *, reload: bool) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "uvicorn", f"{PACKAGE}.main:app"]
    command += ["--host", HOST, "--port", str(port)]
    if reload:
        command += ["--reload", "--reload-dir", PACKAGE]
    environment = {"DO_NOT_TRACK": "1", **os.environ, **local_flyte.app_environment()}
    # In a group of its own, so that Ctrl-C reaches us only, and we can end it with its children.
    app = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield app
    finally:
        _end(app)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(STOP_SECONDS)


def _free_port(wanted: int) -> int:
    """Return the wanted port if it is free, else another that is."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.create_server((HOST, port)) as listener:
            free: int = listener.getsockname()[1]
            return free
    raise RuntimeError("no port is free")


def _wait_until_ready(app: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if app.poll() is not None:
            raise RuntimeError(f"The app ended with exit code {app.returncode}; see above.")
        if _is_ready(port):
            return
        time.sleep(0.1)
    raise RuntimeError(f"The app was not ready after {READY_SECONDS} s; see above.")


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _banner(local_flyte: LocalFlyte, port: int, wanted: int) -> str:
    url = f"http://{HOST}:{port}"
    alice, bob = PEOPLE["alice"], PEOPLE["bob"]
    note = "" if port == wanted else f" (port {wanted} is in use)"
    return f"""
The app    {url}{note}
API docs   {url}/docs
Flyte      {local_flyte.endpoint}, a local stand-in

You can be alice or bob:

  curl -H 'Authorization: Bearer {alice.token}' {url}/me
  curl -H 'Authorization: Bearer {bob.token}' {url}/me
  curl -H 'Cookie: {bob.cookie}' {url}/me

Start a run, as alice or as bob:

  {_curl_to_run(url, "Ada", alice)}
  {_curl_to_run(url, "Bob", bob)}

Or use Flyte's own command line, as alice:

  {_flyte_command(local_flyte)} get run

Press Ctrl-C to stop.
"""


def _curl_to_run(url: str, name: str, person: Person) -> str:
    body = json.dumps({"inputs": {"name": name}})
    return (
        f"curl -H 'Authorization: Bearer {person.token}' -H 'Content-Type: application/json' "
        f"-d '{body}' {url}/tasks/{TASK}/runs"
    )


def _flyte_banner(local_flyte: LocalFlyte) -> str:
    variables = "\n".join(
        f"  export {name}={shlex.quote(value)}"
        for name, value in local_flyte.app_environment().items()
    )
    tokens = "\n".join(f"  {each.name:<8} {each.token}" for each in PEOPLE.values())
    return f"""
What an app needs to know to use this Flyte:

{variables}

The people, and their tokens:

{tokens}

Flyte's own command line, as alice:

  {_flyte_command(local_flyte)} get run

Press Ctrl-C to stop.
"""


def _flyte_command(local_flyte: LocalFlyte) -> str:
    return f"flyte -c {shlex.quote(str(local_flyte.config_file('alice')))}"


if __name__ == "__main__":
    sys.exit(main())
