"""How the ``flyte`` command, apps and running tasks reach a Flyte: the local one, or another."""

import json
import os
import re
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import flyte.config

from .people import Directory, Mode, Person
from .processes import DONE
from .serving import HOST

# Registers the tasks in depends_on in deployment.py, and prints their names. It is a separate
# script, because all loaded modules are uploaded with the tasks.
REGISTER = """
import json, sys
from pathlib import Path
import flyte

try:
    import deployment
except (Exception, SystemExit) as error:
    from local_flyte.clients import in_short
    print(in_short(error), flush=True)
    sys.exit(3)

apps = [app for app in vars(deployment).values() if isinstance(app, flyte.Environment)]
needed = {needed.name: needed for app in apps for needed in app.depends_on}
wanted = [tasks for tasks in needed.values() if isinstance(tasks, flyte.TaskEnvironment)]
if wanted:
    flyte.init_from_config(sys.argv[1], root_dir=Path.cwd())
    flyte.deploy(*wanted)
names = [name for tasks in wanted for name in tasks.tasks]
print(json.dumps({"tasks": names}), flush=True)
"""
CREATE = (
    "{} is no config of the flyte command. Create one, and name it:\n"
    "    .venv/bin/flyte create config --endpoint dns:///flyte.example.com --output {}"
)
INCOMPLETE = (
    "{} needs an endpoint under admin:, and no insecureSkipVerify: the app always verifies Flyte's"
    " certificate, by the authorities in caCertFilePath."
)
CANNOT = (
    "Your token for {} cannot be had, so the app cannot act as you: {}\n"
    "If nothing answers there, check the endpoint in the config. A token is looked for in the"
    " system's keyring, where `flyte whoami` puts it, unless the config has authType:"
    " ExternalCommand and a command that prints it."
)
IS_TOLD = 3  # the exit code of REGISTER if it has printed the project's mistake


def inherited_environment() -> dict[str, str]:
    """Return this process's environment without what could make anything use another Flyte."""
    elsewhere = re.compile("FLYTE(?!_TIMEOUT)|UCTL_|_U_|_F_")
    return {name: value for name, value in os.environ.items() if not elsewhere.match(name)}


def in_short(error: BaseException) -> str:
    """Return the project's own lines that led to an error, and last the error and its place."""
    if isinstance(error, SystemExit):  # a message, such as which setting is wrong
        return str(error)
    stack = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in stack if _is_own(frame.filename)]
    told = "".join(traceback.format_exception_only(error)).rstrip()
    if isinstance(error, SyntaxError):
        file = os.path.relpath(error.filename or "?")
        told += f"\n{file}, line {error.lineno}: SyntaxError: {error.msg}"
    elif frames:
        told = f"{os.path.relpath(frames[-1].filename)}, line {frames[-1].lineno}: {told}"
    return "".join(traceback.format_list(frames)) + told


def _is_own(file: str) -> bool:
    first = Path(os.path.relpath(file)).parts[0]
    return not first.startswith("<") and first not in {"..", ".venv", "local_flyte", "passthrough"}


def write(file: Path, text: str) -> Path:
    """Write a file for this user only, and at once: a client may be reading an earlier copy."""
    partial = file.with_name(f"{file.name}.{threading.get_ident()}")
    partial.touch(mode=0o600)
    partial.write_text(text, "utf-8")
    return partial.replace(file)


