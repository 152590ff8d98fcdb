"""``python -m local_flyte``: run the app and a local Flyte server until Ctrl-C.

With ``--flyte``, the app uses the Flyte that a config file names, and no local Flyte server runs.
With files as arguments, the command runs no app, and the server executes the tasks in the files.
"""

import argparse
import contextlib
import functools
import importlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
from dotenv import dotenv_values, load_dotenv

from passthrough import UVICORN, Settings, load_settings, validate_env

from . import LocalFlyte, sign_in
from .banner import SHOWN, app_banner, flyte_banner, remote_banner
from .clients import RemoteFlyte, inherited_environment, short_traceback, write
from .people import Person, person
from .serving import HOST, listen

PACKAGE = "app"
DEPLOYMENT = "deployment.py"
PORT = 8080
CANNOT_LISTEN = "Cannot listen on port {}: {}. Choose another port, or 0 for a free one."
READY_SECONDS = 180
STOP_SECONDS = 5
# Maximum sleep of the main thread. Python handles signals in the main thread, and the operating
# system may deliver a signal to another thread without waking the main thread.
WAKE_SECONDS = 0.2
TOKEN_SECONDS = 60  # interval, in seconds, at which the command reads the user's token again


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal arrives, and return 0. If the app or server does not start, return 1."""
    about = "Run the app and a local Flyte server, which has users and executes your tasks."
    parser = argparse.ArgumentParser("local-flyte", description=about)
    files = "run the tasks in this file, without an app; changes of the file are deployed"
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help=files)
    port = "port of the app (default: 8080, or a free port if 8080 is in use)"
    parser.add_argument("--port", type=int, metavar="PORT", help=port)
    config = "use the Flyte of this config file, as you, instead of a local Flyte server"
    parser.add_argument("--flyte", type=Path, metavar="CONFIG", help=config)
    options = parser.parse_args(arguments)
    if (options.port or 0) not in range(65_536):
        parser.error("--port must be a number from 0 to 65535")
    if options.flyte and options.files:
        parser.error("FILE and --flyte exclude each other: files run on a local Flyte server")
    if not (options.files or Path(PACKAGE, "main.py").exists()):
        parser.error("this folder has no app/main.py: change the folder, or pass a file with tasks")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))

    if load_dotenv(".env"):  # exported variables take precedence
        print("Using the variables in .env.", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # shells ignore SIGINT for background jobs
        signal.signal(number, _stop)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores SIGHUP
        signal.signal(signal.SIGHUP, _stop)
    try:
        with contextlib.ExitStack() as stack:
            return _run(options, stack)
    except KeyboardInterrupt:
        print("\nStopped.")
        return 0
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1


class _Flyte(NamedTuple):
    """The Flyte that the app uses."""

    variables: Mapping[str, str]
    people: Sequence[Person]
    token_file: str | None
    banner: Callable[..., str]
    """Function that returns the banner for the app's URL, the app's paths and the secret."""
    poll: Callable[[], None]
    """Function to call every ``WAKE_SECONDS`` while the app runs."""


def _run(options: argparse.Namespace, stack: contextlib.ExitStack) -> int:
    # Bind the port first, so that no other process takes it before the app listens.
    listener = stack.enter_context(_listen(options.port))
    port: int = listener.getsockname()[1]
    url = f"http://{HOST}:{port}"
    if options.files:
        listener.close()
    start = _remote_flyte if options.flyte else _local_flyte
    # If a setting is invalid, `start` raises RuntimeError, even if `make dev` ignores the setting.
    flyte = start(options, stack)
    if ignored := sorted(os.environ.keys() - inherited_environment().keys()):
        print(f"Not used by make dev: {', '.join(ignored)}", flush=True)
    print("Starting the app…", flush=True)
    secret = secrets.token_urlsafe(24)
    environment = {
        "DO_NOT_TRACK": "1",
        "ACCESS_LOG": "off",  # an access log would scroll the banner away
        **{f"UVICORN_{name}".upper(): str(value) for name, value in UVICORN.items()},
        **inherited_environment(),
        **flyte.variables,
        **sign_in.environment(flyte.people, secret=secret, port=port, token_file=flyte.token_file),
    }
    app = stack.enter_context(_app(listener, environment))
    paths = _paths(app, url)
    print(flyte.banner(url=url, secret=secret, paths=paths), flush=True)
    while app.poll() is None:
        _poll(flyte.poll)
    return app.returncode or 1  # the app exits by itself only after an error


def _local_flyte(options: argparse.Namespace, stack: contextlib.ExitStack) -> _Flyte:
    settings = None if options.files else _settings()
    headers = list(settings.credential_headers) if settings else []
    scope = (settings.flyte_project, settings.flyte_domain) if settings else ()
    print("Starting the local Flyte server…", flush=True)
    local_flyte = stack.enter_context(LocalFlyte(*scope, credential_headers=headers))
    print("Registering the tasks…", flush=True)
    files = options.files or [Path(DEPLOYMENT)]
    versions = _versions(files)

    def register() -> list[str]:
        for file in options.files:
            local_flyte.deploy(Path.cwd(), str(file), None)
        return [] if options.files else local_flyte.register(Path.cwd())

    def register_changes() -> None:
        nonlocal versions
        if (new_versions := _versions(files)) != versions:
            versions = new_versions
            register()
            print("Registered the tasks again.", flush=True)

    tasks = register()
    if options.files:
        print(flyte_banner(local_flyte), flush=True)
        while True:
            _poll(register_changes)
    task = next((name for name in tasks if name.endswith("-tasks.greet")), None)
    header = next(iter(headers), None)
    banner = functools.partial(app_banner, local_flyte, task=task, api_key_header=header)
    return _Flyte(local_flyte.app_environment(), SHOWN, None, banner, register_changes)


def _remote_flyte(options: argparse.Namespace, stack: contextlib.ExitStack) -> _Flyte:
    remote = RemoteFlyte(options.flyte)
    banner = functools.partial(remote_banner, remote)
    if not remote.has_authentication:
        return _Flyte(remote.environment(), [], None, banner, lambda: None)
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="flyte-"))
    file, read_at = Path(folder, "token"), float("-inf")

    def refresh_token() -> None:
        nonlocal read_at
        if time.monotonic() > read_at + TOKEN_SECONDS:
            read_at = time.monotonic()
            write(file, remote.token())

    print(f"Reading your token for {remote.endpoint}…", flush=True)
    refresh_token()
    return _Flyte(remote.environment(), [person("you")], str(file), banner, refresh_token)


def _settings() -> Settings:
    """Load the settings of the app; raise RuntimeError if they are invalid."""
    try:
        settings_class: type[Settings] = importlib.import_module(f"{PACKAGE}.settings").Settings
        validate_env(
            settings_class, {name: value or "" for name, value in dotenv_values(".env").items()}
        )
        return load_settings(settings_class, inherited_environment())
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the project's own code
        raise RuntimeError(short_traceback(error)) from None


def _poll(function: Callable[[], None]) -> None:
    """Sleep, then call ``function``, and print a RuntimeError instead of raising it."""
    time.sleep(WAKE_SECONDS)
    try:
        function()
    except RuntimeError as error:
        print(error, file=sys.stderr, flush=True)


def _versions(other_files: Sequence[Path]) -> dict[Path, int]:
    """Return the modification times of the app's Python files and of ``other_files``."""
    versions = {}
    for file in (*Path(PACKAGE).rglob("*.py"), *other_files):
        with contextlib.suppress(FileNotFoundError):  # some editors delete a file to save it
            versions[file] = file.stat().st_mtime_ns
    return versions


