"""What clients are told of the local Flyte: the ``flyte`` command, apps, and running tasks."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from .modes import Mode
from .people import Directory, Person, signed
from .serving import HOST


def leads_elsewhere(variable: str) -> bool:
    """Tell whether a variable could lead the app or the ``flyte`` command to another Flyte."""
    return variable.startswith(("FLYTE", "UCTL_", "_U_", "_F_")) and variable != "FLYTE_TIMEOUT"


def inherited_environment() -> dict[str, str]:
    """Return this process's environment, without what could lead to another Flyte."""
    return {name: value for name, value in os.environ.items() if not leads_elsewhere(name)}


@dataclass(frozen=True)
class Clients:
    """Configures clients, each in the way that it is configured for any Flyte."""

    home: Path
    """Folder for the configuration, which nobody else may read."""
    port: int
    project: str
    domain: str
    people: Directory
    mode: Mode

    @property
    def endpoint(self) -> str:
        """The address in the form in which Flyte is configured with it."""
        return f"dns:///{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """The address as a URL."""
        return f"{self.scheme}://{HOST}:{self.port}"

    @property
    def scheme(self) -> str:
        """How it is spoken to."""
        return "http" if self.mode is Mode.DEVBOX else "https"

    @property
    def ca_file(self) -> Path:
        """The certificate authority to trust, in PEM form."""
        return self.home / "ca.pem"

    def config_file(self, name: str) -> Path:
        """Return a configuration for the ``flyte`` command and the SDK that acts as a person."""
        return self._write_config(name, self.token(name))

    def token(self, name: str) -> str:
        """Return the bearer token by which a person is known."""
        someone = self.people[name]
        return someone.token if self.mode is Mode.UNION else someone.jwt

    def _write_config(self, name: str, token: str) -> Path:
        file = self._write(f"{name}.token", f"{token}\n")
        login = {
            "authType": "ExternalCommand",
            # As an argument of a command, anyone on this machine could see the token.
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
        # JSON is YAML, and quotes what needs quoting.
        lines = (f"{key}: {json.dumps(value)}\n" for key, value in settings.items())
        return self._write(f"{name}.yaml", "".join(lines))

    def app_environment(self) -> dict[str, str]:
        """Return the variables that a Flyte cluster sets for an app, and the authority to trust.

        The chart of the open-source Flyte names no endpoint, unless it is told to as in the devbox.
        """
        scope = {
            "FLYTE_INTERNAL_EXECUTION_PROJECT": self.project,
            "FLYTE_INTERNAL_EXECUTION_DOMAIN": self.domain,
        }
        trust = {"SSL_CERT_FILE": str(self.ca_file)}
        if self.mode is Mode.DEVBOX:
            return {**scope, "_U_EP_OVERRIDE": f"{HOST}:{self.port}", "_U_INSECURE": "true"}
        if self.mode is Mode.OPEN_SOURCE:
            return {**scope, **trust}
        return {**scope, **trust, "_U_EP_OVERRIDE": self.endpoint, "_U_ORG_NAME": "local"}

    def task_environment(self, owner: Person | None) -> dict[str, str]:
        """Return the variables by which a running task calls Flyte as the owner of its run."""
        if owner is None or self.mode is not Mode.UNION:
            nobody = self._write_config("nobody", signed({}))
            return {"UCTL_CONFIG": str(nobody), "_U_USE_ACTIONS": "1"}
        # Every SDK we support reads its credentials from a mounted file; from variables
        # (FLYTE_AUTH_TYPE) only the newer ones do.
        return {"UCTL_CONFIG": str(self.config_file(owner.name))}

    def deploy(self, root: Path, file: str, env: str, name: str) -> str:
        """Run ``flyte deploy`` in ``root`` as a person, and return what it printed.

        Raises:
            RuntimeError: With that output, if it failed.
        """
        flyte = Path(sys.executable).with_name("flyte")
        result = subprocess.run(
            [flyte, "--config", self.config_file(name), "deploy", file, env],
            cwd=root,
            env={
                **inherited_environment(),
                # A home of its own, as the SDK remembers there what it has uploaded to an
                # endpoint: a port that had belonged to an earlier local Flyte would mislead it.
                "HOME": str(self.home),
                "TERM": "dumb",
                "DO_NOT_TRACK": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise RuntimeError(f"flyte deploy {file} {env} failed:\n{result.stdout}")
        return result.stdout

    def _write(self, file: str, text: str) -> Path:
        # Someone may be reading an earlier copy.
        partial = self.home / f"{file}.{threading.get_ident()}"
        partial.touch(mode=0o600)
        partial.write_text(text)
        return partial.replace(self.home / file)
