"""Refuses, before anything is written, answers that Python, HTTP or Flyte would refuse later.

Cookiecutter renders this file and runs the copy, so it can import nothing of the template's.
Standard library only, offline, no side effects except the one named in ``main``.
"""

import json
import keyword
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# What was answered, and (cookiecutter tells, cruft does not) what was typed on the command line.
ANSWERS: dict[str, str] = json.loads(r"""{{ cookiecutter | tojson }}""")
TYPED: dict[str, object] = json.loads(r"""{{ _cookiecutter | default({}) | tojson }}""")

# The words of each prompt, as cookiecutter.json asks them: cookiecutter does not pass them on.
PROMPTS = {
    "project_slug": "App name (its name on Flyte, and of its folder)",
    "description": "What the app does, in one line",
    "author": "Author (named in pyproject.toml and in the licence)",
    "flyte_project": "Flyte project",
    "flyte_domain": "Flyte domain",
    "credential_headers": "Headers that are credentials, besides Authorization and Cookie (comma-separated, or empty)",
}

# flyteidl2.app.Identifier.name and flyteidl2.app.Profile.short_description.
APP_NAME_LENGTH = 30
DESCRIPTION_LENGTH = 100
# RFC 1123 label; the longest project and domain that flyteidl2's identifiers take.
LABEL_LENGTH = 63
AUTHOR_LENGTH = 100

# A package of one of these names would hide, or be hidden by, a module that the app needs.
OUR_MODULES = frozenset({"deployment", "local_flyte", "noxfile", "tests"})
DEPENDENCIES = frozenset(
    """
    aiofiles aiolimiter annotated_doc annotated_types anyio argcomplete ast_serialize async_lru
    asyncssh attr attrs backports buf certifi cffi charset_normalizer click cloudpickle colorlog
    connect connectrpc cryptography dependency_groups distlib docstring_parser dotenv fastapi
    filelock flyte flyteidl flyteidl2 fsspec google googleapis_common_protos grpc grpcio h11
    hatchling httpcore httptools httpx humanize idna importlib_metadata iniconfig jaraco jeepney
    jinja2 keyring lazy_importer librt markdown_it markdown_it_py mashumaro mdurl more_itertools
    msgpack mypy mypy_extensions mypyc nox obstore opentelemetry opentelemetry_api openssl
    packaging pathspec pip pkg_resources platformdirs pluggy protobuf protobuf_ext protobuf_py
    protobuf_py_ext protobuf_py_pure protoc_gen_openapiv2 protovalidate py pycparser pydantic
    pydantic_core pydantic_settings pygments pyopenssl pyqwest pytest python_dotenv pyyaml
    requests rich rich_click ruff secretstorage sentry_sdk setuptools starlette toml trustme
    types_protobuf typing_extensions typing_inspection urllib3 uv uvicorn uvloop virtualenv watchfiles
    websockets wheel yaml zipp
    """.split()
)
# Names that Windows keeps for devices: no folder can be called so there.
DEVICES = frozenset({"aux", "con", "nul", "prn"}) | {
    f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)
}

