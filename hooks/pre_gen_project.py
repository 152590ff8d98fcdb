"""Validate the answers before cookiecutter writes any file.

Python, HTTP or Flyte would refuse invalid answers later. Cookiecutter runs a rendered copy of this
file, so the hook cannot import from the template. It uses only the standard library, works offline,
and has no side effects.
"""

import json
import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

ANSWERS: dict[str, str] = json.loads(r"""{{ cookiecutter | tojson }}""")

# The name of an HTTP header (RFC 9110, 5.6.2), except Authorization and Cookie.
HEADER = r"(?!(authorization|cookie)(?![^, ]))[-!#$%&'+.^_`|~0-9a-z]+"


class Rule(NamedTuple):
    """The valid answers to a question, as a regular expression and in the words of the prompt."""

    valid: str
    words: str


def choice(*answers: str) -> Rule:
    """Accept one of the given answers, because cookiecutter does not validate a replay file."""
    return Rule("|".join(map(re.escape, answers)), f"one of: {', '.join(answers)}")


# One line of text that is valid unchanged in TOML, YAML, Markdown and Python.
LINE = Rule(
    r"(?!\s)(?!.*\{[%#{])[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,100}(?<!\s)",
    "1 to 100 characters in one line, no template syntax",
)
# Flyte uses these values in Kubernetes names (RFC 1123).
LABEL = Rule(
    "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", "1 to 63 lower-case letters, digits and inner dashes"
)
RULES = {
    "project_slug": Rule(
        r"(?=.{1,30}$)[a-z][a-z0-9]*(-[a-z0-9]+)*",
        "1 to 30 lower-case letters, digits and single dashes, a letter first",
    ),
    "description": LINE,
    "author": LINE,
    "flyte_project": LABEL,
    "flyte_domain": LABEL,
    "python_version": choice("3.13", "3.11", "3.12", "3.14"),
    "credential_headers": Rule(
        rf"(?ai)({HEADER}( *, *{HEADER})*)?",
        "names with commas between them, or nothing; not Authorization or Cookie",
    ),
    "page": choice("yes", "no"),
    "agents": choice("yes", "no"),
    "license": choice("Apache-2.0", "MIT", "BSD-3-Clause", "none"),
    "ci": choice("GitHub Actions", "GitLab CI", "none"),
}


def problems(answers: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the name of each invalid answer, and the message to print."""
    for key, rule in RULES.items():
        value = answers[key]
        if not re.fullmatch(rule.valid, value):
            more = f"… ({len(value)} characters)" if len(value) > 60 else ""
            yield key, f"  {key}: {value[:60]!r}{more}\n      It must be {rule.words}.\n"


if __name__ == "__main__":
    if messages := "\n".join(message for _, message in problems(ANSWERS)):
        sys.exit(
            f"\nNothing was generated. Please change:\n\n{messages}\n"
            "The traceback of cookiecutter below only says that the hook has stopped.\n"
        )
