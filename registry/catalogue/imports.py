"""Files a module was made from: those of what it imports, and of what that imports in turn.

Owns how they are found, among what this process has loaded; nothing is imported or run here.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

_OURS = "registry"
_INSTALLED = ("site-packages", "dist-packages")


def imported_files(modules: Iterable[ModuleType]) -> list[Path]:
    """Return the files of all that modules import, directly or not, their own left out.

    The standard library and this package are left out too. Of an installed package its first file alone counts, which
    another version replaces: what lies behind it is not followed.
    """
    waiting = list(modules)
    seen = {id(module) for module in waiting}
    found: set[Path] = set()
    while waiting:
        for module in _imported_by(waiting.pop()):
            if id(module) in seen:
                continue
            seen.add(id(module))
            file = _file(module)
            if file is None or (_is_installed(file) and "." in module.__name__):
                continue
            found.add(file)
            if not _is_installed(file):
                waiting.append(module)
    return sorted(found)


def _imported_by(module: ModuleType) -> Iterator[ModuleType]:
    """Yield the loaded modules that import statements anywhere in a module's source name."""
    file = _file(module)
    if file is None or file.suffix != ".py":
        return
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # taken away or rewritten since it was imported
        return
    for node in ast.walk(tree):
        for name in _names(node, module.__spec__.parent if module.__spec__ else ""):
            parts = name.split(".")
            if parts[0] == _OURS or parts[0] in sys.stdlib_module_names:
                continue
            for end in range(1, len(parts) + 1):
                known = sys.modules.get(".".join(parts[:end]))
                if known is not None:
                    yield known


def _names(node: ast.AST, package: str | None) -> list[str]:
    """Return what an import statement may name: `from a import b` may mean the module a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        try:
            base = importlib.util.resolve_name("." * node.level + base, package or None)
        except ImportError:
            return []
    return [f"{base}.{alias.name}" for alias in node.names]


def _file(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if isinstance(file, str) else None


def _is_installed(file: Path) -> bool:
    return any(part in _INSTALLED for part in file.parts)
