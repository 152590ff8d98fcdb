"""Finds module-level dicts, lists and other containers that functions change.

The app could leak data of one request to another request in such a container.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ALLOWED = "# shared: "
"""Prefix of a comment that permits functions to change a list, a dict or another container.

The reason for the permission follows the prefix.
"""
CONTAINERS = {"dict", "list", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict"}
CONTAINERS |= {"SimpleNamespace", "WeakKeyDictionary", "WeakValueDictionary", "WeakSet"}
CHANGES = {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem"}
CHANGES |= {"popleft", "remove", "setdefault", "update", "subtract", "reverse", "sort"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
CREATE = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)


def changed_containers(folder: Path) -> list[str]:
    """Return file, line and name of each change that no `ALLOWED` comment permits."""
    trees = {file: ast.parse(file.read_text("utf-8")) for file in sorted(folder.rglob("*.py"))}
    containers = {file: _containers(tree, file) for file, tree in trees.items()}
    forbidden = {name for names in containers.values() for name in names if not names[name]}
    return [
        f"{file.relative_to(folder.parent)}:{line}: {name}"
        for file, tree in trees.items()
        for line, name in sorted({*_changes(tree)})
        if not containers[file].get(name, name not in forbidden)
    ]


def _containers(tree: ast.Module, file: Path) -> dict[str, bool]:
    """Map the name of each container to True if an `ALLOWED` comment permits changes."""
    lines, names = file.read_text("utf-8").splitlines(), dict[str, bool]()
    bodies = {"": tree.body}
    bodies |= {f"{node.name}.": node.body for node in tree.body if isinstance(node, ast.ClassDef)}
    for prefix, node in ((prefix, node) for prefix, body in bodies.items() for node in body):
        if isinstance(node, ast.Assign | ast.AnnAssign) and _is_container(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                names[prefix + _names(target)[-1]] = ALLOWED in lines[node.lineno - 1]
    return names


def _is_container(value: ast.expr | None) -> bool:
    called = _names(value.func)[-1] if isinstance(value, ast.Call) else ""
    return isinstance(value, CREATE) or called in CONTAINERS or called.endswith("Cache")


def _names(node: ast.expr) -> list[str]:
    """Return the names of a variable or attribute, such as ``Class.NAME`` and ``NAME``."""
    while isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return [f"{node.value.id}.{node.attr}", node.attr]  # Class.NAME, or module.NAME
    return [node.id if isinstance(node, ast.Name) else ""]


def _changes(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name wherever a function changes a variable that is not local."""
    for function in (node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)):
        nodes = [*ast.walk(function)]
        local = {node.arg for node in nodes if isinstance(node, ast.arg)}
        names = [node for node in nodes if isinstance(node, ast.Name)]
        local |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
        for node in nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                target, changes = node.func.value, node.func.attr in CHANGES
            elif isinstance(node, ast.Subscript | ast.Attribute):
                target, changes = node.value, not isinstance(node.ctx, ast.Load)
            else:
                continue
            targets = _names(target)
            if changes and targets[0].partition(".")[0] not in local:
                yield from ((node.lineno, name) for name in targets)
