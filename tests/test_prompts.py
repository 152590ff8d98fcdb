"""The questions, and the answers that are refused before anything is written."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest
from cookiecutter.exceptions import FailedHookException
from cookiecutter.prompt import prompt_for_config
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from template import ROOT

from passthrough.settings import Settings

from .baking import PROMPTS, QUESTIONS, Baker, UnknownAnswerError, files_in, render_hook

DEFAULTS = {key: value[0] if isinstance(value, list) else value for key, value in QUESTIONS.items()}
CONTROL = "leave out line breaks, tabs and other invisible characters"
JINJA = "would be run as a template"

# The question, an answer that is refused, and part of the message.
REFUSED: list[tuple[str, str, str]] = [
    ("project_slug", "My App", "lower-case letters and digits"),
    ("project_slug", "my_app", "lower-case letters and digits"),
    ("project_slug", "-app", "lower-case letters and digits"),
    ("project_slug", "app-", "lower-case letters and digits"),
    ("project_slug", "my--app", "lower-case letters and digits"),
    ("project_slug", "my.app", "lower-case letters and digits"),
    ("project_slug", "café", "lower-case letters and digits"),
    ("project_slug", "app\n", "lower-case letters and digits"),
    ("project_slug", "rocket-🚀", "lower-case letters and digits"),
    ("project_slug", "--help", "lower-case letters and digits"),
    ("project_slug", "2fast", "begin with a letter"),
    ("project_slug", "a" * 31, "31 characters are too many: Flyte takes 30"),
    ("project_slug", "con", "a device on Windows"),
    ("description", "", "it is empty"),
    ("description", "two\nlines", CONTROL),
    ("description", "a\ttab", CONTROL),
    ("description", "a\x1b[31mcolour", CONTROL),
    ("description", "right\u202eto left", CONTROL),
    ("description", "a line\u2028separator", CONTROL),
    ("description", "a zero-width\u200bspace", CONTROL),
    ("description", " padded ", "spaces at the ends"),
    ("description", "x" * 101, "101 characters are too many: 100 fit"),
    ("description", "x" * 100_000, "100000 characters are too many: 100 fit"),
    ("description", "{{ 7 * 7 }}", JINJA),
    ("description", "a {% raw %}b{% endraw %}", JINJA),
    ("description", "a {# comment #}", JINJA),
    ("author", "", "it is empty"),
    ("author", "Ada\r\nLovelace", CONTROL),
    ("author", "x" * 101, "101 characters are too many: 100 fit"),
    ("author", "${{ '{{' }} github.actor }}", JINJA),
    ("flyte_project", "", "lower-case letters, digits and dashes"),
    ("flyte_project", "My Project", "lower-case letters, digits and dashes"),
    ("flyte_project", "a/b", "lower-case letters, digits and dashes"),
    ("flyte_project", "p" * 64, "64 characters are too many: Flyte takes 63"),
    ("flyte_domain", "dev_1", "lower-case letters, digits and dashes"),
    ("flyte_domain", "-dev", "lower-case letters, digits and dashes"),
    ("flyte_domain", 'dev"', "lower-case letters, digits and dashes"),
    ("credential_headers", "X Api Key", "is not the name of one header"),
    ("credential_headers", "X-Api-Key:", "is not the name of one header"),
    ("credential_headers", 'X-"Key', "is not the name of one header"),
    ("credential_headers", "X-Clé", "is not the name of one header"),
    ("credential_headers", "X-Key,,X-Other", "remove the extra comma"),
    ("credential_headers", "X-Key, x-key", "is listed twice"),
    ("credential_headers", "Authorization", "is already a credential"),
    ("credential_headers", "COOKIE", "is already a credential"),
    ("credential_headers", "Connection", "describes the connection or the message"),
    ("credential_headers", "Transfer-Encoding", "describes the connection or the message"),
    ("credential_headers", "Content-Length", "describes the connection or the message"),
    ("credential_headers", "grpc-timeout", "describes the connection or the message"),
    ("credential_headers", "Connect-Protocol-Version", "describes the connection or the message"),
    ("credential_headers", "X-*", "is not the name of one header"),
    ("credential_headers", "Proxy-Foo", "describes the connection or the message"),
    ("credential_headers", "HTTP2-Settings", "describes the connection or the message"),
]
ACCEPTED: list[tuple[str, str]] = [
    ("project_slug", "a"),
    ("project_slug", "a" * 30),
    ("project_slug", "app-2"),
    ("project_slug", "flyte-app"),
    ("project_slug", "class"),
    ("project_slug", "json"),
    ("project_slug", "app"),
    ("project_slug", "tests"),
    ("project_slug", "fastapi"),
    ("description", '-- it\'s a "test" \\o/ 🚀 👩‍🚀 $HOME `id` & <b> 100 %'),
    ("description", "x" * 100),
    ("author", "Ada Lovelace <ada@example.org>"),
    ("flyte_project", "p" * 63),
    ("flyte_domain", "2-dev"),
    ("credential_headers", "X-Api-Key"),
    ("credential_headers", "X-Api-Key,x-tenant, X-Goog-IAP-JWT-Assertion"),
]


def load_hook(
    folder: Path, name: str, typed: Mapping[str, str] | None = None, **answers: str
) -> ModuleType:
    """Import a hook as rendered for these answers. Importing must not run it."""
    path = folder / name
    path.write_text(render_hook(name, DEFAULTS | answers, typed or {}), "utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hook(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return load_hook(tmp_path_factory.mktemp("hook"), "pre_gen_project.py")


def problems(hook: ModuleType, **answers: str) -> list[str]:
    return list(map(str, hook.corrections(DEFAULTS | answers, {})))


def test_every_question_has_a_text_that_the_terminal_shows_as_written() -> None:
    assert PROMPTS.keys() == QUESTIONS.keys()
    for text in PROMPTS.values():
        assert re.fullmatch(r"[A-Z][^\[\]\n]{3,95}", text)  # brackets are markup to Rich


def test_the_hook_uses_the_prompts_of_cookiecutter_json(hook: ModuleType) -> None:
    assert {key: PROMPTS[key] for key in hook.CHECKS} == hook.PROMPTS


def test_every_question_is_checked_or_a_choice(hook: ModuleType) -> None:
    choices = {key for key, value in QUESTIONS.items() if isinstance(value, list)}
    assert set(hook.CHECKS) == QUESTIONS.keys() - choices


def test_the_defaults_are_accepted(hook: ModuleType) -> None:
    assert problems(hook) == []


@pytest.mark.parametrize(("key", "value", "said"), REFUSED)
def test_a_refusal_shows_the_prompt_the_value_the_reason_and_a_valid_value(
    hook: ModuleType, key: str, value: str, said: str
) -> None:
    (problem,) = problems(hook, **{key: value})
    assert problem.startswith(f"  {PROMPTS[key]}: ")
    assert (repr(value) if len(value) <= 60 else f"({len(value)} characters)") in problem
    assert said in problem
    suggestion = problem.partition("Try: ")[2].removesuffix("\n")
    assert problems(hook, **{key: suggestion}) == []
    assert len(problem) < 500


@pytest.mark.parametrize(("key", "value"), ACCEPTED)
def test_valid_answers_are_accepted(hook: ModuleType, key: str, value: str) -> None:
    assert problems(hook, **{key: value}) == []


@given(
    key=st.sampled_from([key for key, value in QUESTIONS.items() if isinstance(value, str)]),
    data=st.data(),
)
def test_every_refusal_suggests_a_valid_value(
    hook: ModuleType, key: str, data: st.DataObject
) -> None:
    value = data.draw(st.text() | st.text("abc-_, {%0123456789"))
    for problem in problems(hook, **{key: value}):
        assert "\n" not in problem.partition("Try: ")[2].removesuffix("\n")
        assert problems(hook, **{key: problem.partition("Try: ")[2].removesuffix("\n")}) == []


HEADERS = [
    *("Authorization", "COOKIE", "Proxy-Foo", "proxy", "HTTP2-Settings", "TE", "Te-X", "Trailer"),
    *("Connection", "Keep-Alive", "Upgrade", "Transfer-Encoding", "Expect", "Host", "X-Host"),
    *("Accept-Encoding", "User-Agent", "Content-X", "Connect-X", "Grpc-X", "X-Grpc-", "X-*", "*"),
    *("X-Api-Key", "X-\u212aey", "X Key", "X-Key:", "X-Clé", "!#$%&'+.^_`|~", "X-" + "y" * 200),
]


@given(
    name=st.sampled_from(HEADERS) | st.from_regex(r"\A[!-~]{1,20}\Z").filter(lambda n: "," not in n)
)
def test_a_header_is_refused_if_and_only_if_the_app_would_not_start_with_it(
    hook: ModuleType, name: str
) -> None:
    environment = {"FLYTE_PROJECT": "p", "FLYTE_DOMAIN": "d", "CREDENTIAL_HEADERS": name}
    try:
        started = Settings.model_validate(environment).credential_headers == (name,)
    except ValidationError:
        started = False
    assert (problems(hook, credential_headers=name) == []) == started


def test_all_problems_are_printed_at_once_and_nothing_is_generated(
    baker: Baker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    answers = {"project_slug": "My App", "flyte_domain": "Dev", "credential_headers": "Host"}
    with pytest.raises(FailedHookException):
        baker(tmp_path, **answers)
    told = capfd.readouterr().err
    for key, value in answers.items():
        assert f"{PROMPTS[key]}: {value!r}" in told or f"{PROMPTS[key]}: '" in told
    assert told.count("Try: ") == 3
    assert "cookiecutter " in told.rpartition("With the suggested values, the command is:")[2]
    assert "Nothing was generated" in told
    assert list(tmp_path.iterdir()) == []


def test_the_command_that_a_refusal_prints_generates_the_project(
    baker: Baker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FailedHookException):
        baker(tmp_path, project_slug="My App", author='Ada\'s "own"', license="MIT")
    command = shlex.split(capfd.readouterr().err.strip().splitlines()[-1])
    arguments = command[command.index("cookiecutter") + 1 :]
    assert arguments[0] == str(baker.template)
    assert arguments[-3:] == ["project_slug=my-app", 'author=Ada\'s "own"', "license=MIT"]
    cookiecutter = [sys.executable, "-m", "cookiecutter", "--config-file", str(baker.config())]
    subprocess.run([*cookiecutter, *arguments], check=True, capture_output=True)
    assert 'Ada\'s \\"own\\"' in (tmp_path / "my-app" / "pyproject.toml").read_text("utf-8")


def test_a_refusal_under_cruft_prints_a_cruft_command(tmp_path: Path) -> None:
    """Cruft passes hooks neither the typed answers nor the template's address."""
    answers = DEFAULTS | {"_template": "https://example.org/template.git"}
    hook = load_hook(tmp_path, "pre_gen_project.py", None, **answers)
    command = shlex.split(hook.command(hook.ANSWERS, cruft=True))
    assert command[-6:-1] == [
        "cruft",
        "create",
        answers["_template"],
        "--no-input",
        "--extra-context",
    ]
    assert json.loads(command[-1]) == DEFAULTS


