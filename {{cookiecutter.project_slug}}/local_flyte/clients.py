"""Configuration of Flyte clients: the ``flyte`` command, apps and running tasks."""

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

# This script registers the tasks that deployment.py names in depends_on, and prints the names. The
# script runs in a separate process, because the SDK uploads all loaded modules with the tasks.
REGISTER = """
import json, sys
from pathlib import Path
import flyte

try:
    import deployment
except (Exception, SystemExit) as error:
    from local_flyte.clients import short_traceback
    print(short_traceback(error), flush=True)
    sys.exit(3)

apps = [app for app in vars(deployment).values() if isinstance(app, flyte.Environment)]
needed = {env.name: env for app in apps for env in app.depends_on}
task_envs = [env for env in needed.values() if isinstance(env, flyte.TaskEnvironment)]
if task_envs:
    flyte.init_from_config(sys.argv[1], root_dir=Path.cwd())
    flyte.deploy(*task_envs)
names = [name for env in task_envs for name in env.tasks]
print(json.dumps({"tasks": names}), flush=True)
"""
NO_CONFIG = (
    "{} is not a config file of the flyte command. Create one, and pass its path:\n"
    "    .venv/bin/flyte create config --endpoint dns:///flyte.example.com --output {}"
)
INVALID_CONFIG = (
    "{} needs an endpoint under admin:, and must not set insecureSkipVerify, because the app always"
    " verifies the certificate of Flyte. Set caCertFilePath for a private certificate authority."
)
NOT_SIGNED_IN = (
    "There is no token for {}, so the app cannot act as you: {}\n"
    "If no server responds there, check the endpoint in the config. The token is read from the"
    " keyring of the system, where `flyte whoami` stores it, unless the config has authType:"
    " ExternalCommand and a command that prints the token."
)
PROJECT_ERROR = 3  # exit code of REGISTER after it has printed an error of the project


def inherited_environment() -> dict[str, str]:
    """Return the environment without the variables that configure the Flyte SDK."""
    flyte_variable = re.compile("FLYTE(?!_TIMEOUT)|UCTL_|_U_|_F_")
    return {name: value for name, value in os.environ.items() if not flyte_variable.match(name)}


def short_traceback(error: BaseException) -> str:
    """Return a traceback that contains only the frames of the project, and ends with the error."""
    # The message of a SystemExit is complete, for example if a setting is invalid.
    if isinstance(error, SystemExit):
        return str(error)
    stack = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in stack if _is_own(frame.filename)]
    places = [(frame.filename, frame.lineno) for frame in frames]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno))
    *lines, message = traceback.format_exception_only(error)
    if places:
        message = f"{os.path.relpath(places[-1][0])}, line {places[-1][1]}: {message}"
    return "".join([*traceback.format_list(frames), *lines, message]).rstrip()


def _is_own(file: str) -> bool:
    first = Path(os.path.relpath(file)).parts[0]
    return not first.startswith("<") and first not in {"..", ".venv", "local_flyte", "passthrough"}


def write(file: Path, text: str) -> Path:
    """Replace a private file atomically, because clients may read it."""
    partial = file.with_name(f"{file.name}.{threading.get_ident()}")
    partial.touch(mode=0o600)
    partial.write_text(text, "utf-8")
    return partial.replace(file)


