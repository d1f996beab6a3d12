"""Target layers of class-activation maps: which layers have feature maps, found by one dry forward.

A layer is eligible when it runs once per forward and its output is one tensor with a map of more than one cell for each
image: feature maps of convolutions, channels-last ones too (Swin, ConvNeXt), and the patch tokens of vision
transformers. Attention scores, tables of queries by keys, never are, of whatever size. To tell all these apart, the
layout of tensors is followed through every operation, not from module to module.

Owns names, shapes and layouts, and needs no numbers: the forward may run on the meta device. The maps themselves are
cam.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from registry.errors import RecipeError
from registry.patterns import matches, plain_name

READABLE_MAP = 8  # px: the smallest map side from which one can say where a network looked
MOST_LAYERS = 8  # in one panel; more are a slip of the pattern
_MOST_PREFIX_TOKENS = 8  # class, distillation and register tokens before those of the patches
_PAIR = 2  # images in the dry forward: an output whose first dimension is not 2 is not one map per image
_SHUFFLES = ("Unroll",)  # of timm's Hiera: its tokens come in the order in which they are merged, not in the image's
_CELL = 1.5  # cells by which padding and rounding may change a map's proportions
# Operations by what they do to a layout, by the names that torch gives them; all others keep it.
_PRODUCTS = ("matmul", "__matmul__", "__rmatmul__", "bmm", "baddbmm", "einsum")
_ATTENTIONS = ("scaled_dot_product_attention", "multi_head_attention_forward")
_RESHAPING = ("reshape", "reshape_as", "view", "view_as", "flatten", "unflatten")
_TURNING = ("transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "__get__")  # the last: x.mT and its like

# Where a tensor has channels and places: (N, C, H, W), (N, H, W, C) or (N, patches, C); "no_map" has no places.
Layout = Literal["channels_first", "channels_last", "tokens", "no_map"]
Known = Literal["channels_first", "channels_last", "tokens", "no_map", "unknown"]  # after an operation


@dataclass(frozen=True)
class Visit:
    """One module as a dry forward saw it; `visits` lists them in the order in which they finished.

    Attributes:
        name: of the module; "" is the network itself.
        kind: class of the module.
        output: shape of its output with N for the batch, or in words what it is instead of a tensor.
        calls: how often it ran.
        layout: how its output is a map.
        map_shape: (channels, height, width) of that map; None where it is none.
        after_attention: it finished after the last attention began, so that a class token no longer takes anything from
            the patches of its output.
        within_attention: it is a part of an attention, such as its queries or its dropout.
    """

    name: str
    kind: str
    output: tuple[int | str, ...] | str
    calls: int
    layout: Layout
    map_shape: tuple[int, int, int] | None
    after_attention: bool
    within_attention: bool

    @property
    def eligible(self) -> bool:
        """Whether the layer can be explained."""
        return self.name != "" and self.calls == 1 and self.map_shape is not None

    @property
    def explains(self) -> bool:
        """Whether the layer is eligible and its whole map can reach the logits."""
        return self.eligible and not (self.layout == "tokens" and self.after_attention)


def visits(model: nn.Module, images: Tensor) -> list[Visit]:
    """Run one dry forward of `images[0]`, twice in a batch, and return what each module gave, in order of finishing.

    Modes, gradients and buffers are left as they were.
    """
    network = unwrapped(model)
    layouts = _Layouts()
    record = _Visits(layouts, (images.shape[2], images.shape[3]))
    handles = []
    try:
        for name, module in network.named_modules():
            handles.append(module.register_forward_pre_hook(record.started(plain_name(name))))
            handles.append(module.register_forward_hook(record.finished(plain_name(name))))
        with undisturbed(network, images.device), torch.no_grad():
            pair = images[:1].repeat(_PAIR, 1, 1, 1)
            layouts.note(pair, "channels_first")
            with layouts:
                network(pair)
    finally:
        for handle in handles:
            handle.remove()
    return record.visits()


def deepest_readable(seen: Sequence[Visit]) -> str | None:
    """Return the deepest layer whose map is at least 8 px on its shorter side, else the deepest of the largest maps.

    In a vision transformer, patches behind the last attention are passed over: where a class token is read, they no
    longer reach the logits. So are the parts of an attention. None where no layer is eligible.
    """
    candidates = _worth_showing(seen)
    sides = [min(visit.map_shape[1:]) for visit in candidates if visit.map_shape]
    if not sides:
        return None
    enough = min(READABLE_MAP, max(sides))
    return [visit for visit, side in zip(candidates, sides, strict=True) if side >= enough][-1].name


def panel_layers(seen: Sequence[Visit], most: int = 4) -> list[str]:
    """Return the last layer of each map size, the deepest `most` of them, in execution order: a panel by default."""
    return [visit.name for visit in _last_of_each_size(_worth_showing(seen))][-most:]


def layers_by_size(seen: Sequence[Visit]) -> str:
    """Name the layers with a map for a person to choose from: the last of each size, in execution order, and its size.

    A deep network has hundreds, and those of one size tell nearly the same.
    """
    eligible = [visit for visit in seen if visit.eligible]
    kept = _last_of_each_size(_worth_showing(seen) or eligible)
    names = ", ".join(f"{visit.name} ({visit.map_shape[1]}x{visit.map_shape[2]})" for visit in kept if visit.map_shape)
    if not names:
        return "none; this network has no convolutional map"
    return names if len(kept) == len(eligible) else f"{names}: the last of each size, of {len(eligible)} in all"


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
            raise RecipeError(_why_not(pattern, fitting), f"layers with a map: {layers_by_size(seen)}")
        chosen.update(found)
    if len(chosen) > most:
        fewer = _last_of_each_size([visit for visit in seen if visit.name in chosen])
        raise RecipeError(
            f"{len(chosen)} layers fit {', '.join(patterns)}, and a panel holds {most}",
            f"name fewer; the last of each size are {', '.join(visit.name for visit in fewer)}",
        )
    return [visit.name for visit in seen if visit.name in chosen]


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


# --------------------------------------------------------------------------------------------------------------- choice
def _worth_showing(seen: Sequence[Visit]) -> list[Visit]:
    """Return the layers that explain, without the parts of attentions where there are others."""
    explaining = [visit for visit in seen if visit.explains]
    return [visit for visit in explaining if not visit.within_attention] or explaining


def _why_not(pattern: str, fitting: Sequence[Visit]) -> str:
    if not fitting:
        return f"no layer is named {pattern!r}"
    visit = fitting[0]
    if visit.calls > 1:
        return f"layer {visit.name} ({visit.kind}) runs {visit.calls} times per forward, so its map is ambiguous"
    shape = " x ".join(map(str, visit.output)) if isinstance(visit.output, tuple) else visit.output
    return f"layer {visit.name} ({visit.kind}) gives {shape}, not a map (N x C x H x W)"


def _last_of_each_size(visits: Sequence[Visit]) -> list[Visit]:
    """Return of the layers of one map size the last, in execution order."""
    by_size: dict[tuple[int, ...], Visit] = {}
    for visit in visits:
        if visit.map_shape:
            by_size.pop(visit.map_shape[1:], None)
            by_size[visit.map_shape[1:]] = visit
    return list(by_size.values())


# ----------------------------------------------------------------------------------------------------------- operations
class _Layouts(TorchFunctionMode):
    """Layout propagation: how every tensor made from the image is laid out, followed from operation to operation.

    A convolution has its channels second, a Linear last; other operations keep the layout of what they work on, unless
    they rearrange it. The product of two tensors that were both made from the image is a table, and no map; where it is
    multiplied with a third, that is attention.

    Attributes:
        on_attention: called at every operation in which attention happens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_attention: Callable[[], None] = lambda: None
        self._of: WeakIdKeyDictionary = WeakIdKeyDictionary()  # Tensor -> Known

    def note(self, tensor: Tensor, layout: Known) -> None:
        """Remember how `tensor` is laid out."""
        self._of[tensor] = layout

    def of(self, tensor: Tensor) -> Known | None:
        """Return how `tensor` is laid out; None where it was not made from the image."""
        return self._of.get(tensor)  # type: ignore[no-any-return]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note the layout of what it gives."""
        given = list(_tensors((args, kwargs or {})))
        output = func(*args, **(kwargs or {}))
        known = [(each, self._of[each]) for each in given if each in self._of]
        if known:
            name = getattr(func, "__name__", "")
            if name in _ATTENTIONS or (name in _PRODUCTS and any(layout == "no_map" for _, layout in known)):
                self.on_attention()
            for each in _tensors(output):
                self.note(each, _layout_after(name, args, known, each))
        return output


