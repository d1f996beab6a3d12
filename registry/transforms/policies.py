"""torchvision's augmentation policies in batches: TrivialAugmentWide, RandAugment, AutoAugment, AugMix.

Each of them draws operations for an image; operations.py does them. Names, arguments, spaces of magnitudes and the
learnt policies are upstream's: it constructs, this module reads the result. Only the chance is ours, keyed as every
other transform's (draws.py). A recipe's names lead here by the rule in upstream.py, so `__all__` is empty.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import cv2
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from typing_extensions import override

from registry.errors import DataError, RecipeError
from registry.transforms import elementary
from registry.transforms.contract import Fill, OwnTransform
from registry.transforms.draws import Draws
from registry.transforms.operations import AT_ONCE, NAMES, Operations, operated
from registry.transforms.warp import Sampling

__all__: list[str] = []

Upstream = Any  # a policy of torchvision; what it is made of has private names

_INTERPOLATIONS = {InterpolationMode.NEAREST: cv2.INTER_NEAREST, InterpolationMode.BILINEAR: cv2.INTER_LINEAR}
_PER_OPERATION = 4  # draw numbers: which, how strongly, which way, and one for whether or how often
_SHARES, _PAIR = 1 << 19, (1 << 19) - 1  # draw numbers of AugMix's first share and of AutoAugment's pair
_LONGEST = 3  # operations of a chain of AugMix whose depth is left to chance
_AUTO_BINS = 10  # magnitudes of an operation that AutoAugment's policies count in
_TRIES = 8  # of a Gamma draw; one in 10 billion is not accepted by then
_PER_GAMMA = 2 * _TRIES + 2  # draw numbers of it, at most


class Space(NamedTuple):
    """The operations that a policy chooses among, at one size of images.

    Attributes:
        numbers: places in `NAMES`, int64 (operations,).
        magnitudes: float64 (operations, bins); 0 where an operation takes none.
        signed: whether it is done either way, bool (operations,).
    """

    numbers: Tensor
    magnitudes: Tensor
    signed: Tensor

    def at(self, which: Tensor, bins: Tensor, other_way: Tensor) -> Operations:
        """Return operations by their places here, int64 (n,), the bins of their magnitudes, and the way."""
        magnitude = self.magnitudes[which, bins]
        return Operations(self.numbers[which], torch.where(self.signed[which] & other_way, -magnitude, magnitude))


class Policy(OwnTransform):
    """A policy of torchvision's.

    Args:
        upstream: torchvision's own, which has checked its arguments.
        space: of operations, as torchvision has it: name -> (magnitudes by (bins, height, width), signed).
        bins: magnitudes of each operation.
    """

    def __init__(self, upstream: Upstream, space: Mapping[str, tuple[Any, bool]], bins: int) -> None:
        unknown = sorted(set(space) - set(NAMES))
        if unknown:
            raise RecipeError(
                f"this release of torchvision has operations that are not known here: {', '.join(unknown)}",
                "take the release of torchvision that environment.json of an earlier run names",
            )
        fill: Fill | list[float] | None = upstream.fill
        if isinstance(fill, (list, tuple)):
            fill = fill[0] if len(fill) == 1 else tuple(fill)
        read = _INTERPOLATIONS[InterpolationMode(upstream.interpolation)]
        self._sampling = Sampling(read, cv2.BORDER_CONSTANT, fill or 0)
        self._upstream_space = dict(space)
        self._bins = bins
        self._spaces: dict[tuple[int, int, torch.device], Space] = {}

    @override
    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        if images.dtype != torch.uint8:
            raise DataError(
                f"{type(self).__name__} works on grey levels 0..255 and was given {images.dtype}",
                "put it in data.augment, which keeps grey levels",
            )
        return self.augmented(images, draws) if len(images) else images

    @abstractmethod
    def augmented(self, images: Tensor, draws: Draws) -> Tensor:
        """Return the transformed images; as `Batched` has it, of uint8 images, one at least."""

    def space(self, images: Tensor) -> Space:
        """Return the operations at the images' size, on their device."""
        height, width = images.shape[1:3]
        key = (height, width, images.device)
        if key not in self._spaces:
            rows = [magnitudes(self._bins, height, width) for magnitudes, _ in self._upstream_space.values()]
            plain = [torch.zeros(self._bins) if row is None else row for row in rows]
            made = Space(
                torch.tensor([NAMES.index(name) for name in self._upstream_space]),
                torch.stack([row.to(torch.float64) for row in plain]),
                torch.tensor([signed for _, signed in self._upstream_space.values()]),
            )
            self._spaces[key] = Space(*(part.to(images.device, non_blocking=True) for part in made))
        return self._spaces[key]

    def operated(self, images: Tensor, operations: Operations) -> Tensor:
        """Return images after one operation each."""
        return operated(images, operations, self._sampling)


