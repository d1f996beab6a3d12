"""Augmentation and preprocessing: the recipe's transforms as one pass over a batch.

uint8 images go in, the model's float input comes out. Owns the order of transforms and who runs each: our batched
version (registry/transforms/batched.py) where there is one, Albumentations image by image otherwise, each image's
chance keyed by (seed, epoch, index, position) in both. Knows nothing of recipes, or of how images are stored (store.py)
and gathered (batches.py); transforms come as objects, made by trainer/experiment/components.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from registry.errors import DataError, RecipeError, UserError
from registry.transforms.batched import batched, batched_pair, why_not
from registry.transforms.contract import Batched
from registry.transforms.draws import Draws
from registry.transforms.settled import is_settled
from registry.transforms.shrinking import keeps_size
from trainer.data.reading import Factor, factor_by
from trainer.data.singly import Running, Singly, UnsuitableImage
from trainer.data.transfer import sent

Backend = Literal["auto", "batched", "albumentations"]
Images: TypeAlias = "Tensor | list[np.ndarray]"  # (N, H, W, C) of one size, or (H, W, C) each

MAKES_TENSOR = frozenset({"ToTensorV2", "ToTensor3D"})
MAKES_FLOAT = frozenset({"Normalize", "ToFloat"})
MAKES_ONE_SIZE = frozenset({"CenterCrop", "RandomCrop", "RandomResizedCrop", "RandomSizedCrop", "Resize"})


@dataclass(frozen=True)
class Stage:
    """One transform of the list, and who runs it.

    Attributes:
        name: its class.
        position: in the whole list; part of the draws' key.
        upstream: what Albumentations runs, two where they have a batched version only together; empty for our own.
        batched: what runs on whole batches; None where Albumentations does it.
        reason: why it does; "" where it does not.
    """

    name: str
    position: int
    upstream: tuple[Any, ...]
    batched: Batched | None
    reason: str

    def one_by_one(self, images: list[np.ndarray], draws: Draws) -> list[np.ndarray]:
        """Transform images (H, W, C) that may differ in size, each with a generator keyed anew."""
        if self.batched is not None and not self.upstream:
            return _singly(self.name, self.batched, images, draws.at(self.position))
        return Singly(self.name, self.upstream)(images, self.keys(draws))

    def keys(self, draws: Draws) -> list[int]:
        """Return each image's key of what upstream draws for it."""
        return draws.at(self.position).seeds(0)

    def is_settled(self) -> bool:
        """Tell whether it leaves nothing to chance; one of somebody's own is not known to."""
        return bool(self.upstream) and all(map(is_settled, self.upstream))

    @property
    def wins_up_to(self) -> float:
        """Pixels of an image up to which its batched version is the faster one on the CPU."""
        return float(getattr(self.batched, "wins_up_to", math.inf)) if self.upstream else math.inf

    def loses_on(self, images: Images) -> bool:
        """Tell whether Albumentations is faster, image by image, on a batch as large as this."""
        return isinstance(images, Tensor) and images.shape[1] * images.shape[2] > self.wins_up_to

    def keeps_places(self) -> bool:
        """Tell whether pixels stay where they are, as far as is known; one of somebody's own may move them."""
        return bool(self.upstream) and all(map(_keeps_places, self.upstream))

    def gives_one_size(self) -> bool:
        """Tell whether images of any size have one size after it."""
        return any(type(one).__name__ in MAKES_ONE_SIZE and one.p >= 1 for one in self.upstream)