def _layout_after(name: str, args: tuple[Any, ...], known: Sequence[tuple[Tensor, Known]], output: Tensor) -> Known:
    """Return the layout of what an operation gives, from those of what it was given.

    Args:
        name: of the operation.
        args: its positional arguments.
        known: those tensors among its arguments that were made from the image, with their layouts; at least one.
        output: what it gave.
    """
    source, layout = known[0]
    if name in _ATTENTIONS:
        return "unknown"
    if name in _PRODUCTS and len(known) > 1:  # of two made from the image: neither is a weight
        return "unknown" if any(each == "no_map" for _, each in known) else "no_map"
    if name in _RESHAPING:
        return _reshaped(layout, tuple(source.shape), tuple(output.shape))
    if name == "permute":
        return _permuted(layout, args)
    if name in _TURNING:
        return "no_map" if layout == "no_map" else "unknown"
    alike = [each for tensor, each in known if tensor.ndim == output.ndim and each != "unknown"]
    return next((each for each in alike if each != "no_map"), alike[0] if alike else "unknown")


def _reshaped(layout: Known, before: tuple[int, ...], after: tuple[int, ...]) -> Known:
    """Return what a layout becomes: a table keeps its rows and columns, patches in a row or a grid their channels."""
    if before == after or (layout == "no_map" and before[-2:] == after[-2:]):
        return layout
    if (before[0], before[-1]) == (after[0], after[-1]):
        if layout == "tokens" and len(after) == 4:
            return "channels_last"
        if layout == "channels_last" and len(after) == 3:
            return "tokens"
    return "unknown"


