"""ResNets for 32x32 images: a 3x3 stem without pooling, after He et al., "Deep Residual Learning" (arXiv 1512.03385).

Owns the residual networks of the CIFAR recipes; `torchvision.py` beside it has the ones for large images. Knows nothing
of data, losses or training. Every activation is a module of its own, so that GradCAM can name and hook it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor, nn

from registry.catalogue.markers import Bounds
from registry.models.dropout import QuickDropout

__all__ = ["cifar_resnet18", "cifar_resnet34", "cifar_resnet50"]

STAGE_WIDTHS = (64, 128, 256, 512)
STAGE_STRIDES = (1, 2, 2, 2)


def cifar_resnet18(
    num_classes: Annotated[int, Bounds(min=1)],
    in_channels: Annotated[int, Bounds(min=1)] = 3,
    dropout: Annotated[float, Bounds(min=0, below=1)] = 0.0,
) -> CifarResNet:
    """Build the ResNet-18 for small images, 11.2 million parameters; its maps are 32, 16, 8 and 4 px wide on 32 px.

    Args:
        num_classes: classes to tell apart.
        in_channels: 3 for RGB, 1 for grey.
        dropout: share of activations zeroed after the stem's ReLU and after each block's first ReLU, in training only.

    Returns:
        The network, with torch's default initialisation; images (N, C, H, W) in, logits (N, num_classes) out.
    """
    return CifarResNet(_BasicBlock, (2, 2, 2, 2), num_classes, in_channels, dropout)


def cifar_resnet34(
    num_classes: Annotated[int, Bounds(min=1)],
    in_channels: Annotated[int, Bounds(min=1)] = 3,
    dropout: Annotated[float, Bounds(min=0, below=1)] = 0.0,
) -> CifarResNet:
    """Build the ResNet-34 for small images, 21.3 million parameters.

    Args:
        num_classes: classes to tell apart.
        in_channels: 3 for RGB, 1 for grey.
        dropout: share of activations zeroed after the stem's ReLU and after each block's first ReLU, in training only.

    Returns:
        The network, with torch's default initialisation; images (N, C, H, W) in, logits (N, num_classes) out.
    """
    return CifarResNet(_BasicBlock, (3, 4, 6, 3), num_classes, in_channels, dropout)


def cifar_resnet50(
    num_classes: Annotated[int, Bounds(min=1)],
    in_channels: Annotated[int, Bounds(min=1)] = 3,
    dropout: Annotated[float, Bounds(min=0, below=1)] = 0.0,
) -> CifarResNet:
    """Build the ResNet-50 for small images, of bottleneck blocks, 23.5 million parameters.

    Args:
        num_classes: classes to tell apart.
        in_channels: 3 for RGB, 1 for grey.
        dropout: share of activations zeroed after the stem's ReLU and after each block's first ReLU, in training only.

    Returns:
        The network, with torch's default initialisation; images (N, C, H, W) in, logits (N, num_classes) out.
    """
    return CifarResNet(_Bottleneck, (3, 4, 6, 3), num_classes, in_channels, dropout)


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and the shortcut around them."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU(inplace=True)
        self.dropout = QuickDropout(dropout)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(in_channels, width, stride)
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(self.relu1(self.bn1(self.conv1(x))))
        out: Tensor = self.relu2(self.bn2(self.conv2(hidden)) + self.shortcut(x))
        return out


class _Bottleneck(nn.Module):
    """A 3x3 convolution between a narrowing and a widening 1x1, and the shortcut around them."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, dropout: float) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU(inplace=True)
        self.dropout = QuickDropout(dropout)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = _shortcut(in_channels, out_channels, stride)
        self.relu3 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(self.relu1(self.bn1(self.conv1(x))))
        hidden = self.relu2(self.bn2(self.conv2(hidden)))
        out: Tensor = self.relu3(self.bn3(self.conv3(hidden)) + self.shortcut(x))
        return out


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return the identity where shapes agree, else a projection."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(out_channels))


class CifarResNet(nn.Module):
    """Stem, four stages named layer1 to layer4, global average pool, linear head."""

    def __init__(
        self,
        block: type[_BasicBlock] | type[_Bottleneck],
        depths: Sequence[int],
        num_classes: int,
        in_channels: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, STAGE_WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STAGE_WIDTHS[0])
        self.relu = nn.ReLU(inplace=True)
        self.dropout = QuickDropout(dropout)
        channels = STAGE_WIDTHS[0]
        stages: list[nn.Sequential] = []
        for width, depth, first_stride in zip(STAGE_WIDTHS, depths, STAGE_STRIDES, strict=True):
            blocks: list[nn.Module] = []
            for stride in (first_stride, *[1] * (depth - 1)):
                blocks.append(block(channels, width, stride, dropout))
                channels = width * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, C, H, W)."""
        x = self.dropout(self.relu(self.bn1(self.conv1(x))))  # (N, 64, H, W)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (N, 512 * expansion, H/8, W/8)
        logits: Tensor = self.fc(self.pool(x).flatten(1))
        return logits