class Pipeline:
    """Transforms of one use of the data: training, or everything else. For one thread at a time.

    Args:
        stages: transforms of the stored images that keep uint8, in order: Albumentations instances or `Batched`.
        preprocess: transforms that follow and make float.
        seed: of the run; part of every draw's key.
        backend: `batched` refuses what has no batched version, `albumentations` uses none, `auto` takes what there is.
        device: where the model's input is wanted.
        reduces: no more of a picture is decoded than what the first transforms keep.

    Attributes:
        ahead: the first transforms, where they run on images of several sizes one by one anyway: another thread or
            process may apply them, with `keys`, and tell `apply` so.
        values_ahead: pixel values of an image after `ahead`; 0 where they are not known.
        reduces: as given; whoever reads pictures then asks `factors` how they are decoded.
        drawn: names of the transforms that leave something to chance; after the others an image is always the same.
        begins_on: where `apply` works first, so that images of one size and their indices are best handed over there.
        gives_one_size: whether images of any size have one size after the transforms.
        keeps_places: whether what is told of a stored image's pixels holds for the same pixels afterwards.
        scales: whether `apply` found uint8 at the end and scaled grey levels 0..255 to 0..1.

    Raises:
        RecipeError: a transform does what the engine does, stands in the wrong list, or has no batched version.
    """

    def __init__(
        self,
        stages: Sequence[Any],
        preprocess: Sequence[Any],
        *,
        seed: int,
        backend: Backend = "auto",
        device: torch.device | str = "cpu",
        reduces: bool = False,
    ) -> None:
        self.reduces = reduces
        self._seed = seed
        self._device = torch.device(device)
        self._augment = _plan(stages, 0, backend)
        self._all = (*self._augment, *_plan(preprocess, len(stages), backend))
        _check(self._augment, self._all, backend)
        self._chooses = backend == "auto" and self._device.type == "cpu"
        self.ahead: Sequence[Singly] = _ahead(self._all, chooses=self._chooses)
        self.values_ahead = 3 * reduce(lambda area, stage: _area_after(stage, area), self._all[: len(self.ahead)], 0)
        self.drawn: Sequence[str] = [stage.name for stage in self._all if not stage.is_settled()]
        self.begins_on = torch.device("cpu") if any(s.batched is None for s in self._all) else self._device
        self.keeps_places = all(stage.keeps_places() for stage in self._all)
        self.gives_one_size = any(stage.gives_one_size() for stage in self._all)
        self.scales = False

    def keys(self, *, epoch: int, indices: Tensor) -> list[tuple[int, ...]]:
        """Return what `ahead` needs to know of each image: a key per transform."""
        draws = Draws(self._seed, epoch, indices.cpu())
        return list(zip(*(stage.keys(draws) for stage in self._all[: len(self.ahead)]), strict=True))

    def factors(self, *, epoch: int, indices: Tensor) -> list[Factor] | None:
        """Return by how much each picture is decoded smaller, once its size is known; None where none is."""
        if not self.reduces or not self.ahead:
            return None
        running = [Running(each) for each in self.ahead]
        return [factor_by(running, keys) for keys in self.keys(epoch=epoch, indices=indices)]

    def apply(self, images: Images, *, epoch: int, indices: Tensor, begun: bool = False) -> Tensor:
        """Return the model's input.

        Args:
            images: uint8 (N, H, W, C), or a list of such images that may differ in size; left as they are.
            epoch: part of the draws' key.
            indices: of each image in its split, int64 (N,), best where `begins_on` says; part of the draws' key.
            begun: `ahead` was applied already.

        Returns:
            float32 (N, C, H, W) on the pipeline's device, channels_last.

        Raises:
            DataError: an image does not suit a transform, or the sizes still differ at the end.
        """
        done = self._run(images, self._all, epoch, indices, first=len(self.ahead) if begun else 0)
        pixels = done.to(torch.float32)
        self.scales = done.dtype == torch.uint8  # only running tells: a transform of somebody's own may make float
        if self.scales:
            pixels.mul_(1 / 255)
        return pixels.permute(0, 3, 1, 2)

    def uint8(self, images: Images, *, epoch: int, indices: Tensor) -> Tensor:
        """Return the images as they are before `preprocess`, uint8 (N, H, W, C), otherwise as `apply`.

        Raises:
            RecipeError: a transform of the first list made float.
        """
        return self._run(images, self._augment, epoch, indices)

    def shown(self, images: Images, *, epoch: int, indices: Tensor) -> list[np.ndarray]:
        """Return the images as they last are in grey levels, before they are normalised, otherwise as `apply`.

        Args:
            images: as `apply` takes them; they may differ in size.
            epoch: part of the draws' key.
            indices: of each image in its split, int64 (N,).

        Returns:
            uint8 (H, W, C) each, of several sizes where what gives them one stands after what makes float.

        Raises:
            DataError: an image does not suit a transform.
        """
        if not len(indices):
            return []
        last: Images = images
        for done in self._steps(images, self._all, epoch, indices):
            if isinstance(done, list):
                last = done if all(image.dtype == np.uint8 for image in done) else last
            elif done.dtype == torch.uint8:
                last = done.clone()
        return last if isinstance(last, list) else list(last.cpu().numpy())

    def log_lines(self) -> list[str]:
        """Say which transforms run in batches, which by Albumentations and why, and what `apply` did beside them."""
        lines = []
        in_batches = [stage.name for stage in self._all if stage.batched is not None]
        if in_batches:
            lines.append(f"transforms in batches: {', '.join(in_batches)}")
        lines += [
            f"{s.name} runs by Albumentations on images of more than {s.wins_up_to:,.0f} pixels, where it is faster"
            for s in self._all
            if self._chooses and s.wins_up_to < math.inf
        ]
        lines += [
            f"{s.name} runs by Albumentations, image by image: {s.reason}" for s in self._all if s.batched is None
        ]
        if self.scales:
            lines.append("no transform makes float: grey levels 0..255 are scaled to 0..1")
        return lines

    def _run(self, images: Images, stages: Sequence[Stage], epoch: int, indices: Tensor, first: int = 0) -> Tensor:
        """Return what `stages` make of images, from number `first` on, as one batch on the device."""
        for done in self._steps(images, stages, epoch, indices, first):
            last = done
        return sent(_together(last), self._device)

    def _steps(
        self, images: Images, stages: Sequence[Stage], epoch: int, indices: Tensor, first: int = 0
    ) -> Iterator[Images]:
        """Yield images as they begin and after each of `stages` from number `first` on.

        What was yielded holds until the next is asked for: a stage may work in place.

        The list has three stretches, each of which may be empty. Images that differ in size pass one by one until a
        stage gives all of them one size; then batches stay on the CPU until the last stage that Albumentations runs;
        the rest is done on the device.
        """
        one_by_one = _until_one_size(stages) if isinstance(images, list) else 0
        on_cpu = max(one_by_one, _until_last_upstream(stages))
        if not isinstance(images, list):
            images = self._brought(images, on_cpu=on_cpu > 0)
        draws = Draws(self._seed, epoch, indices.cpu() if on_cpu else sent(indices, self._device))
        yield images
        for number, stage in list(enumerate(stages))[first:]:
            if number == on_cpu > 0:
                images = sent(_together(images), self._device)
                draws = Draws(self._seed, epoch, sent(indices, self._device))
            if number < one_by_one or stage.batched is None or (self._chooses and stage.loses_on(images)):
                images = stage.one_by_one(_apart(images), draws)
            else:
                images = stage.batched(_together(images), draws.at(stage.position)).contiguous()  # the next may write
            if number < len(self._augment):
                _require_levels(images, stage)
            yield images

    def _brought(self, images: Tensor, *, on_cpu: bool) -> Tensor:
        """Return images where they are worked on first; on the CPU a copy, since transforms work in place there."""
        images = images.to("cpu" if on_cpu else self._device)
        return torch.from_numpy(images.numpy().copy(order="C")) if images.device.type == "cpu" else images