def _drawn(draws: Draws, count: int) -> _Drawn:
    """Return the draws of operation number `count` of an image."""
    return _Drawn(draws, _PER_OPERATION * count)


class _Drawn(NamedTuple):
    """What one operation of each image is drawn by."""

    draws: Draws
    first: int

    def which(self, count: int) -> Tensor:
        """Return one of `count` operations, int64 (n,)."""
        return self.draws.integers(self.first, 0, count - 1)

    def bins(self, count: int) -> Tensor:
        """Return one of `count` magnitudes, int64 (n,)."""
        return self.draws.integers(self.first + 1, 0, count - 1)

    def other_way(self) -> Tensor:
        """Return whether the magnitude counts the other way, bool (n,)."""
        return self.draws.chosen(0.5, self.first + 2)

    def chance(self) -> Tensor:
        """Return a number in [0, 1), float64 (n,)."""
        return self.draws.uniform(self.first + 3)

    def depth(self) -> Tensor:
        """Return the length of the chain that begins here, int64 (n,), 1 to 3."""
        return self.draws.integers(self.first + 3, 1, _LONGEST)


def _made(policy: Callable[..., Upstream], arguments: Mapping[str, Any]) -> Upstream:
    """Return torchvision's own, which checks its arguments; before 0.29 it takes no text for an interpolation."""
    modes = {name: InterpolationMode(text) for name, text in arguments.items() if name == "interpolation"}
    return policy(**{**arguments, **modes})


class TrivialAugmentWide(Policy):
    """torchvision's TrivialAugmentWide: one operation of any magnitude (arXiv 2103.10158)."""

    def __init__(self, **arguments: Any) -> None:
        upstream = _made(v2.TrivialAugmentWide, arguments)
        super().__init__(upstream, upstream._AUGMENTATION_SPACE, upstream.num_magnitude_bins)

    @override
    def augmented(self, images: Tensor, draws: Draws) -> Tensor:
        space, drawn = self.space(images), _drawn(draws, 0)
        which, bins = drawn.which(len(space.numbers)), drawn.bins(self._bins)
        return self.operated(images, space.at(which, bins, drawn.other_way()))


class RandAugment(Policy):
    """torchvision's RandAugment: operations of one magnitude, one after the other (arXiv 1909.13719)."""

    def __init__(self, **arguments: Any) -> None:
        upstream = _made(v2.RandAugment, arguments)
        if upstream.magnitude >= upstream.num_magnitude_bins:
            raise RecipeError(
                f"magnitude {upstream.magnitude} is none of {upstream.num_magnitude_bins} magnitudes",
                f"they count from 0 to {upstream.num_magnitude_bins - 1}; num_magnitude_bins says how many there are",
            )
        super().__init__(upstream, upstream._AUGMENTATION_SPACE, upstream.num_magnitude_bins)
        self._count = upstream.num_ops
        self._magnitude = upstream.magnitude

    @override
    def augmented(self, images: Tensor, draws: Draws) -> Tensor:
        space = self.space(images)
        for count in range(self._count):
            drawn = _drawn(draws, count)
            which = drawn.which(len(space.numbers))
            bins = torch.full_like(which, self._magnitude)
            images = self.operated(images, space.at(which, bins, drawn.other_way()))
        return images


class AutoAugment(Policy):
    """torchvision's AutoAugment: one of 25 learnt pairs of operations (arXiv 1805.09501)."""

    def __init__(self, **arguments: Any) -> None:
        upstream = _made(v2.AutoAugment, arguments)
        super().__init__(upstream, upstream._AUGMENTATION_SPACE, _AUTO_BINS)
        names = list(upstream._AUGMENTATION_SPACE)
        pairs = upstream._policies
        self._which = torch.tensor([[names.index(name) for name, _, _ in pair] for pair in pairs])  # (25, 2)
        self._chances = torch.tensor([[chance for _, chance, _ in pair] for pair in pairs], dtype=torch.float64)
        self._magnitudes = torch.tensor([[magnitude or 0 for _, _, magnitude in pair] for pair in pairs])

    @override
    def augmented(self, images: Tensor, draws: Draws) -> Tensor:
        space = self.space(images)
        tables = [
            table.to(images.device, non_blocking=True) for table in (self._which, self._chances, self._magnitudes)
        ]
        chosen = draws.integers(_PAIR, 0, len(self._which) - 1)
        which, chances, magnitudes = (table[chosen] for table in tables)  # (n, 2) each
        for count in range(which.shape[1]):
            drawn = _drawn(draws, count)
            meant = space.at(which[:, count], magnitudes[:, count], drawn.other_way())
            acts = drawn.chance() <= chances[:, count]
            images = self.operated(images, meant._replace(number=torch.where(acts, meant.number, 0)))
        return images


