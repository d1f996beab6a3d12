"""Evaluation: every sample of a part once, no gradients, modes restored. Knows nothing of epochs or checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from registry.contracts import Metric
from trainer.data.batches import Batch
from trainer.engine.criterion import Criterion, Loss
from trainer.engine.meters import BatchResult, Meter
from trainer.engine.precision import Precision
from trainer.engine.processes import ONE, Processes

TTA = Literal["none", "flip", "flip_translate"]


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation over a whole part.

    Attributes:
        loss: plain loss of the whole part, whatever the batches; NaN where no image counts in it.
        metrics: value by key.
        logits: float32 (N, C) on the CPU; None unless asked for, and where another process has them.
        targets: int64 (N,) on the CPU; None unless asked for.
        indices: int64 (N,) positions in the dataset split; None unless asked for.
    """

    loss: float
    metrics: Mapping[str, float]
    logits: Tensor | None = None
    targets: Tensor | None = None
    indices: Tensor | None = None


@contextmanager
def evaluation_mode(*parts: object) -> Iterator[None]:
    """Put those parts that are modules into eval mode, and restore each module's own mode afterwards."""
    whole = [part for part in parts if isinstance(part, nn.Module)]
    modes = [(module, module.training) for part in whole for module in part.modules()]
    for part in whole:
        part.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Loss,
    metrics: Mapping[str, Metric],
    precision: Precision,
    *,
    tta: TTA = "none",
    keep: bool = False,
    between: Callable[[], None] = lambda: None,
    processes: Processes = ONE,
) -> Evaluation:
    """Evaluate `model` on `batches`.

    Args:
        model: any mode; restored, like the loss's where it is a module.
        batches: the whole part, once.
        loss: plain loss.
        metrics: by key; reset first.
        precision: of the forward pass.
        tta: test-time augmentation.
        keep: keep logits, targets and indices.
        between: called before each batch; may raise to stop.
        processes: over all of which the numbers are; what is kept comes together on the first.
    """
    meter, criterion = Meter(metrics, processes), Criterion(loss)
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    with evaluation_mode(model, loss), torch.inference_mode():
        for batch in batches:
            between()
            if not processes.counts(batch):
                continue
            with precision.autocast():
                logits = averaged_logits(model, batch.images, tta)
            part = criterion(logits, batch.targets)
            meter.add([BatchResult(part, logits, batch.targets, criterion.weight(batch.targets))])
            if keep:
                kept.append((logits.cpu(), batch.targets.cpu(), batch.indices.cpu()))
        values = meter.read()
    mean = values.pop("loss", float("nan"))
    if not keep:
        return Evaluation(mean, values)
    columns = [torch.cat(column).clone() for column in zip(*kept, strict=True)]
    return Evaluation(mean, values, *processes.on_first(columns))


def averaged_logits(model: nn.Module, images: Tensor, tta: TTA) -> Tensor:
    """Return logits (N, C) of `images` (N, C, H, W), averaged over test-time augmentations in float32.

    `flip_translate` weighs as airbench94 does (github.com/KellerJordan/cifar10-airbench): the image and its mirror
    count half, the same moved by one pixel up-left and down-right, edges reflected, the other half.
    """

    def answered(inputs: Tensor) -> Tensor:
        return model(inputs).float()  # type: ignore[no-any-return]

    def mirrored(inputs: Tensor) -> Tensor:
        return 0.5 * answered(inputs) + 0.5 * answered(inputs.flip(-1))

    if tta == "none":
        return answered(images)

    centred = mirrored(images)
    if tta == "flip":
        return centred
    height, width = images.shape[-2:]
    padded = nn.functional.pad(images, (1, 1, 1, 1), mode="reflect")
    corners = (padded[..., :height, :width], padded[..., 2:, 2:])
    moved = sum(mirrored(corner.contiguous(memory_format=torch.channels_last)) for corner in corners)
    return 0.5 * centred + 0.25 * moved
