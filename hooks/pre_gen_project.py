"""Refuse, before anything is written, answers that Python, HTTP or Flyte would refuse later.

Cookiecutter renders this file and runs the copy, so it cannot import anything from the template.
Standard library only, offline, no side effects.
"""

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

# The answers, and those of the command line before they were run as templates (cruft has none).
ANSWERS: dict[str, str] = json.loads(r"""{{ cookiecutter | tojson }}""")
TYPED: dict[str, object] = json.loads(r"""{{ _cookiecutter | default({}) | tojson }}""")

JINJA = r"\{[%#{]"
# Controls, line ends, surrogates and noncharacters, zero-width spaces, and the bidirectional controls
# of CVE-2021-42574. The joiners that emoji are made of may stay.
INVISIBLE = (
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
    r"\ufdd0-\ufdef\ufeff\ufffe\uffff]"
)
DEVICES = r"(?!(aux|con|nul|prn|com[1-9]|lpt[1-9])$)"  # on Windows, no folder has such a name
# What passthrough_auth.py forwards anyway, or never sets on a call to Flyte. A test compares them.
NO_CREDENTIALS = (
    r"authorization|cookie|(content|connect|grpc|proxy)-[^, ]*|accept-encoding|connection|expect"
    r"|host|http2-settings|keep-alive|te|trailer|transfer-encoding|upgrade"
)
HEADER = rf"(?!({NO_CREDENTIALS})(?![^, ]))[-!#$%&'+.^_`|~0-9a-z]+"  # RFC 9110, 5.6.2
TWICE = r"(?!(.*[, ])?(?P<one>[^, ]+) *,(.*[, ])?(?P=one) *(,|$))"


class Question(NamedTuple):
    """A question of cookiecutter.json, which cookiecutter does not pass on, and its answers."""

    prompt: str
    default: str
    valid: str
    reason: str
    clean: Callable[[str], str] = str  # makes a suggestion; if it is not valid, it is the default


def choice(prompt: str, *answers: str) -> Question:
    """Ask for one of these; cookiecutter does not check what a replay file answers."""
    valid = "|".join(map(re.escape, answers))
    return Question(prompt, answers[0], valid, f"choose one of: {', '.join(answers)}")


# A line that TOML, YAML, Markdown and Python can contain unchanged.
LINE = (
    r"(?!\s)(?!.*" + JINJA + ")((?!" + INVISIBLE + r").){1,100}(?<!\s)",
    "use 1 to 100 characters in one line, none of them invisible and no space at the ends;"
    " two braces, or a brace with % or #, would be run as a template",
    lambda it: re.sub(INVISIBLE + r"|\{+(?=[%#{])", "", it).strip()[:100].strip(),
)
# Names in Kubernetes contain it (RFC 1123).
LABEL = (
    r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
    "use 1 to 63 lower-case letters, digits and dashes, with no dash at either end",
    lambda it: re.sub(r"[^a-z0-9]+", "-", it.lower()).strip("-")[:63].strip("-"),
)


def header_names(text: str) -> str:
    """Return the names that can be used, or be made so, without those that cannot."""
    names = [each.partition(":")[0] for each in text.split(",")]  # "X-Api-Key: its value"
    made = [re.sub(r"[^!#$%&'+.^_`|~0-9A-Za-z]+", "-", name).strip("-") for name in names]
    usable = {name.lower(): name for name in made if re.fullmatch(rf"(?ai){HEADER}", name)}
    return ", ".join(usable.values())


