"""Refuse, before anything is written, answers that Python, HTTP or Flyte would refuse later.

Cookiecutter renders this file and runs the copy, so it cannot import anything from the template.
Standard library only, offline, no side effects.
"""

import json
import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

ANSWERS: dict[str, str] = json.loads(r"""{{ cookiecutter | tojson }}""")

HEADER = r"(?!(authorization|cookie)(?![^, ]))[-!#$%&'+.^_`|~0-9a-z]+"  # RFC 9110, 5.6.2


class Rule(NamedTuple):
    """The answers that a question accepts, and the same in words, as its prompt says it."""

    valid: str
    words: str


def choice(*answers: str) -> Rule:
    """Accept one of these; cookiecutter does not check what a replay file answers."""
    return Rule("|".join(map(re.escape, answers)), f"one of: {', '.join(answers)}")


# A line that TOML, YAML, Markdown and Python can contain unchanged.
LINE = Rule(
    r"(?!\s)(?!.*\{[%#{])[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,100}(?<!\s)",
    "1 to 100 characters in one line, no template syntax",
)
# Names in Kubernetes contain it (RFC 1123).
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
    """Yield the name of each answer that cannot be used, and what to say."""
    for key, rule in RULES.items():
        value = answers[key]
        if not re.fullmatch(rule.valid, value):
            more = f"… ({len(value)} characters)" if len(value) > 60 else ""
            yield key, f"  {key}: {value[:60]!r}{more}\n      It must be {rule.words}.\n"


if __name__ == "__main__":
    if told := "\n".join(message for _, message in problems(ANSWERS)):
        sys.exit(
            f"\nNothing was generated. Please change:\n\n{told}\n"
            "What follows is cookiecutter saying that it stopped; it adds nothing to the above.\n"
        )
