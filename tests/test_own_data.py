"""Mistakes in an app with its own database, which the guarantee tests find."""

import re
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from template import ROOT

from . import own_data
from .baking import BIN, edit, ended

pytestmark = pytest.mark.slow

GUARANTEES = "tests/test_guarantees.py"
PATHS = {
    (method, route.path)
    for route in own_data.router.routes
    if isinstance(route, APIRoute)
    for method in route.methods or ()
}
RIGHT = [path for _, path in PATHS if not path.startswith("/wrong/")]
WRONG = {" ".join(one) for one in PATHS if one[1].startswith("/wrong/")}
FUNCTIONS = """

def a_note(client: httpx.Client) -> int:
    note = {"text": f"secret {secrets.token_hex(4)}"}
    return int(client.post("/notes", json=note).raise_for_status().json()["id"])


def a_name(client: httpx.Client) -> str:
    name = secrets.token_hex(4)
    client.post("/notes", json={"text": "t", "name": name}).raise_for_status()
    return name


def my_subject(client: httpx.Client) -> str:
    a_note(client)
    return str(client.get("/me").json()["subject"])


def a_role(client: httpx.Client) -> None:
    client.post("/sound/staff", params={"code": "open sesame"}).raise_for_status()


TEXT = {"json": {"text": "changed"}}
"""
EXAMPLES = """
    ("POST", "/notes"): {"json": {"text": "new"}},
    ("GET", "/notes"): {"before": a_note},
    ("GET", "/notes/{note}"): {"path": {"note": a_note}},
    ("PATCH", "/notes/{note}"): {"path": {"note": a_note}, **TEXT},
    ("POST", "/notes/{note}/comments"): {"path": {"note": a_note}, **TEXT},
    ("DELETE", "/notes/{note}"): {"path": {"note": a_note}},
    ("PUT", "/sound/names/{name}"): {"path": {"name": a_name}, **TEXT},
    ("POST", "/sound/staff"): {"params": {"code": "open sesame"}},
    ("GET", "/sound/staff/notes"): {"before": a_role, "only": "staff"},
    ("GET", "/sound/queue"): {"before": a_note, "shared": {"queue_length": "shown to all"}},
    ("POST", "/sound/handles"): {
        "params": {"name": lambda _: secrets.token_hex(4)}, "shared": "names are unique"
    },
    ("GET", "/wrong/notes/{note}"): {"path": {"note": a_note}},
    ("GET", "/wrong/hidden/{note}"): {"path": {"note": a_note}},
    ("GET", "/wrong/notes/{note}/stream"): {"path": {"note": a_note}},
    ("PATCH", "/wrong/notes/{note}"): {"path": {"note": a_note}, **TEXT},
    ("DELETE", "/wrong/notes/{note}"): {"path": {"note": a_note}},
    ("POST", "/wrong/notes/{note}/comments"): {"path": {"note": a_note}, **TEXT},
    ("GET", "/wrong/by-owner"): {"params": {"owner": my_subject}},
    ("POST", "/wrong/named"): {"json": {"name": a_name, "text": "changed"}},
    ("GET", "/wrong/staff/notes"): {"before": a_role, "only": "staff"},
    ("POST", "/wrong/staff/{subject}"): {"before": a_role, "only": "staff"},
    ("GET", "/wrong/list"): {"before": a_note},
    ("GET", "/wrong/cached-list"): {"before": a_note},
    ("GET", "/wrong/cached-count"): {"before": a_note},
    ("GET", "/wrong/last"): {"before": a_note},
"""
EMPTY_DATABASE = '''

@pytest.fixture(scope="session")
def process_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], dict[str, str]]:
    """Return a function that returns the address of a new database."""
    return lambda: {"NOTES": str(tmp_path_factory.mktemp("notes") / "notes.db")}


@pytest.fixture(scope="session", autouse=True)
def database(process_environment: Callable[[], dict[str, str]]) -> None:
    os.environ.update(process_environment())
'''


@pytest.fixture
def planted(project: Path) -> Path:
    """A project with the router of ``own_data.py``."""
    text = (ROOT / "tests/own_data.py").read_text("utf-8")
    (project / "app/routers/own_data.py").write_text(text, "utf-8")
    edit(project / "app/main.py", "    me,\n", "    own_data,\n    me,\n")
    edit(project / GUARANTEES, "# noqa: F403 - the tests\n", f"# noqa: F403\n{FUNCTIONS}")
    edit(project / GUARANTEES, "from typing", "import secrets\nimport httpx\nfrom typing")
    edit(project / GUARANTEES, '    ("POST", "/files")', EXAMPLES + '    ("POST", "/files")')
    conftest = project / "tests/conftest.py"
    edit(conftest, "import Iterator\n", "import Callable, Iterator\nimport os\n")
    conftest.write_text(conftest.read_text("utf-8") + EMPTY_DATABASE, "utf-8")
    return project


def test_guarantees_find_foreign_objects_in_own_database(planted: Path) -> None:
    some = "is_executed or another_endpoint or new_user or second_user"
    options = ["-q", "--tb=short", "--show-capture=no", "-k", some, GUARANTEES]
    output = ended([BIN / "python", "-m", "pytest", *options], planted).stdout
    failed = {*re.findall(r"^FAILED \S+::test_\w+\[(\w+ /\S+)\]", output, re.MULTILINE)}
    failed |= {*re.findall(r"^(\w+ /\S+): Requests of other users have changed", output, re.M)}
    shown = r"^(\w+ /\S+): zoe's request changes what ann reads with GET /wrong/list"
    failed -= {*re.findall(shown, output, re.M)} - WRONG  # the mistake in the list shows new notes
    print(f"found {sorted(failed & WRONG)}; missed {sorted(WRONG - failed)}")
    print(f"false alarms: {sorted(failed - WRONG)}")
    assert failed == WRONG, output
    claim = (
        f"they find {len(WRONG)} of {len(WRONG)} mistakes,"
        f" and report none of {len(RIGHT)} endpoints that are right."
    )
    assert claim in " ".join((planted / "SECURITY.md").read_text("utf-8").split())