QUESTIONS = {
    "project_slug": Question(
        "Name of the app and its folder",
        "my-flyte-app",
        DEVICES + r"(?=.{1,30}$)[a-z][a-z0-9]*(-[a-z0-9]+)*",
        "use 1 to 30 lower-case letters and digits, with single dashes between them; begin with a"
        " letter; it cannot be a device on Windows, such as con",
        lambda it: LABEL[2](it).lstrip("-0123456789")[:30].strip("-"),
    ),
    "description": Question(
        "What the app does, in one line",
        "A FastAPI app whose calls to Flyte carry its callers' credentials",
        *LINE,
    ),
    "author": Question("Author, for pyproject.toml and the licence", "Your Name", *LINE),
    "flyte_project": Question("Flyte project", "flytesnacks", *LABEL),
    "flyte_domain": Question("Flyte domain", "development", *LABEL),
    "python_version": choice(
        "Python version of the container image", "3.13", "3.11", "3.12", "3.14"
    ),
    "credential_headers": Question(
        "Credential headers besides Authorization and Cookie (comma-separated, or empty)",
        "",
        rf"(?ai){TWICE}({HEADER}( *, *{HEADER})*)?",
        "use names of headers, without spaces or values, with commas between them, each once; Authorization"
        " and Cookie are credentials already; headers such as Host describe the message, not the caller",
        header_names,
    ),
    "page": choice("Web page for people to run tasks and watch runs", "yes", "no"),
    "agents": choice("Endpoints as tools for AI agents (MCP)", "yes", "no"),
    "license": choice("Licence", "Apache-2.0", "MIT", "BSD-3-Clause", "none"),
    "ci": choice("Continuous integration", "GitHub Actions", "GitLab CI", "none"),
}


def problems(answers: dict[str, str], typed: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the name of each answer that cannot be used, and what to say: it suggests another."""
    for key, question in QUESTIONS.items():
        given = str(typed.get(key, ""))
        value = given if re.search(JINJA, given) else answers[key]
        if not re.fullmatch(question.valid, value):
            clean = question.clean(answers[key])
            suggestion = clean if re.fullmatch(question.valid, clean) else question.default
            more = f"… ({len(value)} characters)" if len(value) > 60 else ""
            reason = question.reason if value else f"it may not be empty; {question.reason}"
            told = f"  {question.prompt}: {value[:60]!r}{more}\n      {reason}."
            yield key, f"{told}\n      Try: {suggestion or 'no header'}\n"
    escaped = {key: re.sub(r'(["\\])', r"\\\1", answers[key]) for key in ("description", "author")}
    private = {f"__{key}_escaped": value for key, value in escaped.items()}
    private["__license_expression"] = re.sub("^none$", "LicenseRef-Proprietary", answers["license"])
    for key, value in private.items():
        if answers[key] != value:
            yield key, f"  {key}: leave it out; the template makes it from the answers.\n"


def unknown(answers: dict[str, str], words: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the same for each answer to no question, which cookiecutter ignores silently.

    Args:
        answers: The answers to the questions.
        words: The words of the command line: ``name=value`` for cookiecutter, JSON for cruft.
    """
    if not any(Path(word).name in {"cookiecutter", "cruft"} for word in words[:3]):
        return  # a program that calls cookiecutter
    names: list[str] = []
    for word in words:
        if word.startswith("{"):
            with contextlib.suppress(ValueError, TypeError):
                names += json.loads(word)
        elif pair := re.fullmatch(r"([A-Za-z]\w*)=.*", word, re.DOTALL):
            names.append(pair[1])
    for name in names:
        if name not in answers:
            yield name, f"  {name}: there is no such question, only {', '.join(QUESTIONS)}.\n"


def words_of_the_command() -> list[str]:
    """Return the command line of the program that runs this hook, where ``/proc`` shows it."""
    try:
        line = Path(f"/proc/{os.getppid()}/cmdline").read_bytes()
    except OSError:  # not on Linux
        return []
    return line.decode(errors="replace").split("\0")


def remove_folders_of(slug: str) -> None:
    """Remove the folders that cookiecutter has made for a name with slashes, if they are empty."""
    names = slug.split("/")
    if len(names) > 1 and not {"", ".", ".."} & {*names}:
        here = Path.cwd()
        os.chdir(here.parents[len(names) - 1])
        with contextlib.suppress(OSError):
            for folder in (here, *here.parents[: len(names) - 1]):
                folder.rmdir()


if __name__ == "__main__":
    found = [*problems(ANSWERS, TYPED), *unknown(ANSWERS, words_of_the_command())]
    if found:
        told = "\n".join(message for _, message in found)
        remove_folders_of(ANSWERS["project_slug"])
        sys.exit(
            f"\nNothing was generated. Please change:\n\n{told}\n"
            "What follows is cookiecutter saying that it stopped; it adds nothing to the above.\n"
        )
