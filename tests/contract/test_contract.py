"""What the app's OpenAPI document promises, checked by tools that know nothing else of the app."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from tests.baking import clean_environment, run

BIN = Path(sys.executable).parent
SERVE = Path(__file__).parent / "serve.py"

# No schema can say which tokens have been given out, or which inputs the task in the path takes.
SCHEMATHESIS = """
seed = 1
color = false
continue-on-failure = true
suppress-health-check = ["all"]
warnings = false
generation.max-examples = 10
generation.database = "none"
request-timeout = 120
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 410, 422, 429]
"""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Served:
    """The generated project, up on a local Flyte."""

    url: str
    tokens: dict[str, str]

    def header(self, name: str) -> list[str]:
        """Return the options with which schemathesis calls as a person, or as nobody."""
        return ["--header", f"Authorization: Bearer {self.tokens[name]}"] if name else []


@pytest.fixture(scope="session")
def served(default_project: Path) -> Iterator[Served]:
    with subprocess.Popen(
        [sys.executable, SERVE],
        cwd=default_project,
        env=clean_environment(PYTHONPATH=str(default_project)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield Served(**json.loads(line))
        printed = process.communicate()[1]
    assert "Traceback" not in printed


@pytest.fixture(scope="session")
def document(served: Served) -> Any:
    return httpx.get(f"{served.url}/openapi.json", trust_env=False, timeout=60).json()


def test_the_document_is_valid_for_the_version_that_it_names(document: Any) -> None:
    validate(document)


def test_every_reference_leads_somewhere(document: Any) -> None:
    references = re.findall(r'"\$ref": "([^"]*)"', json.dumps(document))
    assert references
    for reference in references:
        target = document
        for key in reference.removeprefix("#/").split("/"):
            target = target[key]


@pytest.mark.parametrize("caller", ["alice", "carol", ""], ids=["signed in", "no rights", "nobody"])
def test_schemathesis_has_nothing_to_complain_of(
    served: Served, caller: str, tmp_path: Path
) -> None:
    # The whole of its checks: statuses, media types, headers, schemas, 405 with Allow, no 5xx.
    (tmp_path / "schemathesis.toml").write_text(SCHEMATHESIS, "utf-8")
    command: list[str | Path] = [
        BIN / "schemathesis",
        "run",
        f"{served.url}/openapi.json",
        *served.header(caller),
    ]
    said = run(command, tmp_path)
    summary = said[said.index("SUMMARY") :]
    print(summary)
    # What gets no answer fails no check.
    assert "errored" not in summary


def test_a_generated_client_runs_a_task_and_reads_what_came_out(
    served: Served, tmp_path: Path
) -> None:
    client = tmp_path / "client"
    generate: list[str | Path] = [
        BIN / "openapi-python-client",
        "generate",
        "--url",
        f"{served.url}/openapi.json",
    ]
    generate += ["--meta", "none", "--output-path", client, "--fail-on-warning"]
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"  # it formats what it writes with ruff
    assert "Warning" not in run(generate, tmp_path, PATH=path)
    said = run(
        [sys.executable, Path(__file__).parent / "use_client.py"],
        tmp_path,
        PYTHONPATH=str(tmp_path),
        APP_URL=served.url,
        APP_TOKEN=served.tokens["alice"],
    )
    assert said == "Hello, Ada.\n"
