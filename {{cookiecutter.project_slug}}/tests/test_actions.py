"""GET /runs/{name}/actions and /report, and POST /runs/{name}/actions/{action}/abort."""

import json
from datetime import datetime

import httpx
import pytest

from local_flyte.testing import ended, events, long_run, start

from .deployed_tasks import count, draw, greet


def test_a_run_consists_of_actions(alice: httpx.Client, greeting: str) -> None:
    path = f"/runs/{greeting}/actions"
    (root,) = alice.get(path).json()
    assert (root["name"], root["type"], root["task"]) == ("a0", "task", greet.name)
    assert (root["parent"], root["phase"], root["error"]) == (None, "succeeded", None)
    started, end = (datetime.fromisoformat(root[name]) for name in ("started_at", "ended_at"))
    assert started <= end
    assert alice.get(path, params={"offset": 1}).json() == []
    (event,) = events(alice.get(f"{path}/events"))
    assert (event.type, json.loads(event.data)) == ("action", root)
    assert alice.get("/runs/none/actions").status_code == 404


@pytest.mark.authorization
def test_a_contributor_may_abort_anyones_action_and_a_viewer_may_not(
    bob: httpx.Client, victor: httpx.Client
) -> None:
    with long_run(count.name, to=100_000) as run:
        path = f"/runs/{run}/actions/a0/abort"
        assert victor.post(path).status_code == 403
        aborted = bob.post(path, json={"reason": "bob says so"})
        assert (aborted.status_code, aborted.json()["name"]) == (202, "a0")
        assert bob.post(path).status_code == 409
        assert bob.post(path.replace("a0", "none")).status_code == 404


def test_a_report_is_opened_at_an_address_that_flyte_signs(
    alice: httpx.Client, greeting: str
) -> None:
    drawn = ended(start(draw.name))
    answer = alice.get(f"/runs/{drawn}/report")
    assert (answer.status_code, answer.headers["Referrer-Policy"]) == (303, "no-referrer")
    assert "<p>drawn</p>" in httpx.get(answer.headers["Location"], trust_env=False).text
    actions = [alice.get(f"/runs/{name}/actions").json()[0] for name in (drawn, greeting)]
    assert [each["has_report"] for each in actions] == [True, False]
    assert alice.get(f"/runs/{greeting}/report").status_code == 404
