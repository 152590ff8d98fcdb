"""Starts the processes that replace containers, and kills them when the client disconnects.

For each container, this process forks a watcher, and the watcher forks the container's process.
The forked process runs ``a0`` directly. Most modules are loaded before the fork, which saves two
thirds of the start-up time. ``flyte`` is not preloaded, because its import starts threads. The
forked process executes other programs with ``execvpe``.
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
"""Prefixes of variables that Python reads at start-up, or that the modules read at import."""
FORKS = sys.platform == "linux"  # system libraries of macOS are not fork-safe


def prepare() -> None:
    """Import most modules that ``a0`` needs."""
    with contextlib.suppress(ImportError):  # an SDK version may lack a module
        import flyteidl2  # noqa: PLC0415

        protocol = (
            module.name for module in pkgutil.walk_packages(flyteidl2.__path__, "flyteidl2.")
        )
        for module in (*MODULES, *(name for name in protocol if name.endswith("_connect"))):
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
    gc.freeze()


def serve(control: socket.socket) -> None:
    """Fork a process for each request. Only the forked process, which runs ``a0``, returns.

    To request a process, the client sends two file descriptors over ``control``: a pipe for the
    output of the process, and a socket. The client sends the command, the folder and the variables
    as JSON over the socket. The socket returns an empty line when the process starts, and a line
    with the exit code at the end.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the watchers
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
    """Fork the requested process, and watch the process in the parent."""
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
    changed = [name for name in variables if variables[name] != os.environ.get(name)]
    if FORKS and command[0] == "a0" and not any(name.startswith(AT_START) for name in changed):
        os.environ.clear()
        os.environ.update(variables)
        sys.argv[:] = command
        return
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores SIGPIPE; other programs must not
    try:
        os.execvpe(command[0], command, variables)  # noqa: S606 - like a container
    except OSError as error:
        os.write(2, f"{command[0]} cannot be started: {error.strerror}\n".encode())
        os._exit(127)


def watch(process: int, starter: socket.socket) -> None:
    """Send the exit code to the client. Kill the process group when the client disconnects."""

    def send_exit_code() -> None:
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        with contextlib.suppress(OSError):
            starter.send(b"%d\n" % code)

    sender = threading.Thread(target=send_exit_code)
    sender.start()
    with contextlib.suppress(ConnectionError):  # raised if the client has left data unread
        starter.recv(1)  # wait until the client closes the socket
    for kill in (os.killpg, os.kill):  # the process may not have called `setsid` yet
        with contextlib.suppress(ProcessLookupError):
            kill(process, signal.SIGKILL)
    sender.join()
    os._exit(0)


if __name__ == "__main__":
    if FORKS:
        prepare()
    serve(socket.socket(fileno=int(sys.argv[1])))
    sys.argv[0] = shutil.which(sys.argv[0]) or sys.argv[0]
    sys.path[0] = os.path.dirname(sys.argv[0])  # noqa: PTH120
    runpy.run_path(sys.argv[0], run_name="__main__")
