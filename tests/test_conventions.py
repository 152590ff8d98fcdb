"""Tests of workflows, Makefiles and conventions of the repository."""

import re
from collections import Counter
from pathlib import Path

from template import ROOT, tracked_files

import local_flyte
import passthrough

from .baking import BIN, PROJECT, run


def test_workflows_pass_actionlint_and_zizmor(default_project: Path) -> None:
    """zizmor also checks that actions are pinned by hash and permissions are minimal."""
    for folder in (ROOT, default_project):
        workflows = folder.glob(".github/workflows/*")
        run([BIN / "actionlint", "-no-color", *workflows], folder)
        run([BIN / "zizmor", "--offline", "--quiet", "--persona=pedantic", ".github"], folder)


def test_generated_workflow_pins_same_actions_as_repository(default_project: Path) -> None:
    """Dependabot does not update the template folder, so update it by hand."""
    used = re.compile(r"uses: (\S+ # \S+)")
    ours = used.findall((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    theirs = used.findall((default_project / ".github/workflows/ci.yml").read_text("utf-8"))
    assert theirs
    assert set(theirs) <= set(ours)


def test_make_targets_are_listed_and_documented(default_project: Path) -> None:
    """Each target also sets up the environment."""
    all_targets: set[str] = set()
    for folder in (default_project, ROOT):
        makefile = (folder / "Makefile").read_text("utf-8")
        targets = dict(re.findall(r"^([a-z-]+):(.*)", makefile, re.MULTILINE))
        all_targets |= targets.keys()
        assert set(re.findall(r"^  make ([a-z-]+)", run(["make"], folder), re.M)) == targets.keys()
        for name, needs in targets.items():
            assert name == "help" or re.match(
                r" (\.venv/(installed|demo)|\$\(BIN\)/uv)\b", needs
            ), name
        for page in {*folder.glob("*.md")} - {ROOT / "CHANGELOG.md"}:  # it names removed targets
            names = re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", page.read_text("utf-8"), re.M)
            assert {a or b for a, b in names} <= all_targets, page


def test_generated_app_imports_only_public_package(default_project: Path) -> None:
    """Only `passthrough` and the removable `passthrough.agents` are public."""
    theirs = [default_project / "deployment.py", *default_project.rglob("*.md")]
    theirs += [*(default_project / "app").rglob("*.py"), *(default_project / "tests").rglob("*.py")]
    text = "\n".join(file.read_text("utf-8") for file in theirs)
    imported = {*re.findall(r"^\s*(?:from|import) (passthrough[.\w]*)", text, re.MULTILINE)}
    assert "passthrough" in imported <= {"passthrough", "passthrough.agents"}


def test_pages_have_one_list_of_rules_with_tests(default_project: Path) -> None:
    lists = {
        re.sub(r"SECURITY\.md#", "#", rules)
        for page in ("README.md", "SECURITY.md", "AGENTS.md")
        for rules in re.findall(
            r"Follow these rules\..*?\n\n(- \*\*Keep.*?`is_executed`\)\.)\n",
            (default_project / page).read_text("utf-8"),
            re.DOTALL,
        )
    }
    (rules,) = lists
    guarantees = (default_project / "local_flyte/guarantees.py").read_text("utf-8")
    tests = re.findall(r"^def (test_\w+)", guarantees, re.MULTILINE)
    for rule in rules.split("\n- **"):
        names = [name for name in re.findall(r"`([a-z_]+)`", rule) if name.count("_")]
        assert names, rule
        assert all(any(name in test for test in tests) for name in names), rule


def test_repository_has_no_lock_file_or_registry() -> None:
    locks = {"uv.lock", "poetry.lock", "pdm.lock", "package-lock.json"}
    hosts = ("pypi." + "org", "python" + "hosted", "npm" + "js")
    for path in tracked_files():
        assert path.name not in locks
        content = (ROOT / path).read_bytes()
        assert not any(host.encode() in content for host in hosts), path


def test_version_matches_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    newest = re.findall(r"^## (\d+\.\d+\.\d+)$", changelog, re.MULTILINE)[0]
    assert f'\nversion = "{newest}"\n' in (ROOT / "pyproject.toml").read_text("utf-8")
    assert passthrough.__version__ == local_flyte.__version__ == newest


def test_each_passthrough_module_has_a_test_file() -> None:
    """Each test file also has a module, except in the two folders that test several modules."""
    package, tests = ROOT / PROJECT / "passthrough", ROOT / "tests/passthrough"
    modules = {path.relative_to(package) for path in package.rglob("*.py")}
    named = {path.with_name(f"test_{path.name}") for path in modules if path.stem != "__init__"}
    files = {path.relative_to(tests) for path in tests.rglob("test_*.py")}
    elsewhere = {"test_passthrough_auth.py"}  # in tests/middleware
    assert {str(path) for path in named - files} == elsewhere
    assert {path.parts[0] for path in files - named} == {"routers", "whole_app"}


def test_file_names_of_tests_are_unique() -> None:
    folders = (ROOT / "tests", ROOT / PROJECT / "tests")
    names = Counter(path.name for folder in folders for path in tracked_files(folder))
    several = {"__init__.py", "conftest.py", "README.md"}
    assert {name for name, count in names.items() if count > 1} <= several
