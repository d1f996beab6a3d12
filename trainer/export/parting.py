"""At which layer a file and its network part: what each layer makes of one picture, here and there.

Layers have their names in both, since a graph keeps which module each of its operations comes from. An exporter may
melt two layers into one; so a layer counts only where everything behind it differs, too.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

_SAME = 1e-3  # of a layer's largest value
_SCOPES = "pkg.torch.onnx.name_scopes"  # of a node: the modules that it stands in, the innermost and itself last

Values = Mapping[str, np.ndarray]


def where_they_part(file: Path, whole: nn.Module, pictures: Tensor) -> str:
    """Return the first layer whose values differ with all behind it, and by how much, in words.

    Args:
        file: of the exported graph.
        whole: the module that it was made of.
        pictures: one, uint8 (1, H, W, C).
    """
    here = of_module(whole, pictures)
    there = of_onnx(file, pictures) if file.suffix == ".onnx" else of_program(file, pictures)
    common = [name for name in here if name in there and here[name].shape == there[name].shape]
    parted = ""
    for name in reversed(common):
        if _difference(here[name], there[name]) <= _SAME:
            break
        parted = name
    if not parted:
        return "behind the last layer"
    gap = float(np.abs(here[parted] - there[parted]).max())
    return f"at {parted}, by {gap:.3g} where the run has up to {float(np.abs(here[parted]).max()):.3g}"


def of_module(whole: nn.Module, pictures: Tensor) -> Values:
    """Return what each layer without layers of its own gives, by name, in the order in which they run."""
    found: dict[str, np.ndarray] = {}

    def keep(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found.pop(name, None)  # one that runs twice stands where it ran last
                found[name] = _plain(output)

        return hook

    leaves = [(name, module) for name, module in whole.named_modules() if name and not list(module.children())]
    hooks = [module.register_forward_hook(keep(name)) for name, module in leaves]
    try:
        with torch.inference_mode():
            whole(pictures)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def of_onnx(file: Path, pictures: Tensor) -> Values:
    """Return what the last operation of each module gives in an ONNX file."""
    onnx, runtime = importlib.import_module("onnx"), importlib.import_module("onnxruntime")
    model = onnx.load(str(file))
    last: dict[str, str] = {}
    for node in model.graph.node:
        scopes = next((each.value for each in node.metadata_props if each.key == _SCOPES), "[]")
        for name in _scopes(scopes):
            last[name] = node.output[0]
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in set(last.values()) - known)
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    values = dict(zip(names, session.run(names, {session.get_inputs()[0].name: pictures.numpy()}), strict=True))
    return {module: np.asarray(values[name], np.float64) for module, name in last.items() if name in values}


def of_program(file: Path, pictures: Tensor) -> Values:
    """Return what the last operation of each module gives in a file of torch.export."""
    module: Any = torch.export.load(file).module()
    recording = _Recording(module)
    with torch.inference_mode():
        recording.run(pictures)
    return recording.found


class _Recording(fx.Interpreter):
    """Runs a graph and keeps what each module's last operation gives."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[str, np.ndarray] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        stack = n.meta.get("nn_module_stack") or {}
        if isinstance(value, Tensor):
            for path, _ in stack.values():
                self.found[_bare(path)] = _plain(value)
        return value


def _scopes(text: str) -> list[str]:
    """Return the modules that a node of ONNX stands in, outermost first."""
    scopes = ast.literal_eval(text) if text.startswith("[") else []
    return [_bare(scope) for scope in scopes[:-1]]


def _bare(path: str) -> str:
    """Return a module's name without what tracing puts before it."""
    return path.removeprefix("L['self'].").removeprefix("L['self']")


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference as a share of the largest value; what is no number differs wholly."""
    gap = np.nan_to_num(np.abs(one - other), nan=np.inf)
    return float(gap.max(initial=0.0) / max(float(np.abs(one).max(initial=0.0)), 1e-12))


def _plain(value: Tensor) -> np.ndarray:
    return np.asarray(value.detach().cpu().to(torch.float64).numpy())
