"""Starts the processes that replace containers, and ends them with the one that asked for them.

Each is a fork, watched by another one. ``a0`` runs in it, where most of what it needs is imported
already, at a third of the cost; not ``flyte``, which starts threads. Other programs are executed.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import shutil
import signal
import socket
import sys
import threading

MODULES = """
    aiofiles aiolimiter cloudpickle connectrpc.client docstring_parser httpcore httpx
    mashumaro.codecs.json mashumaro.codecs.msgpack obstore.fsspec obstore.store
    opentelemetry.metrics opentelemetry.propagate pydantic.types rich.traceback rich_click sqlite3
    tarfile yaml
""".split()  # noqa: SIM905 - a long list of names
AT_START = ("FSSPEC_", "LANG", "LC_", "LD_", "OTEL_", "PATH", "PROTOCOL_BUFFERS", "PYTHON", "TZ")
"""How variables begin that are read when Python starts, or when those modules are imported."""
FORKS = sys.platform == "linux"  # other systems' libraries must not be used in a fork


def prepare() -> None:
    """Import most of what ``a0`` needs."""
    with contextlib.suppress(ImportError):  # each: another version of the SDK may lack it
        import flyteidl2  # noqa: PLC0415

        found = pkgutil.walk_packages(flyteidl2.__path__, "flyteidl2.")
        for module in (*MODULES, *(each.name for each in found if each.name.endswith("_connect"))):
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
    gc.freeze()


def serve(control: socket.socket) -> None:
    """Fork for each process, and return in that of an ``a0``, with nothing left of this one.

    Two files arrive for a process: one for its output, and a socket, which has its command, folder
    and variables as JSON. It tells a line when it starts, and a line with the exit code.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the watching processes
    while files := socket.recv_fds(control, 1, 2)[1]:
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            start(files[0], socket.socket(fileno=files[1]))
            return
        for file in files:
            os.close(file)
    os._exit(0)


def start(output: int, starter: socket.socket) -> None:
    """Become the process, watched by this one."""
    with starter.makefile() as request:
        command, folder, variables = json.loads(request.readline())
    if process := os.fork():
        os.close(output)
        watch(process, starter)
    os.setsid()
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(folder)
    starter.send(b"\n")
    starter.close()
    anew = [name for name in variables if variables[name] != os.environ.get(name)]
    if FORKS and command[0] == "a0" and not any(name.startswith(AT_START) for name in anew):
        os.environ.clear()
        os.environ.update(variables)
        sys.argv[:] = command
        return
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it
    try:
        os.execvpe(command[0], command, variables)  # noqa: S606 - as a container would
    except OSError as error:
        os.write(2, f"{command[0]} cannot be started: {error.strerror}\n".encode())
        os._exit(127)


def watch(process: int, starter: socket.socket) -> None:
    """Tell the exit code, and end what is left of the process when its starter has gone."""

    def tell() -> None:
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        with contextlib.suppress(OSError):
            starter.send(b"%d\n" % code)

    telling = threading.Thread(target=tell)
    telling.start()
    with contextlib.suppress(ConnectionError):  # it may not have read what it was told
        starter.recv(1)  # until it is closed
    for kill in (os.killpg, os.kill):  # it may not have a group yet
        with contextlib.suppress(ProcessLookupError):
            kill(process, signal.SIGKILL)
    telling.join()
    os._exit(0)


if __name__ == "__main__":
    if FORKS:
        prepare()
    serve(socket.socket(fileno=int(sys.argv[1])))
    sys.argv[0] = shutil.which(sys.argv[0]) or sys.argv[0]
    sys.path[0] = os.path.dirname(sys.argv[0])  # noqa: PTH120
    runpy.run_path(sys.argv[0], run_name="__main__")