# ------------------------------------------------------------------------------------------------------------- the plan
def _plan(transforms: Sequence[Any], first: int, backend: Backend) -> tuple[Stage, ...]:
    """Decide who runs each transform.

    Args:
        transforms: Albumentations instances or `Batched`.
        first: position of the first of them in the whole list.
        backend: as `Pipeline` takes it.
    """
    plan: list[Stage] = []
    float_by = ""
    for position, transform in enumerate(transforms, start=first):
        name = type(transform).__name__
        if not hasattr(transform, "set_random_state"):  # every upstream transform has it
            plan.append(Stage(name, position, (), transform, ""))
            continue
        reason = f"the image is float after {float_by}" if float_by else why_not(transform)
        if backend == "albumentations":
            reason = "augment_backend is albumentations"
        elif plan and not reason and (pair := _pair(plan[-1], transform)) is not None:
            plan[-1] = pair
            continue
        plan.append(Stage(name, position, (transform,), None if reason else batched(transform), reason))
        float_by = name if name in MAKES_FLOAT else float_by
    return tuple(plan)


def _pair(before: Stage, transform: Any) -> Stage | None:
    """Return the stage that runs a transform with the one before it, where the two have a batched version together."""
    together = batched_pair(before.upstream[0], transform) if len(before.upstream) == 1 else None
    if together is None:
        return None
    name = f"{before.name} + {type(transform).__name__}"
    return Stage(name, before.position, (*before.upstream, transform), together, "")


