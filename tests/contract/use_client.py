"""Run ``greet`` with the client that openapi-python-client has generated; print its output."""

import os

from client import AuthenticatedClient
from client.api.runs import get_run, get_run_io
from client.api.tasks import run_task
from client.models import NewRun, RunData, RunWithResult

client = AuthenticatedClient(os.environ["APP_URL"], os.environ["APP_TOKEN"], timeout=300)
with client:
    run = run_task.sync(
        "contract.greet",
        client=client,
        body=NewRun.from_dict({"inputs": {"name": "Ada"}}),
        wait=20,
    )
    assert isinstance(run, RunWithResult), run
    while not run.ended_at:  # on a busy machine
        run = get_run.sync(run.name, client=client, wait=20)
        assert isinstance(run, RunWithResult), run
    assert run.outputs
    assert run.outputs["o0"] == "Hello, Ada."
    data = get_run_io.sync(run.name, client=client)
    assert isinstance(data, RunData), data
    print(data.outputs["o0"])
