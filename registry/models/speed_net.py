"""A small network that learns CIFAR-10 to 94 % in minutes.

Owns `SpeedNet`. The ideas come from Page's ResNet/DavidNet series "How to train your ResNet" (myrtle.ai, 2018: pooling
before the norm, patch whitening, scaled logits), Balsam's hlb-CIFAR10 (2023: identity initialisation) and Jordan's
"94% on CIFAR-10 in 3.29 seconds on a single GPU" (arXiv 2404.00498: this shape). What else makes it quick, the
augmentation, optimizer and schedule, is the recipe's; nothing here knows of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from registry.catalogue.markers import Bounds

__all__ = ["SpeedNet"]

PREPARE_CHUNK = 500  # images whose patches are held at once, about 23 MB


class SpeedNet(nn.Module):
    """Frozen patch whitening, then a stage of two convolutions per width, each halving the map; a linear head.

    Call `prepare` once, before training: it sets the first layer from training images. Norms learn a shift and no
    scale. On 32 px the stages' maps are 15, 7 and 3 px wide.

    Args:
        num_classes: classes to tell apart.
        in_channels: 3 for RGB, 1 for grey.
        widths: channels of each stage; the default has 2.0 million parameters.
        whiten_size: side of the whitened patches in pixels; the layer has 2 * in_channels * whiten_size^2 channels.
        whiten_eps: added to the patch variances, so that directions without signal are not blown up.
        norm_momentum: share of the newest batch in the running statistics of the norms; short runs need much.
        logit_scale: factor on the logits; below 1 it keeps the loss soft while features form.
    """

    def __init__(
        self,
        num_classes: Annotated[int, Bounds(min=1)],
        in_channels: Annotated[int, Bounds(min=1)] = 3,
        widths: Sequence[Annotated[int, Bounds(min=1)]] = (64, 256, 256),
        whiten_size: Annotated[int, Bounds(min=1)] = 2,
        whiten_eps: Annotated[float, Bounds(above=0)] = 5e-4,
        norm_momentum: Annotated[float, Bounds(above=0, max=1)] = 0.2,
        logit_scale: Annotated[float, Bounds(above=0)] = 1 / 9,
    ) -> None:
        super().__init__()
        self.whiten_eps = whiten_eps
        self.logit_scale = logit_scale
        channels = 2 * in_channels * whiten_size**2
        self.whiten = nn.Conv2d(in_channels, channels, whiten_size)
        self.whiten.weight.requires_grad = False
        nn.init.zeros_(self.whiten.bias)  # type: ignore[arg-type]
        self.act = nn.GELU("tanh")
        self.stages = nn.Sequential()
        for number, width in enumerate(widths, start=1):
            self.stages.add_module(f"layer{number}", _stage(channels, width, norm_momentum))
            channels = width
        self.head = nn.Linear(channels, num_classes, bias=False)

    @torch.no_grad()
    def prepare(self, images: Tensor) -> None:
        """Set the first layer to the whitening filters of these images' patches, each with its negative.

        The filters are the eigenvectors of the patches' second moments, divided by the square root of their
        eigenvalues: responses come out uncorrelated and of equal size.

        Args:
            images: preprocessed training images (N, C, H, W); a few thousand are enough.
        """
        kernel = self.whiten.weight  # (2 * C * k^2, C, k, k)
        dimensions = kernel[0].numel()
        moments = torch.zeros(dimensions, dimensions, device=images.device)
        count = 0
        for chunk in images.float().split(PREPARE_CHUNK):
            patches = nn.functional.unfold(chunk, kernel.shape[2]).mT.reshape(-1, dimensions)
            moments += patches.mT @ patches
            count += len(patches)
        values, vectors = torch.linalg.eigh(moments / count)
        filters = (vectors / (values + self.whiten_eps).sqrt()).mT.reshape(dimensions, *kernel.shape[1:])
        kernel.copy_(torch.cat([filters, -filters]))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, C, H, W)."""
        x = self.stages(self.act(self.whiten(x)))
        logits: Tensor = self.head(x.amax((2, 3)))  # the maximum over the map: (N, widths[-1])
        return logits * self.logit_scale


def _stage(in_channels: int, width: int, norm_momentum: float) -> nn.Sequential:
    """Return two convolutions with norm and activation, the first pooled before its norm."""
    return nn.Sequential(
        _identity_convolution(in_channels, width),
        nn.MaxPool2d(2),
        _shift_norm(width, norm_momentum),
        nn.GELU("tanh"),
        _identity_convolution(width, width),
        _shift_norm(width, norm_momentum),
        nn.GELU("tanh"),
    )


def _identity_convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a 3x3 convolution whose first filters pass their input through; the others start at random."""
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    nn.init.dirac_(convolution.weight.data[: min(in_channels, out_channels)])
    return convolution


def _shift_norm(width: int, momentum: float) -> nn.BatchNorm2d:
    """Return a BatchNorm that learns a shift; its scale stays 1."""
    norm = nn.BatchNorm2d(width, momentum=momentum)
    norm.weight.requires_grad = False
    return norm
