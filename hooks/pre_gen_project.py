"""Refuse, before anything is written, answers that Python, HTTP or Flyte would refuse later.

Cookiecutter renders this file and runs the copy, so it cannot import anything from the template.
Standard library only, offline, no side effects except the one named in ``main``.
"""

import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# The answers, and the values on the command line (from cookiecutter; cruft does not pass them on).
ANSWERS: dict[str, str] = json.loads(r"""{{ cookiecutter | tojson }}""")
TYPED: dict[str, object] = json.loads(r"""{{ _cookiecutter | default({}) | tojson }}""")

# The prompts from cookiecutter.json, which cookiecutter does not pass on.
PROMPTS = {
    "project_slug": "Name of the app and its folder",
    "description": "What the app does, in one line",
    "author": "Author, for pyproject.toml and the licence",
    "flyte_project": "Flyte project",
    "flyte_domain": "Flyte domain",
    "credential_headers": "Credential headers besides Authorization and Cookie (comma-separated, or empty)",
}

# flyteidl2.app.Identifier.name and flyteidl2.app.Profile.short_description.
APP_NAME_LENGTH = 30
DESCRIPTION_LENGTH = 100
# RFC 1123 label; the longest project and domain in flyteidl2's identifiers.
LABEL_LENGTH = 63
AUTHOR_LENGTH = 100

# Names that Windows reserves for devices: no folder can have them.
DEVICES = frozenset({"aux", "con", "nul", "prn"}) | {
    f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)
}

# Headers that passthrough_auth.py never sets on a call to Flyte, or already forwards. Tests keep the
# two files consistent, since this one cannot import the other.
UNFORWARDABLE = re.compile(
    r"(content|connect|grpc|proxy)-.*|accept-encoding|connection|expect|host|http2-settings"
    r"|keep-alive|te|trailer|transfer-encoding|upgrade"
)
ALREADY_FORWARDED = ("authorization", "cookie")

# The reason why a value is invalid, and a valid value.
Problem = tuple[str, str]
JINJA = "two braces, or a brace with % or #, would be run as a template"


@dataclass(frozen=True)
class Correction:
    """An answer that cannot be used, and one that can."""

    key: str
    answer: str
    wrong: str
    suggestion: str

    def __str__(self) -> str:
        """Return the message, with the prompt."""
        told = f"{PROMPTS[self.key]}: {_shown(self.answer)}\n      {self.wrong}."
        return f"  {told}\n      Try: {self.suggestion}\n"


def app_name(value: str) -> Problem | None:
    """Check an app's name: it must be a DNS label, valid in Flyte, and the name of a folder."""
    words = re.findall(r"[a-z0-9]+", value.lower())
    name = re.sub(r"^[0-9-]+", "", "-".join(words))[:APP_NAME_LENGTH].rstrip("-")
    if not name or name in DEVICES:
        name = f"my-{name}"[:APP_NAME_LENGTH].rstrip("-") if name else "my-flyte-app"
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", value):
        return "use lower-case letters and digits, with single dashes between them", name
    if value[0].isdigit():
        return "begin with a letter, as the name of a Kubernetes service must", name
    if len(value) > APP_NAME_LENGTH:
        return f"{len(value)} characters are too many: Flyte takes {APP_NAME_LENGTH}", name
    if value in DEVICES:
        return f"{value!r} is a device on Windows, where no folder can have that name", name
    return None


def label(fallback: str) -> Callable[[str], Problem | None]:
    """Check a project or domain: Kubernetes names contain them, so they are RFC 1123 labels."""

    def check(value: str) -> Problem | None:
        suggestion = "-".join(re.findall(r"[a-z0-9]+", value.lower()))[:LABEL_LENGTH].rstrip("-")
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", value):
            wrong = "use lower-case letters, digits and dashes, with no dash at either end"
            return wrong, suggestion or fallback
        if len(value) > LABEL_LENGTH:
            return f"{len(value)} characters are too many: Flyte takes {LABEL_LENGTH}", suggestion
        return None

    return check


def credential_headers(value: str) -> Problem | None:
    """Check header names: RFC 9110 tokens that may be forwarded to Flyte, each listed once."""
    names = [name.strip() for name in value.split(",")]
    if names == [""]:
        return None
    good: list[str] = []
    wrong: list[str] = []
    for name in names:
        if reason := _unforwardable(name, good):
            wrong.append(reason)
        else:
            good.append(name)
    if wrong:
        return "; ".join(wrong), ", ".join(good) or "X-Api-Key"
    return None


def _unforwardable(name: str, seen: list[str]) -> str | None:
    shown = _shown(name)
    if not name:
        return "remove the extra comma"
    if not re.fullmatch(r"[-!#$%&'+.^_`|~0-9A-Za-z]+", name):
        return f"{shown} is not the name of one header (RFC 9110, 5.6.2)"
    lower = name.lower()
    if lower in ALREADY_FORWARDED:
        return f"{shown} is already a credential"
    if UNFORWARDABLE.fullmatch(lower):
        return f"{shown} describes the connection or the message, not the caller"
    if lower in {other.lower() for other in seen}:
        return f"{shown} is listed twice"
    return None


