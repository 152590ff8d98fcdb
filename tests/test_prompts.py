"""The questions, and the answers that are refused before anything is written."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from cookiecutter.exceptions import FailedHookException
from cookiecutter.main import cookiecutter
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment
from pydantic import ValidationError
from template import ROOT

from passthrough.settings import Settings

from .baking import PROMPTS, QUESTIONS, Baker

DEFAULTS = {key: value[0] if isinstance(value, list) else value for key, value in QUESTIONS.items()}
PRIVATE = {
    "__description_escaped": DEFAULTS["description"],
    "__author_escaped": DEFAULTS["author"],
    "__license_expression": DEFAULTS["license"],
}
# Answers that are refused, separated by a bar.
REFUSED = {
    "project_slug": f"My App|-app|app-|my--app|my.app|café|app\n|2fast|con|a/b|{'a' * 31}",
    "description": "|two\nlines|a\ttab|a\x1b[31mcolour|right\u202eto left|a line\u2028separator"
    "|a zero-width\u200bspace| padded |{{ 7 * 7 }}|a {% raw %}b{% endraw %}|a {# comment #}"
    f"|{'x' * 101}|{'x' * 100_000}",
    "author": "|Ada\r\nLovelace|${{ '{{' }} github.actor }}",
    "flyte_project": f"|My Project|a/b|{'p' * 64}",
    "flyte_domain": 'dev_1|-dev|dev"|None',
    "credential_headers": 'X Api Key|X-Api-Key:|X-"Key|X-Clé|X-Key,,X-Other|X-Key, x-key|X-*|,'
    "|X-Ok, Content-Length|a, b, a|A,b,a",
    "python_version": "3.10|3.130|3.13\n",
    "page": "maybe|",
    "agents": "Yes|",
    "license": "GPL",
    "ci": "Jenkins|GitHub",
}
ACCEPTED = {
    "project_slug": f"a|{'a' * 30}|app-2|flyte-app|class|json|app|tests|fastapi|company|com10",
    "description": f'-- it\'s a "test" \\o/ 🚀 👩‍🚀 $HOME `id` & <b> 100 %|{"x" * 100}',
    "author": "Ada Lovelace <ada@example.org>",
    "flyte_project": "p" * 63,
    "flyte_domain": "2-dev",
    "credential_headers": "X-Api-Key|X-Api-Key,x-tenant, X-Goog-IAP-JWT-Assertion|ab, b, a|Hosts",
}


def load_hook(name: str, **answers: str) -> ModuleType:
    """Import a hook as rendered for these answers. Importing must not run it."""
    source = Environment().from_string((ROOT / "hooks" / name).read_text("utf-8"))
    module = ModuleType(name)
    exec(source.render(cookiecutter=DEFAULTS | PRIVATE | answers), vars(module))
    return module


HOOK = load_hook("pre_gen_project.py")


def problems(**answers: str) -> list[tuple[str, str]]:
    """Return the name and the message of each answer that is refused."""
    return list(HOOK.problems(DEFAULTS | PRIVATE | answers, {}))


def test_the_hook_knows_the_questions_which_the_terminal_shows_as_written() -> None:
    known = {key: (each.prompt, each.default) for key, each in HOOK.QUESTIONS.items()}
    assert known == {key: (PROMPTS[key], DEFAULTS[key]) for key in QUESTIONS}
    assert PROMPTS.keys() == QUESTIONS.keys()
    for text in PROMPTS.values():
        assert re.fullmatch(r"[A-Z][^\[\]\n]{3,95}", text)  # brackets are markup to Rich


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key, values in REFUSED.items() for value in values.split("|")],
)
def test_a_refusal_shows_the_prompt_the_value_the_reason_and_a_valid_value(
    key: str, value: str
) -> None:
    [(refused, message), *_] = problems(**{key: value})
    assert refused == key
    assert message.startswith(f"  {PROMPTS[key]}: {value[:60]!r}")
    assert (f"({len(value)} characters)" in message) == (len(value) > 60)
    assert HOOK.QUESTIONS[key].reason in message
    assert ("it may not be empty; " in message) == (not value)
    suggestion = message.rpartition("Try: ")[2].removesuffix("\n").replace("no header", "")
    assert re.fullmatch(HOOK.QUESTIONS[key].valid, suggestion)
    assert len(message) < 500


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key, values in ACCEPTED.items() for value in values.split("|")],
)
def test_valid_answers_are_accepted(key: str, value: str) -> None:
    assert key not in [refused for refused, _ in problems(**{key: value})]


HEADERS = [
    *("Authorization", "COOKIE", "Proxy-Foo", "proxy", "HTTP2-Settings", "TE", "Te-X", "Trailer"),
    *("Connection", "Keep-Alive", "Upgrade", "Transfer-Encoding", "Expect", "Host", "X-Host"),
    *("Accept-Encoding", "User-Agent", "Content-X", "Connect-X", "Grpc-X", "X-Grpc-", "X-*", "*"),
    *("X-Api-Key", "X-\u212aey", "X Key", "X-Key:", "X-Clé", "!#$%&'+.^_`|~", "X-" + "y" * 200),
]


@given(
    name=st.sampled_from(HEADERS) | st.from_regex(r"\A[!-~]{1,20}\Z").filter(lambda n: "," not in n)
)
def test_a_header_is_refused_if_and_only_if_the_app_would_not_start_with_it(name: str) -> None:
    environment = {"FLYTE_PROJECT": "p", "FLYTE_DOMAIN": "d", "CREDENTIAL_HEADERS": name}
    try:
        started = Settings.model_validate(environment).credential_headers == (name,)
    except ValidationError:
        started = False
    assert (problems(credential_headers=name) == []) == started


def test_a_wrong_answer_on_the_command_line_is_refused_and_leaves_no_folder(
    baker: Baker, tmp_path: Path
) -> None:
    """Cookiecutter renders answers, ignores unknown names, and leaves a folder of a/b."""
    wrong = {
        "project_slug=a/b": "  Name of the app and its folder: 'a/b'",
        "author={{ 'Ada' }}": "would be run as a template",
        **{f'{key}="; import os': f"  {key}: leave it out" for key in PRIVATE},
    }
    if Path("/proc").exists():
        wrong["nothing=a"] = "  nothing: there is no such question"
    command: list[str | Path] = [sys.executable, "-m", "cookiecutter", "--no-input"]
    command += ["--config-file", baker.config(), baker.template, "--output-dir", tmp_path, *wrong]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    told, _, rest = refused.stderr.partition("ERROR: Stopping generation")
    assert told.startswith("\nNothing was generated. Please change:\n")
    assert [message for message in wrong.values() if message not in told] == []
    assert "pre_gen_project.py" not in rest
    assert not list(tmp_path.iterdir())


def test_a_choice_in_a_replay_file_that_is_none_is_refused(
    baker: Baker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    answers = DEFAULTS | PRIVATE | {"python_version": '3.13"\n      - run: "x'}
    replay, output = tmp_path / "replay.json", tmp_path / "refused"
    replay.write_text(json.dumps({"cookiecutter": answers}), "utf-8")
    options = {"output_dir": str(output), "config_file": str(baker.config())}
    with pytest.raises(FailedHookException):
        cookiecutter(str(baker.template), replay=str(replay), **options)
    assert "choose one of: " in capfd.readouterr().err
    assert not list(output.iterdir())


def test_under_cruft_an_answer_to_no_question_is_refused() -> None:
    words = ["/bin/cruft", "create", "URL", "--extra-context", '{"project_name": "x", "ci": "y"}']
    assert [name for name, _ in HOOK.unknown(DEFAULTS, words)] == ["project_name"]


def test_a_folder_in_the_next_steps_is_quoted() -> None:
    hook = load_hook("post_gen_project.py")
    assert "\n    cd 'a folder/x'\n" in hook.next_steps(
        hook.ANSWERS, "a folder/x", make=True, git=True
    )


def test_hooks_use_nothing_but_the_standard_library_and_no_shell() -> None:
    for path in (ROOT / "hooks").glob("*.py"):
        source = path.read_text("utf-8")
        imported = set(re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE))
        assert imported <= sys.stdlib_module_names
        assert not imported & {"subprocess", "socket", "urllib", "http"}
        assert "os.system" not in source
