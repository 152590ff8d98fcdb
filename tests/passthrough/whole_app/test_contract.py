"""The OpenAPI document, checked by a tool that reads nothing else."""

from pathlib import Path

import pytest

from app.routers import conditions, files, me, runs, streams, tasks
from local_flyte.testing import bearer

from ...baking import BIN, run
from ..support import router_of

router = router_of(conditions, files, me, runs, streams, tasks)
# A schema cannot describe which inputs a task takes. A watch of actions takes two seconds.
CONFIG = """
seed = 1
color = false
continue-on-failure = true
suppress-health-check = ["all"]
warnings = false
generation.max-examples = 4
generation.database = "none"
request-timeout = 120
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 422, 429]
operations = [{include-path = "/runs/{name}/actions/events", enabled = false}]
parameters."path.name" = {dictionary = "existing", probability = 0.5}
"""


@pytest.mark.weekly
@pytest.mark.parametrize("person", ["alice", None])
def test_app_conforms_to_its_openapi_document(
    url: str, greeting: str, tmp_path: Path, person: str | None
) -> None:
    config = CONFIG + f"[dictionaries.existing]\nvalues = ['{greeting}', 'tests.greet']\n"
    config += f"[headers]\nAuthorization = '{bearer(person)}'\n" if person else ""
    (tmp_path / "schemathesis.toml").write_text(config, "utf-8")
    tool = f"tool run --from schemathesis>=4.32,<5 schemathesis run {url}/openapi.json"
    output = run([BIN / "uv", *tool.split()], tmp_path)  # fails with a violation or a 500
    assert "errored" not in output[output.index("SUMMARY") :]  # requests without a response