def _check(augment: Sequence[Stage], stages: Sequence[Stage], backend: Backend) -> None:
    """Refuse what the engine does itself, float too early, and what has no batched version where that is asked for."""
    for stage in stages:
        if stage.name in MAKES_TENSOR:
            raise RecipeError(f"{stage.name} is not needed", "leave it out: the engine makes tensors (C, H, W) itself")
    for stage in augment:
        if stage.name in MAKES_FLOAT:
            raise RecipeError(
                f"{stage.name} makes float, but augment and eval keep uint8", "move it to data.preprocess"
            )
    alone = [stage for stage in stages if stage.batched is None]
    if backend == "batched" and alone:
        reasons = "; ".join(f"{stage.name}: {stage.reason}" for stage in alone)
        raise RecipeError(
            f"augment_backend is batched, but {reasons}", "augment_backend: auto runs these by Albumentations"
        )


def _until_one_size(stages: Sequence[Stage]) -> int:
    """Return how many stages have to pass before images of several sizes have one: all where none gives it."""
    for number, stage in enumerate(stages):
        if stage.gives_one_size():
            return number + 1
    return len(stages)


def _until_last_upstream(stages: Sequence[Stage]) -> int:
    """Return how many stages have to pass before none is left that Albumentations runs."""
    return max((number for number, stage in enumerate(stages, start=1) if stage.batched is None), default=0)


def _ahead(stages: Sequence[Stage], *, chooses: bool) -> list[Singly]:
    """Return the transforms that may run ahead of the training, in another thread or process.

    These are the first, as far as images of several sizes pass them one by one anyway, keep uint8, Albumentations runs
    them and they can be sent there.

    Args:
        stages: all.
        chooses: whether Albumentations runs what is slower in batches, once images have one size.
    """
    found: list[Singly] = []
    area = 0
    for number, stage in enumerate(stages):
        one_by_one = number < _until_one_size(stages) or stage.batched is None
        one_by_one = one_by_one or (chooses and area > stage.wins_up_to)
        area = _area_after(stage, area)
        single = Singly(stage.name, stage.upstream)
        if not stage.upstream or not one_by_one or stage.name in MAKES_FLOAT or not single.travels():
            break
        found.append(single)
    return found


def _area_after(stage: Stage, before: int) -> int:
    """Return how many pixels every image has after a stage; 0 where that is not known."""
    for one in stage.upstream:
        height, width = getattr(one, "size", None) or (getattr(one, "height", 0), getattr(one, "width", 0))
        if type(one).__name__ in MAKES_ONE_SIZE and one.p >= 1:
            return int(height * width)
    return before if all(map(keeps_size, stage.upstream)) else 0


# --------------------------------------------------------------------------------------------------------------- images
def _keeps_places(transform: Any) -> bool:
    bases = {cls.__name__ for cls in type(transform).__mro__}
    if "BaseCompose" in bases:
        return all(map(_keeps_places, transform.transforms))
    return "ImageOnlyTransform" in bases


def _require_levels(images: Images, stage: Stage) -> None:
    """Refuse what a transform of the first list has made of grey levels.

    Raises:
        RecipeError: it is no uint8; some images may be, where it acts on some.
    """
    kinds = {str(images.dtype)} if isinstance(images, Tensor) else {str(image.dtype) for image in images}
    if others := kinds - {"torch.uint8", "uint8"}:
        made = ", ".join(sorted(kind.removeprefix("torch.") for kind in others))
        raise RecipeError(
            f"{stage.name} makes {made}, but augment and eval keep uint8", "move what makes float to data.preprocess"
        )


def _together(images: Images) -> Tensor:
    """Return images as a batch (N, H, W, C)."""
    if not isinstance(images, list):
        return images
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        few = ", ".join("x".join(map(str, shape)) for shape in sorted(shapes)[:4])
        raise DataError(
            f"images of {len(shapes)} sizes cannot make a batch ({few}{', ...' if len(shapes) > 4 else ''})",
            "add a Resize or RandomResizedCrop to data.augment and data.eval",
        )
    return torch.from_numpy(np.stack(images))


def _apart(images: Images) -> list[np.ndarray]:
    """Return images as a list, each (H, W, C)."""
    return images if isinstance(images, list) else list(images.numpy())


def _singly(name: str, transform: Batched, images: list[np.ndarray], draws: Draws) -> list[np.ndarray]:
    """Run a batched transform on images (H, W, C) that differ in size: a batch of one each."""
    done = []
    for row, image in enumerate(images):
        one = torch.from_numpy(image.copy())[None]
        try:
            done.append(transform(one, draws.subset(torch.tensor([row])))[0].numpy())
        except (UserError, MemoryError):
            raise
        except Exception as error:  # somebody's own transform raises as it likes
            text = f"{name} cannot transform an image of shape {image.shape}: {type(error).__name__}: {error}"
            raise UnsuitableImage(text, row=row) from error
    return done
