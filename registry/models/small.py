"""A small convolutional network for first steps: seconds to train, maps fine enough for GradCAM to point.

Owns `SmallCNN` and nothing else. Knows nothing of data, losses or training.
"""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from registry.catalogue.markers import Bounds

__all__ = ["SmallCNN"]


class SmallCNN(nn.Module):
    """Three 3x3 and one 1x1 convolution with BatchNorm in three stages, global average pool, linear head.

    Only two poolings: on 32 px the last stage keeps a map of 8x8, and because a plain average follows it, GradCAM
    there is exact in the sense of CAM (Zhou et al., arXiv 1512.04150). The last convolution looks at one cell of the
    map alone: that keeps evidence where it is. About 67,000 parameters at the default width.

    Args:
        num_classes: classes to tell apart.
        in_channels: 3 for RGB, 1 for grey.
        width: channels of the first stage; the second has one and a half times as many, the third three times.
        dropout: share of the pooled features zeroed before the head, in training only.
    """

    def __init__(
        self,
        num_classes: Annotated[int, Bounds(min=1)],
        in_channels: Annotated[int, Bounds(min=1)] = 3,
        width: Annotated[int, Bounds(min=2)] = 32,
        dropout: Annotated[float, Bounds(min=0, below=1)] = 0.0,
    ) -> None:
        super().__init__()
        widths = (width, width * 3 // 2, width * 3)
        self.layer1 = nn.Sequential(*_convolution(in_channels, widths[0]), nn.MaxPool2d(2))
        self.layer2 = nn.Sequential(*_convolution(widths[0], widths[1]), nn.MaxPool2d(2))
        self.layer3 = nn.Sequential(*_convolution(widths[1], widths[2]), *_convolution(widths[2], widths[2], 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(widths[2], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, C, H, W)."""
        x = self.layer3(self.layer2(self.layer1(x)))  # (N, 3 * width, H/4, W/4)
        logits: Tensor = self.fc(self.dropout(self.pool(x).flatten(1)))
        return logits


def _convolution(in_channels: int, out_channels: int, size: int = 3) -> tuple[nn.Module, ...]:
    """Return convolution, norm and activation; the norm's shift makes a bias useless."""
    return (
        nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
