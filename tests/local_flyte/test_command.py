"""Tests of ``python -m local_flyte`` in a generated project."""

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from flyteidl2.task.task_service_pb2 import ListTasksRequest

from local_flyte import LocalFlyte
from local_flyte.__main__ import PORT, _listen
from local_flyte.clients import RemoteFlyte
from local_flyte.testing import wait_until
from passthrough import load_settings
from passthrough.settings import Settings

from ..baking import Baker, edit, run
from ..conformance.client import Flyte, Person
from ..long_running import READY, Running, curl_lines, running

JOBS = """
import flyte

env = flyte.TaskEnvironment("jobs")


@env.task
async def double(x: int) -> int:
    return 2 * x
"""
HERE = [sys.executable, "-m", "local_flyte"]
pytestmark = pytest.mark.slow


@contextmanager
def started(project: Path, *options: str, **environment: str) -> Iterator[tuple[Running, str]]:
    """Start the command, and yield it with the output up to the end of the banner."""
    with ExitStack() as stack:
        with suppress(OSError):  # another process may already use the port
            stack.enter_context(socket.create_server(("127.0.0.1", PORT)))
        variables = {"PWD": str(project), **environment}
        process = stack.enter_context(running([*HERE, *options], project, **variables))
        yield process, process.wait_until_ready()