def _permuted(layout: Known, args: tuple[Any, ...]) -> Known:
    """Return what a layout becomes by `permute`: channels may move to the end or from there; else it is not known."""
    dims = tuple(args[1]) if len(args) == 2 and isinstance(args[1], (list, tuple)) else args[1:]
    turned: dict[tuple[Known, tuple[int, ...]], Known] = {
        ("channels_first", (0, 2, 3, 1)): "channels_last",
        ("channels_last", (0, 3, 1, 2)): "channels_first",
    }
    return "no_map" if layout == "no_map" else turned.get((layout, tuple(d % 4 for d in dims)), "unknown")


def _tensors(values: object) -> Iterator[Tensor]:
    """Yield the tensors among arguments or results, in lists and dictionaries too."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))


# -------------------------------------------------------------------------------------------------------------- modules
class _Visits:
    """Forward hooks that record what each module gives, and which modules attend.

    Args:
        layouts: of the tensors, while the forward runs.
        size: height and width of the image.
    """

    def __init__(self, layouts: _Layouts, size: tuple[int, int]) -> None:
        layouts.on_attention = self._attention
        self._layouts, self._size = layouts, size
        self._last: dict[str, Visit] = {}  # in order of the last finish
        self._finished = 0  # modules, so far
        self._finished_at: dict[str, int] = {}  # what had finished before each did
        self._running: list[tuple[str, int]] = []  # modules under way, and what had finished when they began
        self._attending: dict[str, int] = {}  # those in which attention happens, likewise
        self._grids: list[tuple[int, int]] = []  # (height, width) of maps, the latest last
        self._shuffled = False  # whether tokens stand in the image's order no more

    def started(self, name: str):  # type: ignore[no-untyped-def]  # torch's hook type is a union nobody can write
        """Return the forward pre-hook of the module `name`."""

        def hook(_module: nn.Module, _inputs: tuple[object, ...]) -> None:
            self._running.append((name, self._finished))

        return hook

    def finished(self, name: str):  # type: ignore[no-untyped-def]  # torch's hook type is a union nobody can write
        """Return the forward hook of the module `name`."""

        def hook(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            self._running.pop()
            calls = self._last[name].calls + 1 if name in self._last else 1
            layout, shape = self._map_of(module, inputs, output)
            seen = ("N", *output.shape[1:]) if isinstance(output, Tensor) else f"a {type(output).__name__}"
            self._last.pop(name, None)  # so that the order is that of the last finish
            self._last[name] = Visit(name, type(module).__name__, seen, calls, layout, shape, False, False)
            self._finished_at[name] = self._finished
            self._finished += 1

        return hook

    def visits(self) -> list[Visit]:
        """Return what was seen, in order of the last finish; where attention happened is known only at the end."""
        last_began = max(self._attending.values(), default=None)
        parts = tuple(f"{name}." for name in self._attending)
        return [
            replace(
                visit,
                after_attention=last_began is not None and self._finished_at[visit.name] >= last_began,
                within_attention=visit.name.startswith(parts),
            )
            for visit in self._last.values()
        ]

    def _attention(self) -> None:
        """Note that attention happens in the innermost module under way; the network itself is none."""
        module, began = self._running[-1]
        if module:
            self._attending[module] = began

    def _map_of(
        self, module: nn.Module, inputs: tuple[object, ...], output: object
    ) -> tuple[Layout, tuple[int, int, int] | None]:
        """Return how a module's output is laid out and (channels, height, width) of its map; None where it has none."""
        if not isinstance(output, Tensor) or not output.is_floating_point() or output.shape[:1] != (_PAIR,):
            return "no_map", None
        self._shuffled |= type(module).__name__ in _SHUFFLES
        layout = self._layout_of(module, inputs, output)
        if self._shuffled and layout == "tokens":
            return "no_map", None
        shape = None if layout == "no_map" else self._map_shape(layout, tuple(output.shape))
        if shape is None:
            return "no_map", None
        self._layouts.note(output, layout)
        if layout != "tokens":
            self._grids.append(shape[1:])
        return layout, shape

    def _layout_of(self, module: nn.Module, inputs: tuple[object, ...], output: Tensor) -> Layout:
        """Return how a module's output is laid out: by the module where its kind tells, else by its operations."""
        own = self._layouts.of(output)
        source = next((known for x in _tensors(inputs) if (known := self._layouts.of(x)) is not None), None)
        if source is None or output.ndim not in (3, 4) or "no_map" in (own, source):
            return "no_map"
        if isinstance(module, nn.Conv2d) and output.ndim == 4:
            return "channels_first"
        if type(module) in (nn.Linear, nn.LayerNorm):
            return "channels_last" if output.ndim == 4 else "tokens"
        if own is not None and own != "unknown":
            return own
        if output.ndim == 3:
            return "tokens"
        is_plain = next(module.parameters(), None) is None and next(module.children(), None) is None
        if is_plain:  # heads or windows, which it was given or makes
            return "no_map"
        return "channels_first" if self._map_shape("channels_first", tuple(output.shape)) else "channels_last"

    def _map_shape(self, layout: Layout, shape: tuple[int, ...]) -> tuple[int, int, int] | None:
        """Return (channels, height, width); None where a tensor of this shape is no map of the image."""
        if layout == "tokens":
            return self._token_map(shape)
        channels, height, width = shape[1:] if layout == "channels_first" else (shape[3], *shape[1:3])
        # A map has the image's proportions, to one cell of its shorter side: windows and heads rarely have.
        off = abs(height - width * self._size[0] / self._size[1])
        is_like_image = min(off, off * self._size[1] / self._size[0]) <= _CELL
        return (channels, height, width) if height * width > 1 and is_like_image else None

    def _token_map(self, shape: tuple[int, ...]) -> tuple[int, int, int] | None:
        """Return the map that tokens (N, tokens, C) are: the latest grid with as many cells as there are patches."""
        if len(shape) != 3:
            return None
        for height, width in reversed(self._grids):
            if 0 <= shape[1] - height * width <= _MOST_PREFIX_TOKENS:
                return shape[2], height, width
        return None
