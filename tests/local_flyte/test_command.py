"""``python -m local_flyte``, as people start it in a generated project."""

import json
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import pytest

from local_flyte import sign_in
from local_flyte.__main__ import PORT
from local_flyte.testing import wait_until

from ..baking import Baker, run
from ..long_running import READY, Running, curl_lines, running
from . import other_user

pytestmark = pytest.mark.slow

SECOND = """
import flyte

from .image import image

more_env = flyte.TaskEnvironment(name="my-flyte-app-more", image=image)


@more_env.task
async def nap() -> None:
    pass
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """Return a Python with a project's dependencies."""
    return Path(sys.executable)


@contextmanager
def started(
    python: Path, project: Path, *options: str, **environment: str
) -> Iterator[tuple[Running, str]]:
    """Start the command; yield it and all it has printed until it said how to stop it."""
    with ExitStack() as stack:
        with suppress(OSError):  # the default is in use by somebody else, which is not an error
            stack.enter_context(socket.create_server(("127.0.0.1", PORT)))
        command = [str(python), "-m", "local_flyte", *options]
        variables = {"PWD": str(project), **environment}
        process = stack.enter_context(running(command, project, **variables))
        yield process, process.wait_until_ready()


def check_ends(command: Running, number: signal.Signals) -> None:
    """Stop it, as Ctrl-C or a supervisor would, and check that it and its children end cleanly."""
    command.process.send_signal(number)
    assert command.process.wait(300) == 0, command.printed()
    assert "Traceback" not in command.printed()
    assert command.left_over() == []


def flyte(words: list[str], project: Path, home: Path) -> str:
    """Run a printed ``flyte`` command in the project's folder, and return what it prints."""
    environment = {"HOME": str(home), "COLUMNS": "300", "TERM": "xterm", "DO_NOT_TRACK": "1"}
    return run([str(project / words[0]), *words[1:]], project, **environment)


def answers(client: httpx.Client, url: str) -> bool:
    """Tell whether anything answers."""
    try:
        return client.get(url).is_success
    except httpx.TransportError:
        return False


def paste(line: list[str]) -> str:
    """Run a printed ``curl`` line, and return what it prints."""
    quiet = ["--silent", "--show-error", "--noproxy", "*"]
    return subprocess.run([*line, *quiet], capture_output=True, text=True, check=True).stdout


def flyte_lines(printed: str) -> list[list[str]]:
    """Return the printed ``flyte`` commands, each as its words."""
    return [
        shlex.split(line) for line in re.findall(r"^ +(\S*flyte -c .*)$", printed, re.MULTILINE)
    ]


