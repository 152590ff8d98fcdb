"""What ``make dev ARGS=--keep`` keeps in a folder of the project: tasks, runs and their data."""

import fcntl
import json
import os
import shutil
import stat
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

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


class Kept:
    """A folder that is the home of one local Flyte after the other."""

    def __init__(self, folder: Path = FOLDER) -> None:
        """Take it for this process; raise RuntimeError if another has it, or others may read it."""
        if not folder.is_symlink():
            folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
        if not is_own or found.st_mode & 0o077:
            raise RuntimeError(NOT_PRIVATE.format(folder))
        self.home = folder.resolve()
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
