"""What ``make dev`` remembers in a folder of the project: credentials and, if asked to, runs."""

import fcntl
import json
import os
import secrets
import shutil
import stat
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trustme
from flyteidl2.common import identifier_pb2
from flyteidl2.task import run_pb2, task_definition_pb2
from flyteidl2.workflow import run_definition_pb2
from google.protobuf.message import Message

from .actions import Action, Run, Runs
from .tasks import TaskService

FOLDER = Path(".local_flyte")
STOPPED = "The local Flyte was stopped"
NOT_PRIVATE = (
    "{} has credentials, but it is not a folder that only you may read. Delete it: make dev makes a"
    " new one. If that does not help, move the project to a disk that tells users apart."
)
IN_USE = "Another make dev keeps its runs in {}. Stop that one, or leave out --keep."


class Memory:
    """A folder that is remembered from one start to the next."""

    def __init__(self, folder: Path = FOLDER) -> None:
        """Open or make the folder; raise RuntimeError if other users have access to it."""
        if not folder.is_symlink():
            folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
        if not is_own or found.st_mode & 0o077:
            raise RuntimeError(NOT_PRIVATE.format(folder))
        self.folder = folder.resolve()

    @property
    def secret(self) -> bytes:
        """The secret that all credentials of people are made from."""
        return bytes.fromhex(self._remembered("secret", lambda: secrets.token_hex(32)))

    @property
    def authority(self) -> trustme.CA:
        """The certificate authority."""
        new = trustme.CA()
        pem = [blob.bytes().decode() for blob in (new.cert_pem, new.private_key_pem)]
        certificate, key = json.loads(self._remembered("authority", lambda: json.dumps(pem)))
        return trustme.CA.from_pem(certificate.encode(), key.encode())

    def _remembered(self, name: str, make: Callable[[], str]) -> str:
        file = self.folder / name
        if not file.exists():
            write(file, make())
        return file.read_text("utf-8")


class Kept:
    """The part of the memory with tasks, runs and their data."""

    def __init__(self, memory: Memory) -> None:
        """Take it for this process, or raise RuntimeError if another one has it."""
        self.home = memory.folder / "kept"
        self.home.mkdir(mode=0o700, exist_ok=True)
        self._lock = (self.home / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RuntimeError(IN_USE.format(self.home)) from None
        for left in ("apps", "tasks"):  # folders of processes
            shutil.rmtree(self.home / "work" / left, ignore_errors=True)

    def save(self, tasks: TaskService, runs: Runs) -> None:
        """Write everything but logs, which go with their pods; all runs must have ended."""
        versions = [task for versions in tasks.by_name.values() for task in versions.values()]
        told = []
        for run in runs:
            actions = [
                (_text(action.details), action.input_uri, action.output_base, action.output_uri)
                for action in run.actions.values()
            ]
            told.append((_text(run.id), _text(run.spec), actions))
        write(self.home / "state.json", json.dumps([[*map(_text, versions)], told]))

    def load(self, tasks: TaskService, runs: Runs) -> None:
        """Add the tasks and runs of the last start, if there was one."""
        file = self.home / "state.json"
        versions, told = json.loads(file.read_text("utf-8")) if file.exists() else ([], [])
        for text in versions:
            tasks.add(_read(task_definition_pb2.TaskDetails(), text))
        for id_, spec, actions in told:
            run_id = _read(identifier_pb2.RunIdentifier(), id_)
            run = runs.add(Run(run_id, _read(run_pb2.RunSpec(), spec), owner=None))
            for text, inputs, base, outputs in actions:
                details = run_definition_pb2.ActionDetails()
                action = Action(details, inputs, base, run.changed, stored_at=outputs)
                _read(details, text)
                run.actions[action.name] = action


def write(file: Path, text: str) -> None:
    """Write a file that only this user may read, at once."""
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    partial.touch(mode=0o600)
    partial.write_text(text, "utf-8")
    partial.replace(file)


def _text(message: Message) -> str:
    return b64encode(message.SerializeToString()).decode()


def _read(message: Any, text: str) -> Any:
    message.ParseFromString(b64decode(text))
    return message