def refusal(project: Path, *options: str) -> str:
    """Start the command, which must fail, and return standard error."""
    command = [*HERE, *options]
    ended = subprocess.run(
        command, cwd=project, capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 1
    return ended.stderr


def link_to(printed: str) -> httpx.URL:
    """Return the first printed URL, where a user is chosen."""
    return httpx.URL(printed.partition("\nOpen ")[2].split()[0])


def check_ends(command: Running, number: signal.Signals) -> None:
    """Send a signal, and check that the command ends cleanly with all child processes."""
    command.process.send_signal(number)
    assert command.process.wait(300) == 0, command.printed()
    assert "Traceback" not in command.printed()
    assert command.left_over() == []


def flyte(words: list[str], project: Path, home: Path) -> str:
    """Run a printed ``flyte`` command in the project folder, and return the output."""
    environment = {"HOME": str(home), "COLUMNS": "300", "TERM": "xterm", "DO_NOT_TRACK": "1"}
    return run([str(project / words[0]), *words[1:]], project, **environment)


def health(client: httpx.Client, url: str, status: int, line: str = "") -> bool:
    with suppress(httpx.TransportError):  # a restart can end a connection
        response = client.get(f"{url}/health")
        return response.status_code == status and line in response.text
    return False


def flyte_lines(printed: str) -> list[list[str]]:
    return list(map(shlex.split, re.findall(r"^ +(\S*flyte -c .*)$", printed, re.MULTILINE)))


@pytest.fixture(scope="module")
def project(baker: Baker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with headers for API keys, and with a .env file."""
    project = baker(tmp_path_factory.mktemp("command"), credential_headers="X-Api-Key, X-Tenant")
    settings = "ACCESS_LOG=true\nLOG_FORMAT=json\nFLYTE_ENDPOINT=dns:///flyte.example.com\n"
    (project / ".env").write_text(settings)
    return project


@pytest.fixture(scope="module")
def command(project: Path) -> Iterator[Running]:
    with started(project, FLYTE_ADMIN_ENDPOINT="dns:///127.0.0.1:9") as (command, _):
        yield command
        check_ends(command, signal.SIGINT)


@pytest.fixture(scope="module")
def printed(command: Running) -> str:
    return command.wait_until_ready()


@pytest.fixture
def browser() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=60) as client:
        yield client


def test_dev_server_reports_env_file_and_occupied_port(project: Path, printed: str) -> None:
    assert "Using the variables in .env.\n" in printed
    assert "Not used by make dev: FLYTE_ADMIN_ENDPOINT, FLYTE_ENDPOINT\n" in printed
    run(["git", "init", "--quiet"], project)
    assert run(["git", "check-ignore", ".env"], project) == ".env\n"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RuntimeError, match=f"port {port}: Address already in use. Choose ano"):
            _listen(port)


def test_printed_curl_line_has_api_key(command: Running, printed: str) -> None:
    """test_demo.py tests the lines of the default project."""
    lines = curl_lines(printed)
    (line,) = (words for words in lines if words[2].startswith("X-Api-Key: "))
    assert "alice@example.com" in run([*line, "--silent", "--noproxy", "*"], Path.cwd())
    wait_until(lambda: '"route": "/me"' in command.printed())


def test_printed_links_sign_users_in(printed: str, browser: httpx.Client) -> None:
    """The first link leads to a list of users."""
    links = dict(re.findall(r"^ +(\w+) +(http://\S+/sign-in/\S+)", printed, re.MULTILINE))
    assert list(links) == ["alice", "bob", "victor", "carol"]
    tasks = httpx.URL(links["alice"]).join("/tasks")
    for name, status in (("bob", 200), ("carol", 403)):
        assert browser.get(links[name]).status_code == 303
        assert browser.get(tasks).status_code == status
    browser.cookies.clear()
    assert browser.get(tasks).json()["sign_in"] == "/sign-in"
    first = link_to(printed)
    assert browser.get(first.copy_with(query=None)).status_code == 403
    assert browser.get(first).is_success
    assert printed.rindex(str(first)) > printed.rindex("curl")  # repeated at the end


def test_printed_deploy_command_excludes_env_and_local_flyte(
    printed: str, project: Path, tmp_path: Path
) -> None:
    *_, deploy = flyte_lines(printed)
    assert re.search(r"https://127\.0\.0\.1:\d+", flyte(deploy, project, tmp_path))
    names = set[str]()
    for bundle in Path(deploy[2]).parent.glob("data/uploads/**/*.tar.gz"):
        with tarfile.open(bundle) as files:
            names |= {*files.getnames()}
    assert "app/main.py" in names
    for name in (".env", "local_flyte"):
        assert (project / name).exists()
        assert not any(Path(file).is_relative_to(name) for file in names)


def test_changed_files_are_reloaded_and_errors_shown(
    command: Running, printed: str, project: Path, browser: httpx.Client
) -> None:
    """This test is the last one with this command, because the app cannot start afterwards."""
    app = project / "app"
    url = str(link_to(printed).join("/")).rstrip("/")
    text = (app / "routers/streams.py").read_text()
    (app / "routers/streams.py").write_text("a mistake")
    wait_until(lambda: health(browser, url, 503, "SyntaxError: invalid syntax"))
    wait_until(lambda: "\napp/routers/streams.py, line 1: SyntaxError: " in command.printed())

    edit(app / "tasks.py", "async def count(", "async def count_on(")
    edit(app / "main.py", 'version="0.1.0",', 'version="0.1.0", lifespan=lambda app: int(app),')
    (app / "routers/streams.py").write_text(text)
    wait_until(lambda: "Registered the tasks again." in command.printed())
    config = Path(flyte_lines(printed)[0][2])
    there = Flyte(config, "union", {})
    alice = Person(there, config.with_name("alice.token").read_text().strip())
    tasks = alice.tasks.list_tasks(ListTasksRequest(project_id=there.scope)).tasks
    assert "my-flyte-app-tasks.count_on" in [task.task_id.name for task in tasks]
    wait_until(lambda: health(browser, url, 503, "TypeError: int() argument must be"))
    message = re.compile(r"^app/main.py, line \d+: TypeError: int\(\) argument", re.MULTILINE)
    wait_until(lambda: message.search(command.printed()))


@pytest.mark.weekly
def test_file_with_tasks_runs_without_app(default_project: Path, tmp_path: Path) -> None:
    (file := tmp_path / "jobs.py").write_text(JOBS)
    with started(tmp_path, file.name, PYTHONPATH=str(default_project)) as (command, printed):
        people = {Path(words[2]).stem: words[:3] for words in flyte_lines(printed)}
        assert list(people) == ["alice", "bob", "victor", "carol"]
        double = ["run", "--follow", "deployed-task", "jobs.double", "--x", "21"]
        assert "completed for action a0" in flyte([*people["bob"], *double], tmp_path, tmp_path)
        file.write_text(JOBS.replace("double", "twice"))
        wait_until(lambda: "Registered the tasks again." in command.printed())
        with_nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        check_ends(command, signal.SIGINT if with_nohup else signal.SIGHUP)


def test_app_uses_flyte_and_user_of_config(
    printed: str, default_project: Path, tmp_path: Path, browser: httpx.Client
) -> None:
    """The config is for the local Flyte server of another app."""
    (tmp_path / "tmp").mkdir()
    options = ["--flyte", flyte_lines(printed)[0][2]]
    with started(default_project, *options, TMPDIR=str(tmp_path / "tmp")) as (command, banner):
        assert "Flyte      dns:///127.0.0.1:" in banner
        to_open = link_to(banner)
        me = to_open.join("/me")
        assert browser.get(me).status_code == 401
        (to_sign_in,) = re.findall(r'href="(/sign-in/you\S+)"', browser.get(to_open).text)
        browser.get(me.join(to_sign_in))
        assert browser.get(me).json()["email"] == "alice@example.com"
        (token,) = (tmp_path / "tmp").glob("*/token")
        assert token.stat().st_mode & 0o777 == 0o600
        check_ends(command, signal.SIGTERM)
        assert not token.exists()
        log = command.printed().partition(READY)[2]
        assert "GET" not in log  # no access log, so that the banner stays visible
        assert "secret=" not in log


def test_unusable_flyte_config_is_refused_with_fix(local_flyte: LocalFlyte, tmp_path: Path) -> None:
    """Without TLS, all callers are anonymous."""
    with pytest.raises(RuntimeError, match="flyte create config --endpoint dns:/"):
        RemoteFlyte(Path("dns:///flyte.example.com"))
    config = local_flyte.config_file().read_text()
    (without_token := tmp_path / "1.yaml").write_text(config.replace("alice.token", "no.token"))
    with pytest.raises(RuntimeError, match="There is no token for 127"):
        RemoteFlyte(without_token).token()
    admin = {"endpoint": "dns:///127.0.0.1:1", "insecure": True}
    (devbox := tmp_path / "2.yaml").write_text(json.dumps({"admin": admin}))
    assert not RemoteFlyte(devbox).has_authentication
    settings = load_settings(Settings, RemoteFlyte(devbox).environment())
    assert (settings.flyte_endpoint, settings.allow_anonymous) == ("http://127.0.0.1:1", True)


def test_misspelt_setting_is_reported_once(default_project: Path, tmp_path: Path) -> None:
    here = shutil.copytree(default_project, tmp_path / "here", symlinks=True)
    (here / ".env").write_text("TRUSTED_ORIGIN=https://s3cret.example\n")
    message = refusal(here)
    assert message == "TRUSTED_ORIGIN is not a setting of the app; did you mean TRUSTED_ORIGINS?\n"
