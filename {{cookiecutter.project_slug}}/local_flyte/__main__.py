"""``python -m local_flyte``: the app on a local Flyte, or on another one, until Ctrl-C.

With files, it is a local Flyte without an app, for the tasks in the files.
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

from passthrough import UVICORN, Settings, load_settings, validated

from . import LocalFlyte, sign_in
from .banner import SHOWN, app_banner, banner_elsewhere, flyte_banner
from .clients import Elsewhere, in_short, inherited_environment, write
from .people import Person, person
from .serving import HOST, listen

PACKAGE = "app"
DEPLOYMENT = "deployment.py"
PORT = 8080
CANNOT_LISTEN = "Cannot listen on port {}: {}. Choose another one, or 0 for any that is free."
READY_SECONDS = 180
STOP_SECONDS = 5
# The longest sleep. The system may deliver a signal to another thread, and then nothing wakes this
# one, although Python handles signals here.
WAKE_SECONDS = 0.2
TOKEN_SECONDS = 60  # between two looks at one's token


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal, and return 0; or 1, if something did not start."""
    about = "Run the app on a local Flyte that has users and runs your tasks."
    parser = argparse.ArgumentParser("local-flyte", description=about)
    files = "run no app, but the tasks in this file, which is deployed again when it changes"
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help=files)
    where = "port of the app (default: 8080, or a free one)"
    parser.add_argument("--port", type=int, metavar="PORT", help=where)
    use = "run the app as you on the Flyte of this config of the flyte command, not on a local one"
    parser.add_argument("--flyte", type=Path, metavar="CONFIG", help=use)
    options = parser.parse_args(arguments)
    if (options.port or 0) not in range(65_536):
        parser.error("a port is a number from 0 to 65535")
    if options.flyte and options.files:
        parser.error("files are for the local Flyte")
    if not (options.files or Path(PACKAGE, "main.py").exists()):
        parser.error("there is no app here: name a file with tasks")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))

    if load_dotenv(".env"):  # exported variables take precedence
        print("Using the variables in .env.", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts background jobs without SIGINT
        signal.signal(number, _stop)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # the terminal is closed; not with nohup
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
    """Returns what to print, from the app's URL and paths, and the sign-in secret."""
    act: Callable[[], None]
    """Is called again and again."""


def _run(options: argparse.Namespace, stack: contextlib.ExitStack) -> int:
    # Taken now, so that nobody else can take it before the app listens.
    listener = stack.enter_context(_listen(options.port))
    port: int = listener.getsockname()[1]
    url = f"http://{HOST}:{port}"
    if options.files:
        listener.close()
    start = _flyte_elsewhere if options.flyte else _local_flyte
    flyte = start(options, stack)  # refuses wrong settings, also those that are not used
    if ignored := sorted(os.environ.keys() - inherited_environment().keys()):
        print(f"Not used by make dev: {', '.join(ignored)}", flush=True)
    print("Starting the app…", flush=True)
    secret = secrets.token_urlsafe(24)
    environment = {
        "DO_NOT_TRACK": "1",
        "ACCESS_LOG": "off",  # keeps the printed commands in sight
        **{f"UVICORN_{name}".upper(): str(value) for name, value in UVICORN.items()},
        **inherited_environment(),
        **flyte.variables,
        **sign_in.environment(flyte.people, secret=secret, port=port, token_file=flyte.token_file),
    }
    app = stack.enter_context(_app(listener, environment))
    offered = _paths(app, url)
    print(flyte.banner(url=url, secret=secret, offered=offered), flush=True)
    while app.poll() is None:
        time.sleep(WAKE_SECONDS)
        _try(flyte.act)
    return app.returncode or 1  # the app exits by itself only if something is wrong


def _local_flyte(options: argparse.Namespace, stack: contextlib.ExitStack) -> _Flyte:
    settings = None if options.files else _settings()
    headers = list(settings.credential_headers) if settings else []
    scope = (settings.flyte_project, settings.flyte_domain) if settings else ()
    print("Starting local Flyte…", flush=True)
    local_flyte = stack.enter_context(LocalFlyte(*scope, credential_headers=headers))
    print("Registering the tasks…", flush=True)
    files = options.files or [Path(DEPLOYMENT)]
    versions = _versions(files)
    tasks = _register(local_flyte, options.files)

    def register_changes() -> None:
        nonlocal versions
        if (found := _versions(files)) != versions:
            versions = found
            _register(local_flyte, options.files)
            print("Registered the tasks again.", flush=True)

    if options.files:
        print(flyte_banner(local_flyte), flush=True)
        while True:
            time.sleep(WAKE_SECONDS)
            _try(register_changes)

    banner = functools.partial(
        app_banner,
        local_flyte,
        task=next((name for name in tasks if name.endswith("-tasks.greet")), None),
        api_key_header=headers[0] if headers else None,
    )
    return _Flyte(local_flyte.app_environment(), SHOWN, None, banner, register_changes)


def _flyte_elsewhere(options: argparse.Namespace, stack: contextlib.ExitStack) -> _Flyte:
    elsewhere = Elsewhere(options.flyte)
    banner = functools.partial(banner_elsewhere, elsewhere)
    if not elsewhere.has_people:
        return _Flyte(elsewhere.environment(), [], None, banner, lambda: None)
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="flyte-"))
    file, looked_at = Path(folder, "token"), float("-inf")

    def renew_the_token() -> None:
        nonlocal looked_at
        if time.monotonic() > looked_at + TOKEN_SECONDS:
            looked_at = time.monotonic()
            write(file, elsewhere.token())

    print(f"Looking for your token for {elsewhere.endpoint}…", flush=True)
    renew_the_token()
    return _Flyte(elsewhere.environment(), [person("you")], str(file), banner, renew_the_token)