@pytest.fixture(scope="module")
def project(default_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the default project, in which runs leave bytecode."""
    project = shutil.copytree(default_project, tmp_path_factory.mktemp("command") / "project")
    (project / ".env").write_text("UNUSED=1\n")
    return project


@pytest.fixture(scope="module")
def command(python: Path, project: Path) -> Iterator[Running]:
    """Start it where the address of another Flyte is exported."""
    elsewhere = dict.fromkeys(("FLYTE_ENDPOINT", "FLYTE_ADMIN_ENDPOINT"), "dns:///127.0.0.1:9")
    with started(python, project, "--no-reload", **elsewhere) as (command, _):
        yield command
        check_ends(command, signal.SIGTERM)
        log = command.printed().partition(READY)[2]
        assert "GET" not in log  # what was printed stays in sight
        assert "secret=" not in log


@pytest.fixture(scope="module")
def printed(command: Running) -> str:
    """What it prints until it says how to stop it."""
    return command.wait_until_ready()


@pytest.fixture
def browser() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=60) as client:
        yield client


def test_an_exported_address_and_a_port_in_use_are_told(printed: str) -> None:
    """The printed ``curl`` lines are tried in test_demo.py."""
    assert re.search(r"^Port 8080 is in use, so .* --port <number>$", printed, re.MULTILINE)
    assert "Using the variables in .env.\n" in printed
    assert "Not used with the local Flyte" in printed
    assert "FLYTE_ADMIN_ENDPOINT, FLYTE_ENDPOINT" in printed


def test_a_port_that_is_asked_for_is_the_one_or_an_error(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for number, code, said in (
            (port, 1, f"Cannot listen on port {port}: Address already in use. Choose another"),
            (65_536, 2, "a port is a number from 0 to 65535"),
        ):
            command = [sys.executable, "-m", "local_flyte", "--port", str(number)]
            ended = subprocess.run(
                command, cwd=project, capture_output=True, text=True, check=False
            )
            assert ended.returncode == code
            assert said in ended.stderr


def test_the_printed_links_sign_people_in(printed: str, browser: httpx.Client) -> None:
    links = dict(re.findall(r"^ +(\w+) +(http://\S+/sign-in/\S+)", printed, re.MULTILINE))
    assert list(links) == ["alice", "bob", "victor", "carol"]
    me = httpx.URL(links["alice"]).join("/me")
    for name, link in links.items():
        assert browser.get(link).status_code == 303
        assert browser.get(me).json()["subject"] == f"{name}-subject"
    browser.cookies.clear()
    refusal = browser.get(me, headers={"Cookie": "flyte_at=alice-of-an-earlier-start"})
    assert refusal.status_code == 401
    assert refusal.json()["sign_in"] == "/sign-in"
    assert browser.get(me, headers={"Host": "evil.example"}).status_code == 400


def test_the_first_printed_link_shows_a_choice_of_people(
    printed: str, browser: httpx.Client
) -> None:
    first = printed.partition("\nOpen ")[2].split()[0]
    assert "/sign-in?secret=" in first
    assert browser.get(first.partition("?")[0]).is_success == sign_in.is_private()
    assert printed.rindex(first) > printed.rindex("curl")  # again, after everything else
    page = browser.get(first)
    assert page.status_code == 200
    (to_carol,) = re.findall(r'href="(/sign-in/carol\S+)"', page.text)
    assert browser.get(page.url.join(to_carol)).status_code == 303
    assert browser.get(page.url.join("/me")).json()["subject"] == "carol-subject"


def test_flyte_commands_work_as_printed_and_what_is_deployed_has_no_such_sign_in(
    command: Running, printed: str, project: Path, tmp_path: Path
) -> None:
    *_, deploy = commands = flyte_lines(printed)
    for words in commands:
        said = flyte(words, project, tmp_path)
    home = Path(deploy[2]).parent
    own = set(re.findall(r"^Flyte +dns:///([^,]+)", printed, re.MULTILINE))
    (host,) = set(re.findall(r"https://(127\.0\.0\.1:\d+)", said)) - own
    links = {*re.findall(r"http://[^/]+(/sign-in(?:/alice)?\?\S+)", printed)}
    assert len(links) == 2
    trusted = ssl.create_default_context(cafile=str(home / "ca.pem"))
    with httpx.Client(
        base_url=f"https://{host}", verify=trusted, trust_env=False, timeout=60
    ) as browser:
        wait_until(lambda: answers(browser, "/health"))
        for path in (*links, "/sign-in", "/sign-out"):
            response = browser.get(path)
            assert response.status_code in {401, 404}
            assert "set-cookie" not in response.headers
            assert "sign_in" not in response.json()
    if other_user.is_available():  # Flyte, its uploads, the app, and a deployed app's two ports
        other_user.check_refused(command.process.pid, at_least=5)
    (unpacked,) = home.glob("work/apps/*/*/app")
    for name in (".env", "local_flyte"):
        assert (project / name).exists()
        assert not (unpacked.parent / name).exists()


def test_settings_are_read_from_a_file_which_is_not_committed(
    python: Path, baker: Baker, tmp_path: Path
) -> None:
    """In a project without sample tasks, with a header for API keys."""
    project = baker(tmp_path, credential_headers="X-Api-Key, X-Tenant")
    (project / "app" / "tasks.py").unlink()
    deployment = project / "deployment.py"
    text = deployment.read_text().replace("    depends_on=[task_env],\n", "")
    deployment.write_text(text.replace("from app.tasks import task_env\n", ""))
    example = (project / ".env.example").read_text()
    assert "\nACCESS_LOG=text\n" in example
    settings = example.replace("=text", "=json") + "FLYTE_ENDPOINT=dns:///flyte.example.com\n"
    (project / ".env").write_text(settings)
    with started(python, project, "--no-reload") as (command, printed):
        assert "Not used with the local Flyte: FLYTE_ENDPOINT\n" in printed
        assert "names no tasks in depends_on" in printed
        assert "/runs" not in printed
        (line,) = (words for words in curl_lines(printed) if words[2].startswith("X-Api-Key: "))
        assert json.loads(paste(line))["subject"] == "alice-subject"
        wait_until(lambda: '"route": "/me"' in command.printed())
        with_nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        # As when the terminal is closed.
        check_ends(command, signal.SIGINT if with_nohup else signal.SIGHUP)
    run(["git", "init", "--quiet"], project)
    run(["git", "add", "--all"], project)
    tracked = run(["git", "ls-files"], project).split()
    assert ".env.example" in tracked
    assert ".env" not in tracked


def test_all_tasks_are_registered_again_when_a_file_changes_and_an_app_that_does_not_start_says_why(
    python: Path, project: Path, tmp_path: Path, browser: httpx.Client
) -> None:
    root = Path(shutil.copytree(project, tmp_path / "project"))
    more, deployment = root / "app" / "more.py", root / "deployment.py"
    more.write_text(SECOND)
    text = deployment.read_text().replace("[task_env]", "[task_env, more_env]")
    deployment.write_text(
        text.replace("from app.routers", "from app.more import more_env\nfrom app.routers")
    )
    (root / "app" / "routers" / "me.py").unlink()
    main = root / "app" / "main.py"
    main.write_text(main.read_text().replace("    me,\n", "").replace(" me,", ""))
    with started(python, root) as (command, printed):
        assert {httpx.URL(line[-1]).path for line in curl_lines(printed)} == {
            "/projects",  # for the one that is gone
            "/tasks/my-flyte-app-tasks.greet/runs",
        }
        more.write_text("a mistake")
        wait_until(lambda: "\napp/more.py, line 1: SyntaxError: " in command.printed())
        more.write_text(SECOND.replace("nap", "siesta"))
        wait_until(lambda: "Registered the tasks again." in command.printed())
        said = flyte([*flyte_lines(printed)[0][:3], "get", "task"], root, tmp_path)
        assert "my-flyte-app-tasks.greet" in said
        assert "my-flyte-app-more.siesta" in said

        url = printed.partition("\nOpen ")[2].strip().partition("/sign-in?")[0]
        correct = main.read_text()

        def health(status: int, line: str) -> bool:
            with suppress(httpx.TransportError):  # a restart can end a connection
                answer = browser.get(f"{url}/health")
                return answer.status_code == status and line in answer.text
            return False

        def is_printed(line: str) -> bool:
            return line in command.printed()

        for text, line in (
            ("mistake = 1 / 0", "ZeroDivisionError: division by zero"),
            (correct.replace("await connect(", "int("), "TypeError: int() argument must be"),
        ):
            main.write_text(text)
            wait_until(partial(health, 503, line))
            wait_until(partial(is_printed, f": {line}"))  # the server answers before
        main.write_text(correct)
        wait_until(partial(health, 200, ""))
        command.process.send_signal(signal.SIGINT)
        assert command.process.wait(300) == 0
        assert "Traceback" not in command.printed()
        (place,) = re.findall(r"^(.*)ZeroDivisionError: ", command.printed(), re.MULTILINE)
        assert place == "app/main.py, line 1: "


def test_flyte_alone_works_with_the_cli_and_lists_its_people(
    python: Path, project: Path, tmp_path: Path
) -> None:
    with started(python, project, "--flyte-only") as (command, printed):
        (words,) = flyte_lines(printed)
        flyte(words, project, tmp_path)
        people = re.findall(r"^  (\w+) +\S+  \((.*)\)$", printed, re.MULTILINE)
        assert [name for name, _ in people] == ["alice", "bob", "victor", "carol", "expired"]
        assert people[-1][1].startswith("is refused")
        check_ends(command, signal.SIGTERM)
