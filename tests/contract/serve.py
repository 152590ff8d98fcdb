"""Serve the generated project in the current folder on a local Flyte of its own.

Prints one line of JSON, ``{"url": ..., "tokens": {name: token}}``, then waits for the end of its
standard input. Run in a process of its own: the SDK knows one Flyte a process.
"""

import importlib
import json
import os
import sys
import threading
import time
from pathlib import Path

import uvicorn

from local_flyte import PEOPLE, LocalFlyte


def main() -> None:
    """Start, tell, wait, stop."""
    with LocalFlyte() as local_flyte:
        local_flyte.deploy(Path.cwd())
        os.environ.update(local_flyte.app_environment(), DO_NOT_TRACK="1")
        app = importlib.import_module("app.main").app  # reads the environment when imported

        server = uvicorn.Server(uvicorn.Config(app, port=0, access_log=False))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        tokens = {name: person.token for name, person in PEOPLE.items()}
        print(json.dumps({"url": f"http://127.0.0.1:{port}", "tokens": tokens}), flush=True)
        sys.stdin.read()
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    main()