def line(longest: int, fallback: str) -> Callable[[str], Problem | None]:
    """Check one line of text, which TOML, YAML, Markdown and Python can contain unchanged."""

    def check(value: str) -> Problem | None:
        cleaned = re.sub(r"\{+(?=[%#{])", "", "".join(c for c in value if not _invisible(c)))
        suggestion = cleaned.strip()[:longest].strip() or fallback
        if not value:
            return "it is empty", fallback
        if any(map(_invisible, value)):
            return "leave out line breaks, tabs and other invisible characters", suggestion
        if value != value.strip():
            return "remove the spaces at the ends", suggestion
        if _is_jinja(value):
            return JINJA, suggestion
        if len(value) > longest:
            return f"{len(value)} characters are too many: {longest} fit", suggestion
        return None

    return check


def _is_jinja(text: str) -> bool:
    return re.search(r"\{[%#{]", text) is not None


def _invisible(character: str) -> bool:
    """Tell whether a character can end a line, is not valid UTF-8, or hides or reorders text.

    Controls, line and paragraph separators, surrogates, noncharacters, zero-width spaces and the
    bidirectional controls of CVE-2021-42574. The joiners that emoji are made of may stay.
    """
    code = ord(character)
    return (
        code < 0x20
        or 0x7F <= code <= 0x9F
        or code in {0x061C, 0x200B, 0x200E, 0x200F, 0xFEFF}
        or 0x2028 <= code <= 0x202E
        or 0x2066 <= code <= 0x2069
        or 0xD800 <= code <= 0xDFFF
        or 0xFDD0 <= code <= 0xFDEF
        or code & 0xFFFE == 0xFFFE
    )


CHECKS: dict[str, Callable[[str], Problem | None]] = {
    "project_slug": app_name,
    "description": line(DESCRIPTION_LENGTH, "A FastAPI app that calls Flyte"),
    "author": line(AUTHOR_LENGTH, "Ada Lovelace"),
    "flyte_project": label("flytesnacks"),
    "flyte_domain": label("development"),
    "credential_headers": credential_headers,
}


def corrections(answers: dict[str, str], typed: dict[str, object]) -> Iterator[Correction]:
    """Find every answer that cannot be used.

    Args:
        answers: The rendered answer to each prompt.
        typed: The answers on the command line before cookiecutter rendered them as templates: an
            innocent answer may be the result of running one.
    """
    for key, check in CHECKS.items():
        value = str(answers[key])
        problem = check(value)
        raw = str(typed.get(key, value))
        if raw != value and _is_jinja(raw):
            value, problem = raw, (JINJA, problem[1] if problem else value)
        if problem:
            yield Correction(key, value, *problem)


def command(answers: dict[str, str], *, cruft: bool) -> str:
    """Return the command that generates with these answers, without those that are defaults."""
    try:
        template = json.loads(Path(answers["_repo_dir"], "cookiecutter.json").read_text("utf-8"))
    except (KeyError, OSError, ValueError):  # list all answers
        template = {}
    questions = [key for key in template or answers if not key.startswith("_")]
    given = {key: answers[key] for key in questions if answers[key] != _first(template.get(key))}
    words = ["cruft", "create"] if cruft else ["cookiecutter"]
    if "uv" in Path(sys.prefix).parts:
        words.insert(0, "uvx")
    words += [answers.get("_template", "TEMPLATE"), "--no-input"]
    output = answers.get("_output_dir")
    if output and output != os.environ.get("PWD"):
        words += ["--output-dir", output]
    if cruft:
        words += ["--extra-context", json.dumps(given, ensure_ascii=False)] if given else []
    else:
        words += [f"{key}={value}" for key, value in given.items()]
    return shlex.join(words)


def _first(default: object) -> object:
    return default[0] if isinstance(default, list) else default


def _shown(value: str) -> str:
    if len(value) > 60:
        return f"{value[:60]!r}… ({len(value)} characters)"
    return repr(value)


def _remove_empty_parents(project: Path, output: Path) -> None:
    """Remove the outer folder of a name like ``a/b``; cookiecutter removes only the inner one."""
    os.chdir(output)
    for folder in [project, *project.parents]:
        if output not in folder.parents:
            return
        try:
            folder.rmdir()
        except OSError:
            return


def main() -> int:
    """Print every problem to standard error; return the exit code."""
    found = list(corrections(ANSWERS, TYPED))
    if not found:
        return 0
    many = "these answers" if len(found) > 1 else "this answer"
    print(f"\nNothing was generated. Please change {many}:\n", *found, sep="\n", file=sys.stderr)
    corrected = ANSWERS | {each.key: each.suggestion for each in found}
    print("With the suggested values, the command is:\n", file=sys.stderr)
    print(f"  {command(corrected, cruft=not TYPED)}\n", file=sys.stderr)
    output, project = Path(ANSWERS.get("_output_dir", "")), Path.cwd()
    if ANSWERS.get("_output_dir") and project.parent != output:
        _remove_empty_parents(project, output)
    return 1


if __name__ == "__main__":
    sys.exit(main())
