"""Lints the template's own files and the generated ones, and checks its documentation."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from template import ROOT, tracked_files

from .baking import PROJECT, QUESTIONS, Baker, name_of
from .mutants.run import PAGE, SELECTIONS

TEMPLATES_OWN = [ROOT / PROJECT / name for name in ("local_flyte", "passthrough")]
SCRIPTS = Path(sys.executable).parent


def tool(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a tool of this environment; fail with its output."""
    name, *arguments = command
    done = subprocess.run(
        [SCRIPTS / name, *arguments],
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def lint_workflow(workflow: Path, cwd: Path) -> None:
    tool("actionlint", "-no-color", workflow, cwd=cwd)
    tool("zizmor", "--offline", "--quiet", "--persona=pedantic", cwd / ".github", cwd=cwd)
    content = yaml.safe_load(workflow.read_text("utf-8"))
    assert content["permissions"] == {}
    for job in content["jobs"].values():
        assert set(job["permissions"].values()) <= {"read"}
        for step in job["steps"]:
            assert re.search(r"@[0-9a-f]{40}$", step.get("uses", "@" + "0" * 40))


def test_our_workflows_pass_actionlint_and_zizmor() -> None:
    for workflow in (ROOT / ".github" / "workflows").iterdir():
        lint_workflow(workflow, ROOT)


def test_the_generated_workflow_passes_actionlint_and_zizmor(default_project: Path) -> None:
    lint_workflow(default_project / ".github" / "workflows" / "ci.yml", default_project)


def test_the_generated_workflow_uses_the_actions_that_ours_uses(default_project: Path) -> None:
    """Dependabot does not see the template folder: after an update of ours, update the other."""
    used = re.compile(r"uses: (\S+ # \S+)")
    ours = used.findall((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    theirs = used.findall((default_project / ".github/workflows/ci.yml").read_text("utf-8"))
    assert theirs
    assert set(theirs) <= set(ours)


NAMES = [
    {},
    {"project_slug": "a", "license": "none", "flyte_project": "p", "flyte_domain": "d"},
    {
        "project_slug": "z" + "-z" * 14 + "z",
        "flyte_project": "p" * 63,
        "flyte_domain": "d" * 63,
        "credential_headers": ", ".join(f"X-Header-Number-{number}" for number in range(9)),
        "description": "d" * 100,
        "author": "a" * 100,
    },
]


@pytest.mark.parametrize("answers", NAMES, ids=name_of)
def test_untouched_output_is_formatted_and_linted_with_any_names(
    baker: Baker, tmp_path: Path, answers: dict[str, str]
) -> None:
    project = baker(tmp_path, **answers)
    tool("ruff", "format", "--check", "--diff", "--no-cache", cwd=project)
    tool("ruff", "check", "--no-cache", cwd=project)


def test_our_own_code_and_the_unrendered_template_are_formatted_and_linted() -> None:
    tool("ruff", "format", "--check", "--no-cache")
    tool("ruff", "check", "--no-cache")


def test_the_templates_own_folders_are_linted_by_our_rules() -> None:
    ours: list[str | Path] = ["--config", ROOT / "pyproject.toml", "--no-cache", *TEMPLATES_OWN]
    tool("ruff", "format", "--check", *ours)
    tool("ruff", "check", *ours)


@pytest.mark.slow
def test_our_own_code_is_typed() -> None:
    tool("mypy")


def make_targets(makefile: Path) -> set[str]:
    return set(re.findall(r"^([a-z-]+):", makefile.read_text("utf-8"), re.MULTILINE))


def test_every_make_target_in_the_docs_exists(default_project: Path) -> None:
    for folder in (ROOT, default_project):
        known = make_targets(ROOT / "Makefile") | make_targets(default_project / "Makefile")
        if folder == default_project:
            known = make_targets(default_project / "Makefile")
        for page in folder.glob("*.md"):
            told = re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", page.read_text("utf-8"), re.M)
            assert {a or b for a, b in told} <= known, page


def test_every_link_between_our_pages_leads_somewhere(default_project: Path) -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *default_project.rglob("*.md")]
    pages += (ROOT / "benchmarks").glob("*.md")
    assert len(pages) > 4
    for page in pages:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_risk_of_flyte_proxy_app_is_named_where_it_is_recommended() -> None:
    pages = [(ROOT / name).read_text("utf-8") for name in tracked_files() if name.suffix == ".md"]
    paragraphs = re.split(r"\n\n|\n(?=- )", "\n\n".join(pages))
    told = [" ".join(text.split()) for text in paragraphs if "flyte proxy app" in text]
    assert told
    for text in told:
        assert "every program on your machine can use the app as you" in text
        assert "DNS rebinding" in text


def test_every_make_target_sets_itself_up(default_project: Path) -> None:
    for folder in (ROOT, default_project):
        makefile = (folder / "Makefile").read_text("utf-8")
        for line in re.findall(r"^[a-z-]+:.*", makefile, re.MULTILINE):
            assert re.search(r" \.venv/(installed|demo)\b", line) or line.startswith("help:"), line


def test_make_lists_what_there_is_to_run(default_project: Path) -> None:
    for folder in (ROOT, default_project):
        done = subprocess.run(["make"], cwd=folder, capture_output=True, text=True, check=True)
        listed = set(re.findall(r"^  make ([a-z-]+)", done.stdout, re.MULTILINE))
        assert listed == make_targets(folder / "Makefile")


def test_the_readme_lists_the_questions() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for key, value in QUESTIONS.items():
        default = value[0] if isinstance(value, list) else value
        assert default in readme or key in {"description", "author"}, key


@pytest.mark.parametrize(("folder", "words"), [("", 650), (PROJECT, 900)])
def test_a_readme_is_short(folder: str, words: int) -> None:
    assert len((ROOT / folder / "README.md").read_text("utf-8").split()) <= words


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert (ROOT / ".ci" / "run").read_text("utf-8").rstrip().endswith("\nmake test")
    assert "\nmake test\n" in (ROOT / "README.md").read_text("utf-8")


def test_no_lock_file_and_no_registry_is_in_the_repository() -> None:
    locks = {"uv.lock", "poetry.lock", "pdm.lock", "package-lock.json"}
    hosts = ("pypi." + "org", "python" + "hosted", "npm" + "js")
    for path in tracked_files():
        assert path.name not in locks
        content = (ROOT / path).read_bytes()
        assert not any(host.encode() in content for host in hosts), path


def test_every_explained_mutant_changes_a_line_of_a_mutated_module() -> None:
    changed = re.findall(r"^- (.+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    modules = [ROOT / PROJECT / s.folder / name for s in SELECTIONS for name in s.modules]
    lines = {line.strip() for path in modules for line in path.read_text("utf-8").splitlines()}
    assert changed
    assert [line for line in changed if line not in lines] == []


def test_the_template_is_the_version_that_the_changelog_ends_with() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    newest = re.findall(r"^## (\d+\.\d+\.\d+)$", changelog, re.MULTILINE)[0]
    assert f'\nversion = "{newest}"\n' in (ROOT / "pyproject.toml").read_text("utf-8")


def test_private_variables_come_last_and_are_all_used() -> None:
    questions = json.loads((ROOT / "cookiecutter.json").read_text("utf-8"))
    names = list(questions)
    assert names == [*QUESTIONS, *(name for name in names if name.startswith("_"))]
    text = json.dumps({name: questions[name] for name in names if name.startswith("__")})
    for path in tracked_files():
        if path.parts[0] in {"{{cookiecutter.project_slug}}", "hooks"}:
            text += f"{path}\n{(ROOT / path).read_text('utf-8')}\n"
    for name in {*names} - {"__prompts__", "_copy_without_render"}:
        used = f"cookiecutter.{name}" in text or f'answers["{name}"]' in text
        assert used, f"{name} is not used"
