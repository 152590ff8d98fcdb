"""``flyte deploy`` for real: what arrives is what was meant, it runs, and it serves its callers."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from flyte import remote

from deployment import app_env
from local_flyte import PEOPLE, LocalFlyte

from .support import ROOT, needs

APP = app_env.name


def copy_of_project(folder: Path) -> Path:
    """Copy the project as git would see it, so that a test may change it."""
    target = folder / "project"
    git = ["git", f"--git-dir={folder / 'git'}", f"--work-tree={ROOT}"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    listing = [*git, "ls-files", "-z", "--others", "--exclude-standard"]
    files = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True).stdout.decode()
    for name in files.rstrip("\0").split("\0"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
    return target


def append(file: Path, line: str) -> None:
    """Add a line to a file."""
    with file.open("a", encoding="utf-8") as opened:
        opened.write(f"\n{line}\n")


def flyte(*arguments: str | Path, config: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the ``flyte`` command."""
    return subprocess.run(
        [Path(sys.executable).with_name("flyte"), "--config", config, *arguments],
        cwd=cwd,
        # Without this, an editable install of the project would be found before the copy.
        env={
            **os.environ,
            "PYTHONPATH": str(cwd),
            "HOME": str(cwd.parent),
            "COLUMNS": "200",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def get(url: str, person: str) -> Any:
    """Read JSON from the deployed app as a person."""
    headers = {"Authorization": f"Bearer {PEOPLE[person].token}"}
    response = httpx.get(url, headers=headers, trust_env=False, timeout=60)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project that is deployed; tests may change it and deploy it again."""
    return copy_of_project(tmp_path_factory.mktemp("deployment"))


@pytest.fixture(scope="module")
def deployed(local_flyte: LocalFlyte, project: Path, app_url: str) -> remote.App:
    """The app as Flyte shows it, once it runs."""
    config = local_flyte.config_file("alice")
    result = flyte("deploy", "deployment.py", "app_env", config=config, cwd=project)
    assert result.returncode == 0, result.stdout + result.stderr
    local_flyte.wait_app(APP)
    return shown()


def shown() -> remote.App:
    """Ask Flyte about the deployed app, with the SDK that the app under test has connected."""
    with remote.auth_metadata(("authorization", f"Bearer {PEOPLE['alice'].token}")):
        app: remote.App = remote.App.get(APP)
        return app


@pytest.mark.deploys
def test_what_is_deployed_is_what_was_asked_for(deployed: remote.App) -> None:
    spec = deployed.pb2.spec
    container = spec.container
    assert container.command[0] == "fserve"
    assert "deployment:app_env" in container.command
    assert [port.container_port for port in container.ports] == [8080]
    assert [link.path for link in spec.links] == ["/docs"]
    replicas = spec.autoscaling.replicas
    assert (replicas.min, replicas.max) == app_env.scaling.replicas
    assert spec.security_context.allow_anonymous is not app_env.requires_auth
    variables = {variable.key: variable.value for variable in container.env}
    assert variables.items() >= (app_env.env_vars or {}).items()


@pytest.mark.deploys
@needs("/")
def test_the_deployed_app_has_the_files_of_its_page(
    local_flyte: LocalFlyte, deployed: remote.App
) -> None:
    url = local_flyte.wait_app(APP)
    page = httpx.get(url, trust_env=False, timeout=60)
    # Without a page, the documentation is shown.
    assert page.status_code == (200 if (ROOT / "app" / "page").is_dir() else 307)
    for path in re.findall(r'(?:src|href)="(page/[^"]+)"', page.text):
        assert httpx.get(f"{url}/{path}", trust_env=False, timeout=60).status_code == 200, path


@pytest.mark.deploys
@needs("/me")
def test_the_deployed_app_serves_its_callers_and_then_a_redeployed_change(
    local_flyte: LocalFlyte, project: Path, deployed: remote.App
) -> None:
    url = local_flyte.app_url(APP)
    for person in ("alice", "bob"):
        assert get(f"{url}/me", person)["subject"] == PEOPLE[person].subject
    assert httpx.get(f"{url}/me", trust_env=False, timeout=60).status_code == 401

    append(project / "app" / "main.py", 'app.version = "changed by a test"')
    config = local_flyte.config_file("alice")
    again = flyte("deploy", "deployment.py", "app_env", config=config, cwd=project)
    assert again.returncode == 0, again.stdout + again.stderr
    url = local_flyte.wait_app(APP)
    assert shown().pb2.metadata.revision == deployed.pb2.metadata.revision + 1
    assert get(f"{url}/openapi.json", "bob")["info"]["version"] == "changed by a test"


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("app/main.py", "import no_such_module", "No module named 'no_such_module'"),
        ("deployment.py", 'app_env.include = ("static/page.html",)', "static/page.html"),
    ],
    ids=["broken import", "missing file"],
)
def test_a_deployment_that_would_not_run_fails_and_says_why(
    file: str, line: str, message: str, tmp_path: Path
) -> None:
    project, config = copy_of_project(tmp_path), tmp_path / "flyte.yaml"
    config.write_text("admin: {endpoint: 'dns:///127.0.0.1:1'}\n")  # which a dry run does not call
    append(project / file, line)
    result = flyte("deploy", "--dry-run", "deployment.py", "app_env", config=config, cwd=project)
    assert result.returncode != 0, result.stdout
    assert message in result.stdout + result.stderr
