"""Class-activation maps: one forward and one `autograd.grad` per target serve every layer of a batch.

Owns the hooks and what must be left untouched: modes, gradients, buffers, random state, the caller's tensors. How a
map follows from activations and gradients stands in cam_methods.py, which layers have one in layers.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry.reports.cam_methods import METHODS
from registry.reports.layers import Visit, select_layers, undisturbed, unwrapped, visits


@dataclass(frozen=True)
class Explanation:
    """Maps of a batch at several layers.

    Attributes:
        maps: by layer name in execution order, raw maps (T, N, h, w), float32 on the CPU, at the layer's own size;
            never negative, T targets per image.
        logits: (N, C), float32 on the CPU.
        targets: class explained, int64 (T, N).
    """

    maps: Mapping[str, Tensor]
    logits: Tensor
    targets: Tensor


def explain(
    model: nn.Module, images: Tensor, layers: Sequence[str], targets: Tensor, method: str = "GradCAM"
) -> Explanation:
    """Explain why `model` gives `targets` to `images`, at every layer at once.

    Args:
        model: in any mode, frozen or not; left as found.
        images: the model's input (N, C, H, W), on its device.
        layers: names or patterns of layers; see `layers.select_layers`.
        targets: class indices (N,) or, for several maps per image, (T, N).
        method: a name in `cam_methods.METHODS`.

    Returns:
        The raw maps, the logits, and the targets as (T, N).

    Raises:
        RecipeError: a layer does not exist or has no map.
        ValueError: the targets do not fit the images or the classes.
    """
    if method not in METHODS:
        raise ValueError(f"no method is named {method!r}; there are {', '.join(METHODS)}")
    network = unwrapped(model)
    seen = {visit.name: visit for visit in visits(network, images)}
    names = select_layers(layers, list(seen.values()), most=len(seen))
    rows = targets.reshape(-1, targets.shape[-1]).long()
    to_map = METHODS[method]
    with undisturbed(network, images.device), torch.inference_mode(False), torch.enable_grad():
        with _recorded(network, names) as record:
            # A copy that is no leaf: a network may begin with an in-place operation.
            logits = network(images.detach().clone().requires_grad_(True).clone())
        _check_targets(rows, logits)
        collected: dict[str, list[Tensor]] = {name: [] for name in names}
        for row in range(len(rows)):
            gradients = _gradients(logits, rows[row], [record[name].output for name in names], row + 1 < len(rows))
            for name, gradient in zip(names, gradients, strict=True):
                activation = _as_map(record[name].values, seen[name])
                collected[name].append(to_map(activation, _as_map(gradient, seen[name])).cpu())
    return Explanation(
        {name: torch.stack(maps) for name, maps in collected.items()}, logits.detach().float().cpu(), rows.cpu()
    )


def upsampled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return raw maps (..., h, w) bilinearly at `size` and divided by their maximum; a map of zeros stays zero."""
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    large = F.interpolate(flat, size=size, mode="bilinear", align_corners=False).reshape(*maps.shape[:-2], *size)
    peak = large.amax(dim=(-2, -1), keepdim=True)
    return torch.where(peak > 0, large / peak.where(peak > 0, torch.ones_like(peak)), torch.zeros_like(large))


@dataclass(frozen=True)
class _Recorded:
    """A layer's output: as part of the graph, and its values as they were before anything worked on them in place."""

    output: Tensor
    values: Tensor


@contextmanager
def _recorded(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, _Recorded]]:
    """Record the outputs of the layers `names` while the block runs.

    The network goes on with a copy, so that an in-place ReLU behind the layer changes neither the values recorded nor
    the tensor that gradients are asked for.
    """
    record: dict[str, _Recorded] = {}
    modules = dict(network.named_modules())
    handles = []

    def watch(name: str):  # type: ignore[no-untyped-def]  # torch's hook type is a union nobody can write
        def hook(_module: nn.Module, _inputs: tuple[object, ...], output: Tensor) -> Tensor:
            record[name] = _Recorded(output, output.detach().clone())
            return output.clone()

        return hook

    try:
        for name in names:
            handles.append(modules[name].register_forward_hook(watch(name)))
        yield record
    finally:
        for handle in handles:
            handle.remove()


def _gradients(logits: Tensor, targets: Tensor, outputs: Sequence[Tensor], again: bool) -> list[Tensor]:
    """Return d(sum of target logits)/d(output) per output; nothing in evaluation mode mixes samples."""
    picked = targets.to(logits.device).clone()  # a caller's inference tensor could not be saved for the backward
    score = logits.gather(1, picked[:, None]).sum()
    found = torch.autograd.grad(score, outputs, retain_graph=again, allow_unused=True)
    return [torch.zeros_like(o) if g is None else g for g, o in zip(found, outputs, strict=True)]


def _as_map(output: Tensor, visit: Visit) -> Tensor:
    """Return a layer's output as float32 (N, C, H, W)."""
    assert visit.map_shape is not None
    if visit.layout == "channels_last":
        output = output.permute(0, 3, 1, 2)
    elif visit.layout == "tokens":
        channels, height, width = visit.map_shape
        patches = output[:, output.shape[1] - height * width :]
        output = patches.transpose(1, 2).reshape(-1, channels, height, width)
    return output.float()


def _check_targets(targets: Tensor, logits: Tensor) -> None:
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ValueError("the network does not give logits (N, C)")
    images, classes = logits.shape
    if targets.shape[1] != images:
        raise ValueError(f"{targets.shape[1]} targets for {images} images")
    for target in targets.flatten().tolist():
        if not 0 <= target < classes:
            raise ValueError(f"target {target} of a network with {classes} classes")