def _settings() -> Settings:
    """Return the app's settings."""
    try:
        kind: type[Settings] = importlib.import_module(f"{PACKAGE}.settings").Settings
        validated(kind, {name: value or "" for name, value in dotenv_values(".env").items()})
        return load_settings(kind, inherited_environment())
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the project's own code
        raise RuntimeError(in_short(error)) from None


def _register(local_flyte: LocalFlyte, files: Sequence[Path]) -> list[str]:
    """Register the tasks of the files or, without any, of the deployment; return known names."""
    for file in files:
        local_flyte.deploy(Path.cwd(), str(file), None)
    return [] if files else local_flyte.register(Path.cwd())


def _try(act: Callable[[], None]) -> None:
    """Do it, or print why it failed."""
    try:
        act()
    except RuntimeError as error:
        print(error, file=sys.stderr, flush=True)


def _versions(others: Sequence[Path]) -> dict[Path, int]:
    """Return when each Python file of the project, and each other file, was last changed."""
    versions = {}
    for file in (*Path(PACKAGE).rglob("*.py"), *others):
        with contextlib.suppress(FileNotFoundError):  # some editors replace a file to write it
            versions[file] = file.stat().st_mtime_ns
    return versions


def _stop(*_: object) -> None:
    """End, with a clean-up that a second Ctrl-C does not interrupt."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _listen(wanted: int | None) -> socket.socket:
    """Take the wanted port; without one, the default or, if that is in use, any."""
    try:
        return listen(PORT if wanted is None else wanted)
    except OSError as error:
        if wanted is None:
            return listen()
        raise RuntimeError(CANNOT_LISTEN.format(wanted, os.strerror(error.errno or 0))) from None


@contextlib.contextmanager
def _app(
    listener: socket.socket, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "uvicorn", "--factory", f"{sign_in.__name__}:create_app"]
    command += ["--fd", str(listener.fileno()), "--log-level", "warning"]
    command += ["--reload", "--reload-dir", PACKAGE]
    # In its own process group, so that only this process gets Ctrl-C, and can end the app with its
    # children.
    app = subprocess.Popen(
        command,
        env=environment,
        pass_fds=[listener.fileno()],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    listener.close()  # the app has it now
    try:
        yield app
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(app.pid, number)
                app.wait(STOP_SECONDS)


def _paths(app: subprocess.Popen[bytes], url: str) -> list[str]:
    """Wait until the app answers, and return the paths of its OpenAPI document."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if app.poll() is not None:
            raise RuntimeError(f"The app ended with exit code {app.returncode}; see above.")
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.get(f"{url}/openapi.json", trust_env=False, timeout=STOP_SECONDS)
            return [*answer.json()["paths"]] if answer.is_success else []
        time.sleep(WAKE_SECONDS)
    raise RuntimeError(f"The app was not ready after {READY_SECONDS} s; see above.")


if __name__ == "__main__":
    sys.exit(main())
