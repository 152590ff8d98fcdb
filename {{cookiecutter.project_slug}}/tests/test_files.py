"""POST /files."""

import httpx

from .deployed_tasks import count_lines


def test_an_uploaded_file_can_be_the_input_of_a_task(alice: httpx.Client) -> None:
    response = alice.post("/files", params={"name": "a/of two.txt"}, content=b"one\ntwo\n")
    assert response.status_code == 201
    uri = response.json()["uri"]
    assert uri.endswith("/of_two.txt")
    body = {"inputs": {"text": uri}}
    run = alice.post(f"/tasks/{count_lines.name}/runs", params={"wait": 100}, json=body).json()
    assert run["outputs"] == {"o0": 2}
