"""Finds the functions of a folder that no request has executed."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path


def unexecuted_functions(folder: Path, lines: Mapping[str, Iterable[int]]) -> list[str]:
    """Return ``file: names`` for each file with functions that were not executed.

    Args:
        folder: The folder with the Python files.
        lines: The numbers of the executed lines, by the absolute path of the file.
    """
    result = []
    for file in sorted(folder.rglob("*.py")):
        executed = {*lines.get(str(file), ())}
        functions = _functions(ast.parse(file.read_text("utf-8")))
        if names := [name for name, body in functions if executed.isdisjoint(body)]:
            result.append(f"{file.relative_to(folder.parent)}: {', '.join(names)}")
    return result


def _functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, range]]:
    """Yield the name of each function, and the lines of its body.

    Omit tasks, because the processes of tasks execute them, and functions without statements.
    """
    for child in ast.iter_child_nodes(node):
        name = f"{prefix}{getattr(child, 'name', '')}"
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            body = child.body[1:] if ast.get_docstring(child, clean=False) else child.body
            is_task = any(
                ast.unparse(one).split("(")[0].endswith(".task") for one in child.decorator_list
            )
            if body and not is_task:
                yield name, range(body[0].lineno, (child.end_lineno or 0) + 1)
            yield from _functions(child, f"{name}.")
        else:
            yield from _functions(child, f"{name}." if isinstance(child, ast.ClassDef) else prefix)
