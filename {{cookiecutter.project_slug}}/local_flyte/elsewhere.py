"""The app on this machine, and Flyte elsewhere: as the person whom a ``flyte`` config signs in.

The app gets that person's token in each request of their browser, as from Flyte's own sign-in in
front of a deployed app. Only public commands are used: ``flyte whoami`` and ``keyring``.
"""

import json
import subprocess
import sys
from pathlib import Path

import flyte.config

from .clients import inherited_environment

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
    "It is looked for in the system's keyring, where `flyte whoami` puts it, unless the config has"
    " authType: ExternalCommand and a command that prints it."
)


class Elsewhere:
    """A Flyte that a config of the ``flyte`` command describes."""

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
            self._say([str(programs / "flyte"), "-c", str(self._file), "whoami"])
            command = [str(programs / "keyring"), "get", self._host, "tokens"]
        said = self._say(command)
        return said if self._platform.command else str(json.loads(said)["access_token"])

    def _say(self, command: list[str]) -> str:
        environment = {**inherited_environment(), "DO_NOT_TRACK": "1"}
        try:
            done = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, check=True, text=True
            )
        except (OSError, subprocess.CalledProcessError) as error:
            why = f"{Path(command[0]).name} failed ({error})"
            raise RuntimeError(CANNOT.format(self._host, why)) from None
        return done.stdout.strip()
