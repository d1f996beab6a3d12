"""The formats of exported files: their names, endings and packages. Imports nothing heavy."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal

from registry.errors import RecipeError
from registry.printing import one_line

Format = Literal["onnx", "torch"]
SUFFIX: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
NEEDS = 'install it: pip install "recipe-trainer[export]"'


def is_exported(path: Path) -> bool:
    """Whether a path names an exported file, by its ending."""
    return path.suffix in SUFFIX.values() and path.is_file()


def trust(path: Path) -> str:
    """Say what opening a file asks of whoever opens it; "" for nothing."""
    if path.suffix != SUFFIX["torch"]:
        return ""
    return f"{one_line(str(path))}: a program of torch, which may run code with your rights; an .onnx runs none"


def require_to_make(to: Format) -> None:
    """Refuse to begin without what making a format needs.

    Raises:
        RecipeError: naming the package, and the extra that brings it.
    """
    lacking = [name for name in PACKAGES if importlib.util.find_spec(name) is None] if to == "onnx" else []
    if lacking:
        raise RecipeError(
            f"an ONNX file needs the package {lacking[0]}", f"{NEEDS}, or take --to torch, which needs nothing more"
        )


def require_to_read(file: Path) -> None:
    """Refuse to open a file without what reading it needs.

    Raises:
        RecipeError: naming the package, and the extra that brings it.
    """
    if file.suffix == SUFFIX["onnx"] and importlib.util.find_spec("onnxruntime") is None:
        raise RecipeError(f"{file}: an ONNX file needs the package onnxruntime", NEEDS)