class Clients:
    """Configures clients in the same way as for any Flyte."""

    home: Path
    """The folder of its keys, configuration and data, which no other user may read."""
    port: int
    project: str
    domain: str
    people: Directory
    mode: Mode

    @property
    def endpoint(self) -> str:
        """The address as it is written in Flyte's configuration."""
        return f"dns:///{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """The address as a URL."""
        scheme = "http" if self.mode is Mode.DEVBOX else "https"
        return f"{scheme}://{HOST}:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The certificate authority to trust, in PEM form."""
        return self.home / "ca.pem"

    def config_file(self, person: str = "alice") -> Path:
        """Return a configuration for the ``flyte`` command and the SDK that acts as a person."""
        return self._write_config(person, self.people[person].token)

    def _write_config(self, name: str, token: str) -> Path:
        file = write(self.home / f"{name}.token", f"{token}\n")
        login = {
            "authType": "ExternalCommand",
            # A token in a command's arguments would be visible to anyone on this machine.
            "command": ["cat", str(file)],
            "caCertFilePath": str(self.ca_file),
        }
        settings = {
            "admin": {
                "endpoint": self.endpoint,
                **({"insecure": True} if self.mode is Mode.DEVBOX else login),
            },
            "image": {"builder": "remote"},
            "task": {"org": "local", "project": self.project, "domain": self.domain},
        }
        # JSON is valid YAML, and takes care of quoting.
        lines = (f"{key}: {json.dumps(value)}\n" for key, value in settings.items())
        return write(self.home / f"{name}.yaml", "".join(lines))

    def app_environment(self) -> dict[str, str]:
        """Return the variables that a Flyte cluster sets for an app, and the authority to trust."""
        scope = {
            "FLYTE_INTERNAL_EXECUTION_PROJECT": self.project,
            "FLYTE_INTERNAL_EXECUTION_DOMAIN": self.domain,
        }
        trust = {"SSL_CERT_FILE": str(self.ca_file)}
        if self.mode is Mode.DEVBOX:
            return {**scope, "_U_EP_OVERRIDE": f"{HOST}:{self.port}", "_U_INSECURE": "true"}
        return {**scope, **trust, "_U_EP_OVERRIDE": self.endpoint, "_U_ORG_NAME": "local"}

    def task_environment(self, owner: Person | None) -> dict[str, str]:
        """Return the variables with which a running task calls Flyte as the owner of its run."""
        if owner is None or self.mode is not Mode.UNION:
            config = self._write_config("nobody", "of-nobody")
        else:
            config = self.config_file(owner.name)
        return {"UCTL_CONFIG": str(config), "_U_USE_ACTIONS": "1"}

    def deploy(self, root: Path, file: str = "deployment.py", env: str | None = "task_env") -> str:
        """Run ``flyte deploy`` in ``root`` as alice, and return what it printed.

        Without ``env``, it deploys all. It raises RuntimeError, with that output, if it failed.
        """
        program = str(Path(sys.executable).with_name("flyte"))
        wanted = [file, env] if env else ["--all", file]
        command = [program, "--config", str(self.config_file()), "deploy", *wanted]
        return self._run(command, root, f"flyte deploy {' '.join(wanted)} failed:")

    def register(self, root: Path) -> list[str]:
        """Register, as alice, the tasks that ``deployment.py`` deploys; return their names.

        It raises RuntimeError, with the mistake in the project or all output, if they cannot be.
        """
        command = [sys.executable, "-c", REGISTER, str(self.config_file())]
        said = self._run(command, root, "The tasks of deployment.py cannot be registered:")
        told = next(line for line in said.splitlines() if line.startswith('{"tasks"'))
        return list(json.loads(told)["tasks"])

    def _run(self, command: list[str], root: Path, failure: str) -> str:
        # A separate home folder: the SDK caches its uploads there by endpoint, and an earlier local
        # Flyte may have had the same port.
        separate = {"HOME": str(self.home), "TERM": "dumb", "DO_NOT_TRACK": "1"}
        result = subprocess.run(
            command,
            cwd=root,
            env={**inherited_environment(), **separate},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if result.returncode not in DONE:
            is_told = result.returncode == IS_TOLD
            raise RuntimeError(result.stdout if is_told else f"{failure}\n{result.stdout}")
        return result.stdout


class Elsewhere:
    """A Flyte that a config of the ``flyte`` command describes, for an app on this machine.

    The app gets the token of the person whom that config signs in, in each request of their
    browser. Only public commands are used: ``flyte whoami`` and ``keyring``.
    """

    def __init__(self, file: Path) -> None:
        """Read the config; raise RuntimeError, with what to do, if the app cannot use it."""
        is_address = ":/" in str(file)
        if is_address or not file.is_file():
            raise RuntimeError(CREATE.format(file, ".flyte/config.yaml" if is_address else file))
        self._file, config = file, flyte.config.auto(file)
        self._platform, self._task = config.platform, config.task
        if not self._platform.endpoint or self._platform.insecure_skip_verify:
            raise RuntimeError(INCOMPLETE.format(file))
        self._host = self._platform.endpoint.rstrip("/").rpartition("/")[2]
        self.endpoint = f"{'http://' if self._platform.insecure else 'dns:///'}{self._host}"
        self._is_signed_in = False

    @property
    def has_people(self) -> bool:
        """Whether it knows who calls: without TLS, as in the devbox, everybody is anonymous."""
        return not self._platform.insecure

    def environment(self) -> dict[str, str]:
        """Return the variables with which the app uses this Flyte."""
        values = {
            "FLYTE_ENDPOINT": self.endpoint,
            "FLYTE_ORG": self._task.org,
            "FLYTE_PROJECT": self._task.project,
            "FLYTE_DOMAIN": self._task.domain,
            "SSL_CERT_FILE": self._platform.ca_cert_file_path,
            "ALLOW_ANONYMOUS": None if self.has_people else "true",
        }
        return {name: value for name, value in values.items() if value}

    def token(self) -> str:
        """Return the person's token, or raise RuntimeError; ``flyte`` may ask them to sign in."""
        command = self._platform.command
        if not command:
            programs = Path(sys.executable).parent
            whoami = [str(programs / "flyte"), "-c", str(self._file), "whoami"]
            # At first it shows who the person is, or asks them to sign in. If it fails, the reason
            # is there, too: standard error has the SDK's stack.
            shown = None if not self._is_signed_in else subprocess.DEVNULL
            self._run(whoami, shown, subprocess.DEVNULL)
            self._is_signed_in = True
            command = [str(programs / "keyring"), "get", self._host, "tokens"]
        said = self._run(command, subprocess.PIPE).strip()
        return said if self._platform.command else str(json.loads(said)["access_token"])

    def _run(self, command: list[str], stdout: int | None, stderr: int | None = None) -> str:
        environment = {**inherited_environment(), "DO_NOT_TRACK": "1"}
        try:
            done = subprocess.run(
                command, env=environment, stdout=stdout, stderr=stderr, check=True, text=True
            )
        except (OSError, subprocess.CalledProcessError) as error:
            why = f"{Path(command[0]).name} failed ({error})"
            raise RuntimeError(CANNOT.format(self._host, why)) from None
        return str(done.stdout)
