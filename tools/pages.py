"""Generate tables of Markdown pages from code, and from the data in ``docs/tables/``.

Tests read the code and the data, but not the pages. A generated table stands between
``<!-- made by tools/pages.py: NAME -->`` and ``<!-- end -->``. ``python tools/pages.py`` updates
all tables; a test fails if a table is not current.
"""

import ast
import inspect
import math
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from template import ROOT, tracked_files

PROJECT = ROOT / "{{cookiecutter.project_slug}}"
OWN_DEFAULTS = {
    "flyte_endpoint": "injected",
    "flyte_org": "injected",
    "flyte_project": "injected, or `{{ cookiecutter.flyte_project }}`",
    "flyte_domain": "injected, or `{{ cookiecutter.flyte_domain }}`",
    "credential_headers": '`{{ cookiecutter.credential_headers or "none" }}`',
}
"""Defaults that come from Flyte, or from the answers in ``app/settings.py``."""
LIMITS_AMONG_SETTINGS = {"max_body_size", "max_concurrent_requests_per_caller"}


def fields(file: Path, class_name: str) -> Iterator[tuple[str, ast.expr, str]]:
    """Yield the name, the default and the docstring of each field of a class."""
    tree = ast.parse(file.read_text("utf-8"))
    (class_,) = (
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name
    )
    for field, after in zip(class_.body, [*class_.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or not field.value:
            continue
        docstring = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            docstring = inspect.cleandoc(str(after.value.value))
        yield ast.unparse(field.target), field.value, docstring


def cell(docstring: str) -> str:
    """Return a docstring as one line of Markdown."""
    return re.sub(r"\s+", " ", docstring).replace("``", "`").strip().replace("|", r"\|")


def table(header: str, rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table; ``header`` is the first line."""
    lines = [header, "|" + "---|" * (header.count("|") - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def settings() -> str:
    """Return the table of all settings."""
    rows = []
    for field, value, docstring in fields(PROJECT / "passthrough/settings.py", "Settings"):
        if field in {"limits", "flyte_plaintext"}:
            continue
        default = value
        if isinstance(value, ast.Call):
            (default,) = (keyword.value for keyword in value.keywords if keyword.arg == "default")
        text = OWN_DEFAULTS.get(field) or default_of(default)
        meaning = cell(docstring)
        if field in LIMITS_AMONG_SETTINGS:  # the page on limits has the rest
            meaning = f"{meaning.partition('. ')[0]}. See [limits](limits.md#all-limits)."
        rows.append((f"`{field.upper()}`", meaning, text))
    return table("| Variable | Meaning | Default |", rows)


def default_of(default: ast.expr) -> str:
    """Return a default value as Markdown."""
    text = f"{number_of(default):,}" if isinstance(default, ast.BinOp) else ast.unparse(default)
    if text in {"None", "()"}:
        return "none"
    if text == "SIGN_IN_COOKIES":
        return "Flyte's sign-in"
    text = text.strip("'")
    return f"`{text.lower() if text in {'True', 'False'} else text.removesuffix('.0')}`"


def number_of(default: ast.expr) -> float:
    """Return a number that may be written as a product, such as ``64 * 1024``."""
    factors: list[float] = [ast.literal_eval(text) for text in ast.unparse(default).split(" * ")]
    return math.prod(factors)


def limits() -> str:
    """Return the table of all limits: two settings, and the fields of `Limits`."""
    rows = []
    for field, value, docstring in fields(PROJECT / "passthrough/settings.py", "Settings"):
        if field in LIMITS_AMONG_SETTINGS and isinstance(value, ast.Call):
            (default,) = (keyword.value for keyword in value.keywords if keyword.arg == "default")
            rows.append((f"`{field.upper()}`", f"{number_of(default):,}", cell(docstring)))
    for field, value, docstring in fields(PROJECT / "passthrough/limits.py", "Limits"):
        rows.append((f"`{field}`", f"{number_of(value):,}", cell(docstring)))
    return table("| Limit | Default | Meaning |", rows)


def data(name: str) -> Any:
    """Return the content of a file in ``docs/tables/``."""
    return tomllib.loads((ROOT / "docs/tables" / f"{name}.toml").read_text("utf-8"))


def code(text: str) -> str:
    """Return a text as Markdown code, or an empty string."""
    return f"`{text}`" if text else ""


def calls() -> str:
    """Return the table of requests by the number of calls to Flyte."""
    requests: dict[int, list[str]] = {}
    for row in data("calls")["rows"]:
        state = ": ".join(row[key] for key in ("run", "with") if key in row)
        request = code(row["request"]) + (f" ({state})" if state else "")
        requests.setdefault(len(row["calls"]), []).append(request)
    rows = ((str(number), ", ".join(texts)) for number, texts in sorted(requests.items()))
    return table("| calls | requests |", rows)


def faults() -> str:
    """Return the table of responses while Flyte has a fault."""
    rows = ((row["fault"], str(row["answer"])) for row in data("faults")["rows"])
    return table("| Fault of Flyte or the connection | Status |", rows)


def values() -> str:
    """Return the table of conversions of values."""
    rows = []
    for row in data("values")["rows"]:
        refused = f"refused: {row['refused']}" if "refused" in row else ""
        arrives = refused or code(row["arrives"])
        rows.append((row["type"], code(row["sent"]), arrives, code(row.get("shown", ""))))
    return table("| Type | Sent | Arrives in the task as | Shown, if not as sent |", rows)


def first_deployment() -> str:
    """Return the table of messages that a first deployment may print."""
    rows = data("first_deployment")["rows"]
    return table("| message | meaning | what to do |", (tuple(row.values()) for row in rows))


def removing_features() -> str:
    """Return the table of files and lines to delete for each feature."""
    rows = []
    for row in data("removing_features")["rows"]:
        lines = (f"`{file}`: `{text}`" for file, text in row.get("lines", {}).items())
        rows.append((row["feature"], ", ".join(map(code, row["delete"])), "; ".join(lines)))
    return table("| Feature | Files to delete | Lines to delete (file: text in the line) |", rows)


def flyte_remote() -> str:
    """Return the table of differences from Flyte's documentation."""
    rows = data("flyte_remote")["rows"]
    return table(
        "| name | |", ((", ".join(map(code, row["names"])), row["difference"]) for row in rows)
    )


def copies() -> str:
    """Return the table of files to copy, and their requirements."""
    copying = data("copying")
    rows = [(", ".join(map(code, copying[key])) for key in ("copies", "needs"))]
    return table("| Files to copy | Requirements |", map(tuple, rows))


def sdk_findings() -> str:
    """Return the table of the worst findings about the SDK, each with a script."""
    rows = []
    for number, row in enumerate(data("sdk_findings")["rows"], 1):
        if row["severity"] in {"critical", "high"}:
            script = f"[{number}](sdk-findings/{row['script']})"
            rows.append((script, row["what"], row["severity"]))
    return table("| | Defect | Severity |", rows)


def works_with() -> str:
    """Return the table of Python and package versions that the middleware supports."""
    rows = (tuple(row.values()) for row in data("copying")["works_with"])
    return table("| Supported | from | to |", rows)


def versions() -> str:
    """Return the table of the middleware's versions, each with the hash of the file."""
    rows = ((row["version"], code(row["sha256"])) for row in data("copying")["versions"])
    return table("| Version | SHA-256 |", rows)


FROM_CODE = [settings, limits]
FROM_DATA = [calls, copies, faults, first_deployment, flyte_remote, removing_features, sdk_findings]
FROM_DATA += [values, versions, works_with]
TABLES = {function.__name__: function for function in FROM_CODE + FROM_DATA}
TABLE = re.compile(r"(<!-- made by tools/pages.py: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
PAGES = [path for path in tracked_files() if path.suffix == ".md"]


def written(page: str) -> str:
    """Return a page with current tables."""
    return TABLE.sub(lambda match: f"{match[1]}\n{TABLES[match[2]]()}\n\n{match[3]}", page)


if __name__ == "__main__":
    for path in PAGES:
        page = (ROOT / path).read_text("utf-8")
        if page != written(page):
            (ROOT / path).write_text(written(page), "utf-8")
            print(f"wrote {path}")
