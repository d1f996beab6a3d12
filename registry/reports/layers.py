"""Which layers of a network have maps to look at, found by one dry forward, also on the meta device.

Owns names, shapes and the layout of outputs; the maps themselves are cam.py's. A layer is eligible when it runs once
per forward and its output is one tensor with a map of more than one cell for each image. Channels-last outputs (Swin,
ConvNeXt) and the tokens of vision transformers are read as maps too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from registry.errors import RecipeError
from registry.patterns import matches, plain_name

READABLE_MAP = 8  # px: the smallest map side from which one can say where a network looked
MOST_LAYERS = 8  # in one panel; more are a slip of the pattern
_MOST_PREFIX_TOKENS = 8  # class, distillation and register tokens before those of the patches
_PAIR = 2  # images in the dry forward: an output whose first dimension is not 2 is not one map per image
_CELL = 1.5  # cells by which padding and rounding may change a map's proportions
_RESIZING = ("Pool", "Upsample", "Pixel", "Pad", "Crop")  # modules without parameters that keep a map a map
_TOKEN_FAMILIES = ("VisionTransformer",)

Layout = Literal["channels_first", "channels_last", "tokens", "no_map"]


class Layer(NamedTuple):
    """A layer that can be explained.

    Attributes:
        name: of the module, without wrappers' prefixes.
        shape: (channels, height, width) of its map.
    """

    name: str
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Visit:
    """What a dry forward saw of one module; `visits` lists them in the order in which they finished.

    Attributes:
        name: of the module; "" is the network itself.
        kind: class of the module.
        output: shape of its output with N for the batch, or in words what it is instead of a tensor.
        calls: how often it ran.
        layout: how its output is a map.
        map_shape: (channels, height, width) of that map; None where it is none.
        after_attention: it finished after the last attention began, so that a class token no longer takes anything from
            the patches of its output.
    """

    name: str
    kind: str
    output: tuple[int | str, ...] | str
    calls: int
    layout: Layout
    map_shape: tuple[int, int, int] | None
    after_attention: bool

    @property
    def eligible(self) -> bool:
        """Whether the layer can be explained."""
        return self.name != "" and self.calls == 1 and self.map_shape is not None

    @property
    def explains(self) -> bool:
        """Whether the layer is eligible and its whole map can reach the logits."""
        return self.eligible and not (self.layout == "tokens" and self.after_attention)


def eligible_layers(model: nn.Module, images: Tensor) -> list[Layer]:
    """Return the layers that can be explained, in execution order; `images` is any batch the model takes."""
    return [Layer(visit.name, visit.map_shape) for visit in visits(model, images) if visit.eligible and visit.map_shape]


def default_layer(model: nn.Module, images: Tensor) -> str | None:
    """Return the deepest layer whose map is at least 8 px on its shorter side, else the deepest of the largest maps.

    In a vision transformer with a class token, layers behind the last attention are passed over: their patches no
    longer reach the logits. None where no layer is eligible.
    """
    return deepest_readable(visits(model, images))


def deepest_readable(seen: Sequence[Visit]) -> str | None:
    """Return the default layer among `seen`; see `default_layer`."""
    candidates = [
        visit for visit in seen if visit.eligible and not (visit.layout == "tokens" and visit.after_attention)
    ]
    sides = [min(visit.map_shape[1:]) for visit in candidates if visit.map_shape]
    if not sides:
        return None
    enough = min(READABLE_MAP, max(sides))
    return [visit for visit, side in zip(candidates, sides, strict=True) if side >= enough][-1].name


def select_layers(patterns: Sequence[str], seen: Sequence[Visit], most: int = MOST_LAYERS) -> list[str]:
    """Return the names that fit any of `patterns`, in execution order.

    Raises:
        RecipeError: a pattern fits no module, fits only modules without a map, or all together fit more than `most`.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        fitting = [visit for visit in seen if visit.name and matches(pattern, visit.name)]
        found = [visit.name for visit in fitting if visit.eligible]
        if not found:
            raise RecipeError(_why_not(pattern, fitting), f"layers with a map: {_listing(seen)}")
        chosen.update(found)
    if len(chosen) > most:
        raise RecipeError(
            f"{len(chosen)} layers fit {', '.join(patterns)}, and a panel holds {most}",
            f"name fewer: {', '.join(sorted(chosen))}",
        )
    return [visit.name for visit in seen if visit.name in chosen]


