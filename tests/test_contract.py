"""The promises of the app's OpenAPI document, checked by tools that only read that document."""

from pathlib import Path

import httpx
import pytest
from openapi_spec_validator import validate

from local_flyte import PEOPLE, LocalFlyte

from .baking import BIN, run
from .served import serving_app

# A schema can't describe which tokens are valid, which inputs the task in the path takes, or that
# an empty body is an empty file. The stream of a run's actions takes two seconds each time.
SCHEMATHESIS = """
seed = 1
color = false
continue-on-failure = true
suppress-health-check = ["all"]
warnings = false
generation.max-examples = 4
generation.database = "none"
request-timeout = 120
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 410, 422, 429]
[parameters."path.name"]
dictionary = "existing"
probability = 0.5
[[operations]]
include-path = "/files"
checks.negative_data_rejection.enabled = false
[[operations]]
include-path = "/runs/{name}/actions/events"
enabled = false
"""

pytestmark = [pytest.mark.slow, pytest.mark.weekly]


def test_the_document_is_valid_and_the_app_keeps_it(default_project: Path, tmp_path: Path) -> None:
    with LocalFlyte() as flyte:
        flyte.deploy(Path(__file__).parent / "passthrough", "flyte_tasks.py", "env")
        with serving_app(default_project, tmp_path / "log", flyte) as app:
            document = f"{app.url}/openapi.json"
            validate(httpx.get(document, trust_env=False, timeout=60).json())
            alice = {"Authorization": f"Bearer {PEOPLE['alice'].token}"}
            runs, inputs = f"{app.url}/tasks/tests.greet/runs", {"inputs": {"name": "Ada"}}
            made = httpx.post(runs, json=inputs, headers=alice, trust_env=False, timeout=60).json()
            values = f"[dictionaries.existing]\nvalues = ['{made['name']}', 'tests.greet']\n"
            headers = f"[headers]\nAuthorization = '{alice['Authorization']}'\n"
            config = SCHEMATHESIS + values + headers
            (tmp_path / "schemathesis.toml").write_text(config, "utf-8")
            # All checks: statuses, media types, headers, schemas, 405 with Allow, no 5xx.
            said = run([BIN / "schemathesis", "run", document], tmp_path)
    assert "errored" not in said[said.index("SUMMARY") :]  # a request without an answer passes
