"""One S10 step (ResNet18, dropout, batch 128, L1 and L2): ours, the naive loop of the course, and one tuned by hand.

The naive loop is fp32, NCHW, penalties as sums in the loss by a Python loop over parameters, SGD's default. The tuned
one is bf16 autocast, channels_last, fused SGD, penalties added to the gradients in two foreach calls.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from registry.models.cifar_resnet import cifar_resnet18
from registry.regularizers import L1, L2
from trainer.data.batches import Batch
from trainer.engine import precision as precisions
from trainer.engine.guard import Guard
from trainer.engine.step import Penalty, Step

BATCH, DROPOUT = 128, 0.15  # as the recipe has them


def variants() -> dict[str, Callable[[], int]]:
    """Return the three loops; a call is one step."""
    images = torch.randn(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(BATCH) % 10
    return {
        "ours": _ours(images, targets),
        "tuned by hand": _tuned(images, targets),
        "naive fp32 NCHW": _naive(images, targets),
    }


def _naive(images: torch.Tensor, targets: torch.Tensor) -> Callable[[], int]:
    model = cifar_resnet18(10, dropout=DROPOUT)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    loss_of = nn.CrossEntropyLoss()

    def run() -> int:
        model.train()
        optimizer.zero_grad()
        loss = loss_of(model(images), targets)
        ones = sum(p.abs().sum() for p in model.parameters())
        squares = sum(p.pow(2).sum() for p in model.parameters())
        (loss + 3e-6 * ones + 0.5e-3 * squares).backward()
        optimizer.step()
        loss.item()
        return 1

    return run


def _tuned(images: torch.Tensor, targets: torch.Tensor) -> Callable[[], int]:
    model = cifar_resnet18(10, dropout=DROPOUT).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, fused=True)
    loss_of = nn.CrossEntropyLoss()
    inputs = images.contiguous(memory_format=torch.channels_last)
    bf16 = precisions.cpu_has_native_bf16()

    def run() -> int:
        model.train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = model(inputs)
        loss = loss_of(logits.float(), targets)
        loss.backward()
        with torch.no_grad():
            gradients = [p.grad for p in parameters]
            torch._foreach_add_(gradients, torch._foreach_sign(parameters), alpha=3e-6)
            torch._foreach_add_(gradients, parameters, alpha=1e-3)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        return 1

    return run


def _ours(images: torch.Tensor, targets: torch.Tensor) -> Callable[[], int]:
    model = cifar_resnet18(10, dropout=DROPOUT).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, fused=True)
    precision, _ = precisions.choose("auto", torch.device("cpu"))
    penalties = [Penalty("l1", L1(3e-6), parameters), Penalty("l2", L2(1e-3), parameters)]
    step = Step(model, nn.CrossEntropyLoss(), optimizer, precision, penalties, None, Guard(torch.device("cpu")))
    inputs = images.contiguous(memory_format=torch.channels_last)
    batch = Batch(inputs, targets, torch.arange(BATCH))

    def run() -> int:
        model.train()
        step([batch])
        return 1

    return run