@pytest.mark.parametrize("slug", ["a/b/c", "../up"])
def test_a_name_that_is_a_path_creates_no_folder(
    baker: Baker, tmp_path: Path, slug: str, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    with pytest.raises((FailedHookException, FileNotFoundError)):
        baker(output, project_slug=slug)
    assert f"{PROMPTS['project_slug']}: {slug!r}" in capfd.readouterr().err
    assert list(tmp_path.rglob("*")) == [output]


def test_a_refusal_does_not_touch_an_existing_folder(baker: Baker, tmp_path: Path) -> None:
    mine = tmp_path / "my-flyte-app" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(Exception, match="already exists"):
        baker(tmp_path, flyte_domain="None")
    assert files_in(tmp_path) == ["my-flyte-app/mine.txt"]


def test_a_template_on_the_command_line_is_refused_even_if_its_result_is_valid(
    baker: Baker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FailedHookException):
        baker(tmp_path, author="{{ 'Ada' }}")
    told = capfd.readouterr().err
    assert JINJA in told
    assert "Try: Ada\n" in told


def test_a_refusal_on_the_command_line_shows_no_traceback_of_the_hook(
    baker: Baker, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "cookiecutter", "--no-input", str(baker.template)]
    options = ["--config-file", str(baker.config()), "--output-dir", str(tmp_path)]
    done = subprocess.run(
        [*command, *options, "project_slug=con"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    message, _, rest = done.stderr.partition("ERROR: Stopping generation")
    assert "'con' is a device on Windows" in message
    assert "Traceback" not in message
    assert "pre_gen_project.py" not in rest
    assert list(tmp_path.iterdir()) == []


def test_importing_a_hook_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hooks").mkdir()
    (tmp_path / "project" / ".github").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    for name in ("pre_gen_project.py", "post_gen_project.py"):
        load_hook(tmp_path / "hooks", name, project_slug="NOT VALID")
    assert (tmp_path / "project" / ".github").is_dir()
    assert capfd.readouterr() == ("", "")


def test_hooks_use_nothing_but_the_standard_library_and_no_shell() -> None:
    for path in (ROOT / "hooks").iterdir():
        if path.suffix != ".py":
            continue
        source = path.read_text("utf-8")
        imported = set(re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE))
        assert imported <= sys.stdlib_module_names
        assert not imported & {"subprocess", "socket", "urllib", "http"}
        assert "os.system" not in source


def test_the_prompts_are_asked_as_written_and_an_answer_is_taken_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def answer(prompt: str, **options: object) -> object:
        asked.append(prompt)
        return options.get("default")

    monkeypatch.setattr("cookiecutter.prompt.Prompt.ask", answer)
    template = json.loads((ROOT / "cookiecutter.json").read_text("utf-8"))
    prompt_for_config({"cookiecutter": template})
    for text, shown in zip(PROMPTS.values(), asked, strict=True):
        assert text in shown


def test_the_test_helper_refuses_answers_that_cookiecutter_would_ignore(
    baker: Baker, tmp_path: Path
) -> None:
    with pytest.raises(UnknownAnswerError):
        baker(tmp_path, project_name="typo")
    with pytest.raises(UnknownAnswerError):
        baker(tmp_path, license="GPL")