class Clients:
    """Creates the config files and environment variables with which clients call a Flyte server."""

    home: Path
    """Folder for keys, configuration and data, which only this user may read."""
    port: int
    project: str
    domain: str
    people: Directory
    mode: Mode

    @property
    def endpoint(self) -> str:
        """The endpoint as written in a Flyte config file."""
        return f"dns:///{HOST}:{self.port}"

    @property
    def url(self) -> str:
        scheme = "http" if self.mode is Mode.DEVBOX else "https"
        return f"{scheme}://{HOST}:{self.port}"

    @property
    def ca_file(self) -> Path:
        """File with the certificate authority to trust, in PEM format."""
        return self.home / "ca.pem"

    def config_file(self, user: str = "alice") -> Path:
        """Write a config file that makes the ``flyte`` command and the SDK act as ``user``."""
        return self._write_config(user, self.people[user].token)

    def _write_config(self, name: str, token: str) -> Path:
        # Other users of this machine can read command arguments, so the token is in a file.
        command = ["cat", str(write(self.home / f"{name}.token", f"{token}\n"))]
        login = {"authType": "ExternalCommand", "command": command}
        login["caCertFilePath"] = str(self.ca_file)
        access = {"insecure": True} if self.mode is Mode.DEVBOX else login
        settings = {
            "admin": {"endpoint": self.endpoint, **access},
            "image": {"builder": "remote"},
            "task": {"org": "local", "project": self.project, "domain": self.domain},
        }
        return write(self.home / f"{name}.yaml", json.dumps(settings))  # JSON is valid YAML

    def app_environment(self) -> dict[str, str]:
        """Return the variables that a Flyte cluster sets for an app, and ``SSL_CERT_FILE``."""
        scope = {
            "FLYTE_INTERNAL_EXECUTION_PROJECT": self.project,
            "FLYTE_INTERNAL_EXECUTION_DOMAIN": self.domain,
        }
        trust = {"SSL_CERT_FILE": str(self.ca_file)}
        if self.mode is Mode.DEVBOX:
            return {**scope, "_U_EP_OVERRIDE": f"{HOST}:{self.port}", "_U_INSECURE": "true"}
        return {**scope, **trust, "_U_EP_OVERRIDE": self.endpoint, "_U_ORG_NAME": "local"}

    def task_environment(self, owner: Person | None) -> dict[str, str]:
        """Return the variables that make a running task call Flyte as the owner of the run."""
        if owner is None or self.mode is not Mode.UNION:
            config = self._write_config("anonymous", "no-token")
        else:
            config = self.config_file(owner.name)
        return {"UCTL_CONFIG": str(config), "_U_USE_ACTIONS": "1"}

    def deploy(self, root: Path, file: str = "deployment.py", env: str | None = "task_env") -> str:
        """Run ``flyte deploy`` in ``root`` as alice, and return the output.

        If ``env`` is None, the command deploys all environments. If the command fails, raise
        RuntimeError with the output.
        """
        program = str(Path(sys.executable).with_name("flyte"))
        arguments = [file, env] if env else ["--all", file]
        command = [program, "--config", str(self.config_file()), "deploy", *arguments]
        return self._run(command, root, f"flyte deploy {' '.join(arguments)} failed:")

    def register(self, root: Path) -> list[str]:
        """Register the tasks of ``deployment.py`` as alice, and return the task names.

        If the registration fails, raise RuntimeError with the traceback or the output.
        """
        command = [sys.executable, "-c", REGISTER, str(self.config_file())]
        output = self._run(command, root, "The tasks of deployment.py cannot be registered:")
        line = next(line for line in output.splitlines() if line.startswith('{"tasks"'))
        return list(json.loads(line)["tasks"])

    def _run(self, command: list[str], root: Path, failure: str) -> str:
        # Use a separate home folder, because the SDK caches uploads there by endpoint, and an
        # earlier local Flyte server may have used the same port.
        home_folder = {"HOME": str(self.home), "TERM": "dumb", "DO_NOT_TRACK": "1"}
        result = subprocess.run(
            command,
            cwd=root,
            env={**inherited_environment(), **home_folder},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if result.returncode not in DONE:
            is_project_error = result.returncode == PROJECT_ERROR
            raise RuntimeError(result.stdout if is_project_error else f"{failure}\n{result.stdout}")
        return result.stdout


class RemoteFlyte:
    """A remote Flyte server, read from a config file of the ``flyte`` command.

    The app runs on this machine, and acts as the user whom the config signs in.
    """

    def __init__(self, file: Path) -> None:
        """Read the config file. If the file is unusable, raise RuntimeError with the fix."""
        is_address = ":/" in str(file)
        if is_address or not file.is_file():
            raise RuntimeError(NO_CONFIG.format(file, ".flyte/config.yaml" if is_address else file))
        self._file, config = file, flyte.config.auto(file)
        self._platform, self._task = config.platform, config.task
        if not self._platform.endpoint or self._platform.insecure_skip_verify:
            raise RuntimeError(INVALID_CONFIG.format(file))
        self._host = self._platform.endpoint.rstrip("/").rpartition("/")[2]
        self.endpoint = f"{'http://' if self._platform.insecure else 'dns:///'}{self._host}"
        self._is_signed_in = False

    @property
    def has_authentication(self) -> bool:
        """Whether Flyte authenticates callers. Without TLS, all callers are anonymous."""
        return not self._platform.insecure

    def environment(self) -> dict[str, str]:
        """Return the environment variables that make the app use this Flyte."""
        values = {
            "FLYTE_ENDPOINT": self.endpoint,
            "FLYTE_ORG": self._task.org,
            "FLYTE_PROJECT": self._task.project,
            "FLYTE_DOMAIN": self._task.domain,
            "SSL_CERT_FILE": self._platform.ca_cert_file_path,
            "ALLOW_ANONYMOUS": None if self.has_authentication else "true",
        }
        return {name: value for name, value in values.items() if value}

    def token(self) -> str:
        """Return the user's token, or raise RuntimeError. ``flyte`` may ask the user to sign in."""
        command = self._platform.command
        if not command:
            programs = Path(sys.executable).parent
            whoami = [str(programs / "flyte"), "-c", str(self._file), "whoami"]
            # The first `flyte whoami` writes one of three things to standard output: the user, a
            # request to sign in, or an error. Discard standard error, which has only a stack trace.
            stdout = None if not self._is_signed_in else subprocess.DEVNULL
            self._run(whoami, stdout, subprocess.DEVNULL)
            self._is_signed_in = True
            command = [str(programs / "keyring"), "get", self._host, "tokens"]
        output = self._run(command, subprocess.PIPE).strip()
        return output if self._platform.command else str(json.loads(output)["access_token"])

    def _run(self, command: list[str], stdout: int | None, stderr: int | None = None) -> str:
        environment = {**inherited_environment(), "DO_NOT_TRACK": "1"}
        try:
            process = subprocess.run(
                command, env=environment, stdout=stdout, stderr=stderr, check=False, text=True
            )
            if process.returncode not in DONE:
                process.check_returncode()
        except (OSError, subprocess.CalledProcessError) as error:
            reason = f"{Path(command[0]).name} failed ({error})"
            raise RuntimeError(NOT_SIGNED_IN.format(self._host, reason)) from None
        return str(process.stdout)
