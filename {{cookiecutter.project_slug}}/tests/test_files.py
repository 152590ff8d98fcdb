"""Tests of POST /files."""

import httpx
from flyte import remote

from local_flyte.testing import acting_as, ended, start

from .deployed_tasks import count_lines


def test_uploaded_file_is_valid_task_input(alice: httpx.Client) -> None:
    response = alice.post("/files", params={"name": "a/Größe of 2.txt"}, content=b"one\ntwo\n")
    assert response.status_code == 201
    uri = response.json()["uri"]
    assert uri.endswith("/Gr_e_of_2.txt")
    run = ended(start(count_lines.name, text=uri))
    with acting_as("alice"):
        assert remote.Run.get(run).outputs().named_outputs == {"o0": 2}
