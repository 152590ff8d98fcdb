"""Write the tables of the project's pages that are made from its code: settings, and limits.

``python tools/pages.py`` writes them anew; a test fails if that changes a page.
"""

import ast
import inspect
import math
import re
from collections.abc import Iterator
from pathlib import Path

from template import ROOT

PROJECT = ROOT / "{{cookiecutter.project_slug}}"
OWN_DEFAULTS = {
    "flyte_project": "injected, or `{{ cookiecutter.flyte_project }}`",
    "flyte_domain": "injected, or `{{ cookiecutter.flyte_domain }}`",
    "credential_headers": '`{{ cookiecutter.credential_headers or "none" }}`',
}
"""Defaults that ``app/settings.py`` has from the questions."""


def fields(file: Path, class_name: str) -> Iterator[tuple[str, ast.expr, str]]:
    """Yield the name, the default and the docstring of each field of a class."""
    tree = ast.parse(file.read_text("utf-8"))
    (found,) = (
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name
    )
    for field, after in zip(found.body, [*found.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or not field.value:
            continue
        docstring = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            docstring = inspect.cleandoc(str(after.value.value))
        yield ast.unparse(field.target), field.value, docstring


def cell(docstring: str) -> str:
    """Return a docstring as one line of Markdown."""
    return re.sub(r"\s+", " ", docstring).replace("``", "`").strip().replace("|", r"\|")


def settings() -> str:
    """Return the table of all settings."""
    rows = ["| Variable | Meaning | Default |", "|---|---|---|"]
    for field, value, docstring in fields(PROJECT / "passthrough/settings.py", "Settings"):
        if not isinstance(value, ast.Call) or ast.unparse(value.func) != "setting":
            continue
        names = [ast.literal_eval(name) for name in value.args]
        if names[0].startswith("_"):
            continue
        (default,) = (keyword.value for keyword in value.keywords if keyword.arg == "default")
        shown = OWN_DEFAULTS.get(field) or ("injected" if len(names) > 1 else default_of(default))
        rows.append(f"| `{names[0]}` | {cell(docstring)} | {shown} |")
    return "\n".join(rows)


def default_of(default: ast.expr) -> str:
    """Return a default as a table shows it."""
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
    """Return the table of all limits."""
    rows = ["| `Limits` | Default | |", "|---|---|---|"]
    for name, default, docstring in fields(PROJECT / "passthrough/limits.py", "Limits"):
        rows.append(f"| `{name}` | {number_of(default):,} | {cell(docstring)} |")
    return "\n".join(rows)


TABLES = {"settings.md": settings, "limits.md": limits}
"""The pages in ``docs/`` of the project, each with one table from its code."""


def written(page: str, table: str) -> str:
    """Return a page with its table between the two comments."""
    begin, end = "<!-- made by tools/pages.py -->", "<!-- end -->"
    before, rest = page.split(begin)
    return f"{before}{begin}\n\n{table}\n\n{end}{rest.split(end)[1]}"


if __name__ == "__main__":
    for name, table in TABLES.items():
        path = PROJECT / "docs" / name
        path.write_text(written(path.read_text("utf-8"), table()), "utf-8")