def _why_not(pattern: str, fitting: Sequence[Visit]) -> str:
    if not fitting:
        return f"no layer is named {pattern!r}"
    visit = fitting[0]
    if visit.calls > 1:
        return f"layer {visit.name} ({visit.kind}) runs {visit.calls} times per forward, so its map is ambiguous"
    shape = " x ".join(map(str, visit.output)) if isinstance(visit.output, tuple) else visit.output
    return f"layer {visit.name} ({visit.kind}) gives {shape}, not a map (N x C x H x W)"


def _listing(seen: Sequence[Visit]) -> str:
    """List the eligible layers with their map sizes, or say that there are none."""
    return (
        ", ".join(
            f"{visit.name} ({visit.map_shape[1]}x{visit.map_shape[2]})"
            for visit in seen
            if visit.eligible and visit.map_shape
        )
        or "none; this network has no convolutional map"
    )


def panel_layers(seen: Sequence[Visit], most: int = 4) -> list[str]:
    """Return the last layer of each map size, the deepest `most` of them, in execution order: a panel by default."""
    by_size: dict[tuple[int, ...], str] = {}
    for visit in seen:
        if visit.explains and visit.map_shape:
            by_size.pop(visit.map_shape[1:], None)
            by_size[visit.map_shape[1:]] = visit.name
    return list(by_size.values())[-most:]


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside torch.compile's and DistributedDataParallel's wrappers."""
    for attribute in ("_orig_mod", "module"):
        inner = model._modules.get(attribute)
        if inner is not None and len(model._modules) == 1:
            return unwrapped(inner)
    return model


@contextmanager
def undisturbed(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluate without a trace: every module's mode and the random state come back as they were."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        for module, training in modes:
            module.training = training


def visits(model: nn.Module, images: Tensor) -> list[Visit]:
    """Run one dry forward of `images[0]`, twice in a batch, and return what each module gave, in order of finishing.

    Modes, gradients and buffers are left as they were.
    """
    network = unwrapped(model)
    watch = _Watch(network, (images.shape[2], images.shape[3]))
    handles = []
    try:
        for name, module in network.named_modules():
            handles.append(module.register_forward_pre_hook(watch.started))
            handles.append(module.register_forward_hook(watch.finished(plain_name(name))))
        with undisturbed(network, images.device), torch.no_grad():
            pair = images[:1].repeat(_PAIR, 1, 1, 1)
            watch.tag(pair, "channels_first")
            network(pair)
    finally:
        for handle in handles:
            handle.remove()
    return watch.visits()


class _Watch:
    """Follows a forward; knows of each tensor seen whether its channels come first or last.

    Layouts are known for modules that define them (a Linear works on the last dimension, a convolution on the second)
    and inherited from the input by all others; tensors are kept alive so that their identities stay theirs.
    """

    def __init__(self, network: nn.Module, size: tuple[int, int]) -> None:
        self._size = size
        self._layouts: dict[int, Layout] = {}
        self._alive: list[Tensor] = []
        self._order: list[str] = []  # names by last finish
        self._last: dict[str, Visit] = {}
        self._finished = 0
        self._finished_at: dict[str, int] = {}
        self._attention_at = -1
        self._grid: tuple[int, int] | None = None
        kinds = {base.__name__ for module in network.modules() for base in type(module).__mro__}
        self._has_tokens = bool(kinds.intersection(_TOKEN_FAMILIES))

    def tag(self, tensor: Tensor, layout: Layout) -> None:
        """Remember how `tensor` is laid out."""
        self._alive.append(tensor)
        self._layouts[id(tensor)] = layout

    def started(self, module: nn.Module, _inputs: tuple[object, ...]) -> None:
        """Note where attention begins."""
        if "Attention" in type(module).__name__:
            self._attention_at = self._finished

    def finished(self, name: str):  # type: ignore[no-untyped-def]  # torch's hook type is a union nobody can write
        """Return the forward hook of the module `name`."""

        def hook(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            calls = self._last[name].calls + 1 if name in self._last else 1
            layout, shape = self._map_of(module, inputs, output)
            seen = ("N", *output.shape[1:]) if isinstance(output, Tensor) else f"a {type(output).__name__}"
            self._last.pop(name, None)  # so that the order is that of the last finish
            self._last[name] = Visit(name, type(module).__name__, seen, calls, layout, shape, False)
            self._finished_at[name] = self._finished
            self._finished += 1

        return hook

    def visits(self) -> list[Visit]:
        """Return what was seen, in order of the last finish."""
        return [
            Visit(
                v.name,
                v.kind,
                v.output,
                v.calls,
                v.layout,
                v.map_shape,
                self._finished_at[v.name] >= self._attention_at >= 0,
            )
            for v in self._last.values()
        ]

    def _map_of(
        self, module: nn.Module, inputs: tuple[object, ...], output: object
    ) -> tuple[Layout, tuple[int, int, int] | None]:
        if not isinstance(output, Tensor) or not output.is_floating_point() or output.shape[:1] != (_PAIR,):
            return "no_map", None
        if output.ndim == 3 and self._has_tokens and self._grid is not None:
            height, width = self._grid
            if 0 <= output.shape[1] - height * width <= _MOST_PREFIX_TOKENS:
                return "tokens", (output.shape[2], height, width)
        if output.ndim != 4:
            return "no_map", None
        layout = self._layout_of(module, inputs, output)
        self.tag(output, layout)
        if layout == "no_map":
            return layout, None
        channels, height, width = _channels_first(layout, tuple(output.shape))
        if self._has_tokens and layout == "channels_first":
            self._grid = (height, width)
        return layout, (channels, height, width) if height * width > 1 and self._looks_like_image(
            height, width
        ) else None

    def _looks_like_image(self, height: int, width: int) -> bool:
        """Whether a grid has the image's proportions, to one cell: windows and heads of attention rarely have."""
        return abs(height - width * self._size[0] / self._size[1]) <= _CELL

    def _layout_of(self, module: nn.Module, inputs: tuple[object, ...], output: Tensor) -> Layout:
        source = next((x for x in inputs if isinstance(x, Tensor) and x.ndim == 4), None)
        given = None if source is None else self._layouts.get(id(source))
        kind = type(module).__name__
        if isinstance(module, nn.Conv2d):
            return "channels_first"
        if kind == "Permute":
            return "channels_last" if list(getattr(module, "dims", ())) == [0, 2, 3, 1] else "channels_first"
        if given == "no_map":
            return "no_map"
        if type(module) in (nn.Linear, nn.LayerNorm):
            return "channels_last"
        same_shape = source is not None and source.shape == output.shape
        if any(True for _ in module.children()) and same_shape and given is not None:
            return given  # whatever a block does inside, it gives back what it takes
        plain = next(module.parameters(), None) is None and not any(word in kind for word in _RESIZING)
        if plain and source is not None and not same_shape and not any(True for _ in module.children()):
            return "no_map"  # it rearranges: windows, heads
        return self._layouts.get(id(output)) or given or "channels_first"


def _channels_first(layout: Layout, shape: tuple[int, ...]) -> tuple[int, int, int]:
    if layout == "channels_last":
        return shape[3], shape[1], shape[2]
    return shape[1], shape[2], shape[3]