# What the app forwards already; what belongs to one connection (RFC 9110 7.6.1); what frames or
# addresses a message; and what the protocol between the app and Flyte sets itself.
ALREADY_FORWARDED = frozenset({"authorization", "cookie"})
NEVER_FORWARDED = frozenset(
    {
        "accept-encoding",
        "connection",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
NEVER_FORWARDED_PREFIXES = ("connect-", "content-", "grpc-")

# A problem is what is wrong with the value, and a value that would work.
Problem = tuple[str, str]
JINJA = "two braces, or a brace with % or #, would be run as a template"


def app_name(value: str) -> Problem | None:
    """An app name is a DNS label that Flyte takes and, with ``_`` for ``-``, a package name."""
    words = re.findall(r"[a-z0-9]+", value.lower())
    name = re.sub(r"^[0-9-]+", "", "-".join(words))[:APP_NAME_LENGTH].rstrip("-")
    if not name or _reserved(name):
        name = f"my-{name}"[:APP_NAME_LENGTH].rstrip("-") if name else "my-flyte-app"
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", value):
        return "use lower-case letters and digits, with single dashes between them", name
    if value[0].isdigit():
        return "begin with a letter: a Python package cannot be named otherwise", name
    if len(value) > APP_NAME_LENGTH:
        return f"{len(value)} characters are too many: Flyte takes {APP_NAME_LENGTH}", name
    if reason := _reserved(value):
        return reason, name
    return None


def _reserved(name: str) -> str | None:
    package = name.replace("-", "_")
    if keyword.iskeyword(package):
        return f"{package!r} is a word of the Python language, so no package can have that name"
    if package in sys.stdlib_module_names or package == "test":  # the one it does not list
        return f"{package!r} is a module of Python's standard library, which it would hide"
    if package in DEPENDENCIES:
        return f"{package!r} is a package that the app depends on, which it would hide"
    if package in OUR_MODULES:
        return f"{package!r} is already the name of something else in the project"
    if package in DEVICES:
        return f"{package!r} is a device on Windows, where no folder can have that name"
    return None


def label(fallback: str) -> Callable[[str], Problem | None]:
    """Flyte's project and domain become parts of Kubernetes names: RFC 1123 labels."""

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
    """Header names (RFC 9110 tokens) that may be sent on to Flyte, each once."""
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
        return "there is a comma too many"
    if not re.fullmatch(r"[-!#$%&'*+.^_`|~0-9A-Za-z]{1,100}", name):
        return f"{shown} is not the name of a header (RFC 9110, 5.6.2)"
    lower = name.lower()
    if lower in ALREADY_FORWARDED:
        return f"{shown} is a credential already"
    if lower in NEVER_FORWARDED or lower.startswith(NEVER_FORWARDED_PREFIXES):
        return f"{shown} describes the connection or the message, not the caller"
    if lower in {other.lower() for other in seen}:
        return f"{shown} is there twice"
    return None


def line(longest: int, fallback: str) -> Callable[[str], Problem | None]:
    """One line of text that TOML, YAML, Markdown and Python can hold as it is."""

    def check(value: str) -> Problem | None:
        cleaned = re.sub(r"\{+(?=[%#{])", "", "".join(c for c in value if not _invisible(c)))
        suggestion = cleaned.strip()[:longest].strip() or fallback
        if not value:
            return "it is empty", fallback
        if any(map(_invisible, value)):
            return "leave out line breaks, tabs and other invisible characters", suggestion
        if value != value.strip():
            return "leave out the blanks at the ends", suggestion
        if _is_jinja(value):
            return JINJA, suggestion
        if len(value) > longest:
            return f"{len(value)} characters are too many: {longest} fit", suggestion
        return None

    return check


def _is_jinja(text: str) -> bool:
    return re.search(r"\{[%#{]", text) is not None


def _invisible(character: str) -> bool:
    """Whether it ends a line somewhere, cannot be written as UTF-8, or hides or reorders text.

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


def problems(answers: dict[str, str], typed: dict[str, object]) -> Iterator[str]:
    """Say, for every answer that cannot be used, what is wrong with it and what would work.

    Args:
        answers: The rendered answer to each prompt.
        typed: The same as they came from the command line, before cookiecutter rendered them as
            templates: what looks like an answer may be the result of running one.
    """
    for key, check in CHECKS.items():
        value = str(answers[key])
        problem = check(value)
        raw = str(typed.get(key, value))
        if raw != value and _is_jinja(raw):
            value, problem = raw, (JINJA, problem[1] if problem else value)
        if problem:
            wrong, suggestion = problem
            yield f"  {PROMPTS[key]}: {_shown(value)}\n      {wrong}.\n      Try: {suggestion}\n"


def _shown(value: str) -> str:
    if len(value) > 60:
        return f"{value[:60]!r}… ({len(value)} characters)"
    return repr(value)


def _remove_empty_parents(project: Path, output: Path) -> None:
    """Cookiecutter removes the folder it made, but a name like ``a/b`` made it make two."""
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
    found = list(problems(ANSWERS, TYPED))
    if not found:
        return 0
    many = "these answers" if len(found) > 1 else "this answer"
    print(f"\nNothing was generated. Please change {many}:\n", *found, sep="\n", file=sys.stderr)
    output, project = Path(ANSWERS.get("_output_dir", "")), Path.cwd()
    if ANSWERS.get("_output_dir") and project.parent != output:
        _remove_empty_parents(project, output)
    return 1


if __name__ == "__main__":
    sys.exit(main())
