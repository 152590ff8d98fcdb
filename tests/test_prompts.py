"""Tests of the questions, and of refused answers."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from cookiecutter.exceptions import FailedHookException
from cookiecutter.main import cookiecutter
from jinja2 import Environment
from template import ROOT

from .baking import PROMPTS, QUESTIONS, Baker

DEFAULTS = {key: value[0] if isinstance(value, list) else value for key, value in QUESTIONS.items()}
PRIVATE = {
    "__description_escaped": DEFAULTS["description"],
    "__author_escaped": DEFAULTS["author"],
    "__license_expression": DEFAULTS["license"],
}
# Refused answers, separated by a bar.
REFUSED = {
    "project_slug": f"My App|-app|app-|my--app|my.app|café|app\n|2fast|a/b|{'a' * 31}",
    "description": "|two\nlines|a\ttab|a\x1b[31mcolour|a line\u2028separator"
    "| padded |{{ 7 * 7 }}|a {% raw %}b{% endraw %}|a {# comment #}"
    f"|{'x' * 101}|{'x' * 100_000}",
    "author": "|Ada\r\nLovelace|${{ '{{' }} github.actor }}",
    "flyte_project": f"|My Project|a/b|{'p' * 64}",
    "flyte_domain": 'dev_1|-dev|dev"|None',
    "credential_headers": 'X Api Key|X-Api-Key:|X-"Key|X-Clé|X-Key,,X-Other|X-*|,'
    "|Authorization|X-Ok, COOKIE|X-\u212aey",
    "python_version": "3.10|3.130|3.13\n",
    "page": "maybe|",
    "agents": "Yes|",
    "license": "GPL",
    "ci": "Jenkins|GitHub",
}
ACCEPTED = {
    "project_slug": f"a|{'a' * 30}|app-2|flyte-app|class|json|app|tests|fastapi|con",
    "description": f'-- it\'s a "test" \\o/ 🚀 👩‍🚀 $HOME `id` & <b> 100 %|{"x" * 100}',
    "author": "Ada Lovelace <ada@example.org>",
    "flyte_project": "p" * 63,
    "flyte_domain": "2-dev",
    "credential_headers": "X-Api-Key|X-Api-Key,x-tenant, X-Goog-IAP-JWT-Assertion|Cookies",
}


def load_hook(name: str, **answers: str) -> ModuleType:
    """Import a hook that is rendered for these answers. The import must not run the hook."""
    source = Environment().from_string((ROOT / "hooks" / name).read_text("utf-8"))
    module = ModuleType(name)
    exec(source.render(cookiecutter=DEFAULTS | PRIVATE | answers), vars(module))
    return module


HOOK = load_hook("pre_gen_project.py")


def problems(**answers: str) -> list[tuple[str, str]]:
    """Return the name and the message of each refused answer."""
    return list(HOOK.problems(DEFAULTS | answers))


def test_each_prompt_explains_its_validation_rule() -> None:
    assert HOOK.RULES.keys() == PROMPTS.keys() == QUESTIONS.keys()
    for key, prompt in PROMPTS.items():
        assert re.fullmatch(r"[A-Z][^\[\]\n]+", prompt)  # Rich interprets brackets as markup
        if isinstance(QUESTIONS[key], list):  # the terminal shows the choices
            assert HOOK.RULES[key].words == f"one of: {', '.join(QUESTIONS[key])}"
        else:
            assert prompt.endswith(f" ({HOOK.RULES[key].words})")


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key, values in REFUSED.items() for value in values.split("|")],
)
def test_invalid_prompt_answer_is_reported_with_rule(key: str, value: str) -> None:
    [(refused, message)] = problems(**{key: value})
    assert refused == key
    assert message.startswith(f"  {key}: {value[:60]!r}")
    assert (f"({len(value)} characters)" in message) == (len(value) > 60)
    assert message.endswith(f"It must be {HOOK.RULES[key].words}.\n")
    assert len(message) < 300


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key, values in ACCEPTED.items() for value in values.split("|")],
)
def test_valid_prompt_answer_is_accepted(key: str, value: str) -> None:
    assert key not in [refused for refused, _ in problems(**{key: value})]


def test_invalid_prompt_answer_creates_no_project_folder(baker: Baker, tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, "-m", "cookiecutter", "--no-input"]
    command += ["--config-file", baker.config(), baker.template, "--output-dir", tmp_path]
    command += ["project_slug=My App", "author= "]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    message, _, rest = refused.stderr.partition("ERROR: Stopping generation")
    assert message.startswith("\nNothing was generated. Please change:\n\n  project_slug: 'My App'")
    assert "\n  author: ' '\n" in message
    assert "pre_gen_project.py" not in rest
    assert not list(tmp_path.iterdir())


def test_invalid_choice_in_replay_file_is_refused(
    baker: Baker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    answers = DEFAULTS | PRIVATE | {"python_version": '3.13"\n      - run: "x'}
    replay, output = tmp_path / "replay.json", tmp_path / "refused"
    replay.write_text(json.dumps({"cookiecutter": answers}), "utf-8")
    options = {"output_dir": str(output), "config_file": str(baker.config())}
    with pytest.raises(FailedHookException):
        cookiecutter(str(baker.template), replay=str(replay), **options)
    assert "It must be one of: " in capfd.readouterr().err
    assert not list(output.iterdir())


def test_hooks_use_only_standard_library() -> None:
    """They use no network and no shell."""
    for path in (ROOT / "hooks").glob("*.py"):
        source = path.read_text("utf-8")
        imported = set(re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE))
        assert imported <= sys.stdlib_module_names
        assert not imported & {"subprocess", "socket", "urllib", "http"}
        assert "os.system" not in source
