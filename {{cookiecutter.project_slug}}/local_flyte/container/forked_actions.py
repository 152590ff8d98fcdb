"""Runs ``a0`` in forks of a process that has imported most of what it needs, at half the cost.

Nothing is imported before that starts threads or reads variables, which each action has of its own:
not ``flyte``, and not ``fsspec``.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import shutil
import signal
import socket
import sys

MODULES = (
    "cloudpickle",
    "connectrpc.client",
    "flyteidl2.actions.actions_service_connect",
    "flyteidl2.app.app_service_connect",
    "flyteidl2.dataproxy.dataproxy_service_connect",
    "flyteidl2.workflow.run_service_connect",
    "httpx",
    "mashumaro.codecs.json",
    "mashumaro.codecs.msgpack",
    "obstore.store",
    "pydantic.main",
    "rich.traceback",
    "rich_click",
    "yaml",
)


def serve(control: socket.socket) -> None:
    """Fork for an action, and return in its process, with nothing left of this one.

    Two files arrive for an action: one for its output, and a socket that has its arguments, folder
    and variables as JSON, and gets the process id and the exit code.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the watching processes
    while files := socket.recv_fds(control, 1, 2)[1]:
        if os.fork() == 0:
            control.close()
            become(*files)
            return
        for file in files:
            os.close(file)
    os._exit(0)


def become(output: int, starter: int) -> None:
    """Become the action's process, watched by this one."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(fileno=starter) as told:
        with told.makefile() as request:
            arguments, folder, variables = json.loads(request.readline())
        if watched := os.fork():
            os.close(output)
            code = os.waitstatus_to_exitcode(os.waitpid(watched, 0)[1])
            told.send(b"%8d" % code)
            os._exit(0)
        os.setsid()
        told.send(b"%8d" % os.getpid())
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv[:] = arguments
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)


if __name__ == "__main__":
    for module in MODULES:
        with contextlib.suppress(ImportError):  # another version of the SDK
            importlib.import_module(module)
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
    sys.argv[0] = shutil.which(sys.argv[0]) or sys.argv[0]
    sys.path[0] = os.path.dirname(sys.argv[0])  # noqa: PTH120
    runpy.run_path(sys.argv[0], run_name="__main__")
