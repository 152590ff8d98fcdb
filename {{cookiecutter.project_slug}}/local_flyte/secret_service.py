"""SecretService. The scope of a secret is a project and domain, a domain, or all projects.

The values are in memory, and in files for containers that request files. No response, log or error
contains a value.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.core import security_pb2
from flyteidl2.secret import definition_pb2, secret_connect
from flyteidl2.secret import payload_pb2 as pb

from .access import Context, invalid, key_of, require
from .actions import now

NAME = re.compile("[-a-zA-Z0-9_]+")
FOLDER_VARIABLE = "FLYTE_SECRETS_DEFAULT_DIR"
"""Name of the variable with the folder of secret files (on a cluster ``/etc/flyte/secrets``)."""


class SecretError(Exception):
    """Raised if a container cannot start, because a secret is missing."""


class SecretService(secret_connect.SecretService):
    """Stores secrets with their values, by project, domain and name."""

    def __init__(self) -> None:
        self._secrets: dict[tuple[str, str, str], tuple[definition_pb2.Secret, bytes]] = {}

    async def create_secret(
        self, request: pb.CreateSecretRequest, ctx: Context
    ) -> pb.CreateSecretResponse:
        id_, spec, key = request.id, request.secret_spec, key_of(request.id)
        if not NAME.fullmatch(id_.name):
            raise invalid(f"secret name {id_.name!r} does not match {NAME.pattern}")
        if id_.project and not id_.domain:
            raise invalid("project-scoped secrets must also specify a domain")
        if key in self._secrets:
            raise ConnectError(Code.ALREADY_EXISTS, f"secret {id_.name} already exists")
        metadata = definition_pb2.SecretMetadata(created_time=now(), type=spec.type)
        metadata.secret_status.overall_status = definition_pb2.FULLY_PRESENT
        value = spec.binary_value or spec.string_value.encode()
        self._secrets[key] = definition_pb2.Secret(id=id_, secret_metadata=metadata), value
        return pb.CreateSecretResponse()

    async def get_secret(self, request: pb.GetSecretRequest, ctx: Context) -> pb.GetSecretResponse:
        return pb.GetSecretResponse(secret=self._get(request.id))

    async def delete_secret(
        self, request: pb.DeleteSecretRequest, ctx: Context
    ) -> pb.DeleteSecretResponse:
        self._get(request.id)
        del self._secrets[key_of(request.id)]
        return pb.DeleteSecretResponse()

    async def list_secrets(
        self, request: pb.ListSecretsRequest, ctx: Context
    ) -> pb.ListSecretsResponse:
        """Return the secrets of a project, the secrets of a domain, or all secrets, in one page."""
        response = pb.ListSecretsResponse()
        for (project, domain, _), (secret, _) in sorted(self._secrets.items()):
            if request.project in {"", project} and request.domain in {"", domain}:
                response.secrets.append(secret)
        return response

    def clear(self) -> None:
        self._secrets.clear()

    @contextmanager
    def mounted(
        self, requested: Iterable[security_pb2.Secret], project: str, domain: str
    ) -> Iterator[dict[str, str]]:
        """Yield the variables for a container's secrets, and delete secret files after the block.

        Raise SecretError if a secret is missing.
        """
        with TemporaryDirectory(prefix="secrets-") as folder:
            variables = {}
            for secret in requested:
                value = self._find(secret.key, project, domain)
                if secret.mount_requirement == secret.FILE:
                    Path(folder, secret.key).write_bytes(value)
                    variables[FOLDER_VARIABLE] = folder
                else:
                    name = secret.env_var or f"_UNION_{secret.key.upper()}"
                    variables[name] = os.fsdecode(value)
            yield variables

    def _get(self, id_: definition_pb2.SecretIdentifier) -> definition_pb2.Secret:
        return require(self._secrets.get(key_of(id_)), f"secret {id_.name}")[0]

    def _find(self, name: str, project: str, domain: str) -> bytes:
        """Return the value of the secret with the narrowest scope."""
        for scope in ((project, domain), ("", domain), ("", "")):
            if (*scope, name) in self._secrets:
                return self._secrets[*scope, name][1]
        raise SecretError(
            f"secret {name} not found in {project}/{domain}, in the domain {domain}, or without a"
            f" project and a domain: create it with `flyte create secret {name}`, and start again"
        )