def _stop(*_: object) -> None:
    """Raise KeyboardInterrupt, and ignore further signals during the clean-up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _listen(port: int | None) -> socket.socket:
    """Listen on ``port``, or by default on port 8080, or on a free port if 8080 is in use."""
    try:
        return listen(PORT if port is None else port)
    except OSError as error:
        if port is None:
            return listen()
        raise RuntimeError(CANNOT_LISTEN.format(port, os.strerror(error.errno or 0))) from None


@contextlib.contextmanager
def _app(
    listener: socket.socket, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "uvicorn", "--factory", f"{sign_in.__name__}:create_app"]
    command += ["--fd", str(listener.fileno()), "--log-level", "warning"]
    command += ["--reload", "--reload-dir", PACKAGE]
    app = subprocess.Popen(
        command,
        env=environment,
        pass_fds=[listener.fileno()],
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C must not reach the app
    )
    listener.close()  # the app's process has its own copy of the socket
    try:
        yield app
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(app.pid, number)
                app.wait(STOP_SECONDS)


def _paths(app: subprocess.Popen[bytes], url: str) -> list[str]:
    """Wait until the app responds, and return the paths in the app's OpenAPI document."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if (code := app.poll()) is not None:
            raise RuntimeError(f"The app ended with exit code {code}; see the output above.")
        with contextlib.suppress(httpx.HTTPError):
            response = httpx.get(f"{url}/openapi.json", trust_env=False, timeout=STOP_SECONDS)
            return [*response.json()["paths"]] if response.is_success else []
        time.sleep(WAKE_SECONDS)
    raise RuntimeError(f"The app was not ready after {READY_SECONDS} s; see the output above.")


if __name__ == "__main__":
    sys.exit(main())