class AugMix(Policy):
    """torchvision's AugMix: the image mixed with chains of operations on it (arXiv 1912.02781)."""

    def __init__(self, **arguments: Any) -> None:
        upstream = _made(v2.AugMix, arguments)
        space = upstream._AUGMENTATION_SPACE if upstream.all_ops else upstream._PARTIAL_AUGMENTATION_SPACE
        super().__init__(upstream, space, upstream._PARAMETER_MAX)
        self._severity = upstream.severity
        self._width = upstream.mixture_width
        self._depth = upstream.chain_depth
        self._alpha = upstream.alpha

    @override
    def augmented(self, images: Tensor, draws: Draws) -> Tensor:
        if images.device.type != "cpu":
            return self._mixed(images, draws)
        for rows in torch.arange(len(images)).split(max(1, AT_ONCE // images[0].numel())):
            images[rows[0] : rows[-1] + 1] = self._mixed(images[rows[0] : rows[-1] + 1], draws.subset(rows))
        return images

    def _mixed(self, images: Tensor, draws: Draws) -> Tensor:
        """Return images mixed with what their chains make of them, in new memory."""
        kept, given = _shares(draws, 0, self._alpha, 2)
        weights = _shares(draws, 2, self._alpha, self._width)
        mixed = images * _per_image(kept)
        for chain, weight in enumerate(weights):
            chained = self._chained(images.clone(), draws, chain).to(torch.float32)
            mixed.addcmul_(chained, _per_image(given * weight))
        return mixed.to(torch.uint8)  # cut off, as upstream does it

    def _chained(self, images: Tensor, draws: Draws, chain: int) -> Tensor:
        """Return images after a chain of operations, of 1 to 3 where its depth is left to chance."""
        space, longest = self.space(images), self._depth if self._depth > 0 else _LONGEST
        links = [_drawn(draws, chain * longest + link) for link in range(longest)]
        for link, drawn in enumerate(links):
            meant = space.at(drawn.which(len(space.numbers)), drawn.bins(self._severity), drawn.other_way())
            if self._depth <= 0:
                meant = meant._replace(number=torch.where(links[0].depth() > link, meant.number, 0))
            images = self.operated(images, meant)
        return images


def _shares(draws: Draws, first: int, alpha: float, count: int) -> Tensor:
    """Return draws of Dirichlet's distribution with one `alpha`, float32 (count, n): `count` shares of 1.

    They are Gamma draws over their sum, in logarithms, so that none is lost where alpha is small.
    """
    logs = [_log_gamma(draws, _SHARES + (first + number) * _PER_GAMMA, alpha) for number in range(count)]
    return torch.stack(logs).softmax(0).to(torch.float32)


def _log_gamma(draws: Draws, first: int, alpha: float) -> Tensor:
    """Return the logarithm of one Gamma(alpha) draw per image, float64 (n,), by Marsaglia and Tsang's method (2000)."""
    whole = alpha if alpha >= 1 else alpha + 1
    d = whole - 1 / 3
    normal = draws.normals(first, _TRIES).T.to(torch.float64)  # (tries, n), of as many draws at most
    chance = elementary.log(1 - draws.uniforms(first + _TRIES, _TRIES))
    cube = (1 + normal / (9 * d) ** 0.5) ** 3
    log_cube = elementary.log(cube.clamp(min=1e-300))
    accepted = (cube > 0) & (chance < normal**2 / 2 + d * (1 - cube + log_cube))
    tries = accepted.to(torch.int64).argmax(0, keepdim=True)  # the first
    log = log_cube.gather(0, tries)[0] + math.log(d)
    if alpha >= 1:
        return log
    return log + elementary.log(1 - draws.uniform(first + 2 * _TRIES)) / alpha


def _per_image(values: Tensor) -> Tensor:
    """Return (n,) so that it broadcasts over images (n, H, W, C)."""
    return values[:, None, None, None]
