"""Finds containers of the app's modules that a function changes: they outlive a request."""

import ast
from collections.abc import Iterator
from pathlib import Path

ALLOWED = "# shared: "
"""How the comment begins that allows a container, on the line that creates it, with a reason."""
CONTAINERS = {"dict", "list", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict"}
CONTAINERS |= {"SimpleNamespace", "WeakKeyDictionary", "WeakValueDictionary", "WeakSet"}
CHANGES = {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem"}
CHANGES |= {"popleft", "remove", "setdefault", "update", "subtract", "reverse", "sort"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
CREATE = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)


def changed_containers(folder: Path) -> list[str]:
    """Return file, line and name of each container that a function changes, without a comment."""
    files = sorted(folder.rglob("*.py"))
    trees = {file: ast.parse(file.read_text("utf-8"), str(file)) for file in files}
    lines = {file: file.read_text("utf-8").splitlines() for file in files}
    allowed, created = set[str](), set[str]()
    for file, tree in trees.items():
        for name, line in _containers(tree):
            (allowed if ALLOWED in lines[file][line - 1] else created).add(name)
    return [
        f"{file.relative_to(folder.parent)}:{line}: {name}"
        for file, tree in trees.items()
        for line, name in sorted({*_changes(tree)})
        if name in created - allowed
    ]


def _name(node: ast.expr) -> str:
    """Return the last part of a name, such as ``CACHE`` of ``store.CACHE``."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return getattr(node, "id", getattr(node, "attr", ""))


def _containers(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield the name and line of each container that a module creates, or a class in it."""
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    for node in (node for body in bodies for node in body):
        if isinstance(node, ast.Assign | ast.AnnAssign) and (value := node.value):
            called = _name(value.func) if isinstance(value, ast.Call) else ""
            if isinstance(value, CREATE) or called in CONTAINERS or called.endswith("Cache"):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from ((_name(target), node.lineno) for target in targets)


def _changes(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and name of whatever a function changes, unless it is a local variable."""
    for function in (node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)):
        nodes = [*ast.walk(function)]
        local = {node.arg for node in nodes if isinstance(node, ast.arg)}
        local |= {
            node.id
            for node in nodes
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        for node in nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                target, changes = node.func.value, node.func.attr in CHANGES
            elif isinstance(node, ast.Subscript | ast.Attribute):
                target, changes = node.value, not isinstance(node.ctx, ast.Load)
            else:
                continue
            if changes and not (isinstance(target, ast.Name) and target.id in local):
                yield node.lineno, _name(target)
