"""The promises of the app's OpenAPI document, checked by tools that only read that document."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from local_flyte import PEOPLE, LocalFlyte

from ..baking import BIN, run
from ..served import App, serving_app

# A schema can't describe which tokens are valid, or which inputs the task in the path takes. The
# stream of a run's actions takes two seconds each time.
SCHEMATHESIS = """
seed = 1
color = false
continue-on-failure = true
suppress-health-check = ["all"]
warnings = false
generation.max-examples = 5
generation.database = "none"
request-timeout = 120
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 410, 422, 429]
[parameters."path.name"]
dictionary = "existing"
probability = 0.5
[[operations]]
include-path = "/runs/{name}/actions/events"
enabled = false
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def app(default_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app on a Flyte of its own, with runs that end."""
    log = tmp_path_factory.mktemp("contract") / "log"
    with LocalFlyte() as flyte:
        flyte.deploy(Path(__file__).parent, "tasks.py", "env")
        with serving_app(default_project, log, flyte) as app:
            yield app


@pytest.fixture(scope="module")
def document(app: App) -> Any:
    return httpx.get(f"{app.url}/openapi.json", trust_env=False, timeout=60).json()


def test_the_document_is_valid_for_the_version_that_it_names(document: Any) -> None:
    validate(document)


def test_schemathesis_finds_no_problem(app: App, tmp_path: Path) -> None:
    # All of its checks: statuses, media types, headers, schemas, 405 with Allow, no 5xx.
    alice, path = f"Bearer {PEOPLE['alice'].token}", f"{app.url}/tasks/contract.greet/runs"
    with httpx.Client(headers={"Authorization": alice}, trust_env=False, timeout=60) as client:
        name = client.post(path, json={"inputs": {"name": "Ada"}}).json()["name"]
    existing = f'[dictionaries.existing]\nvalues = ["{name}", "contract.greet"]\n'
    headers = f'[headers]\nAuthorization = "{alice}"\n'
    (tmp_path / "schemathesis.toml").write_text(SCHEMATHESIS + existing + headers, "utf-8")
    said = run([BIN / "schemathesis", "run", f"{app.url}/openapi.json"], tmp_path)
    summary = said[said.index("SUMMARY") :]
    print(summary)
    # A request without an answer does not fail a check.
    assert "errored" not in summary
