"""GradCAM of 25 CIFAR-sized images at four layers of a ResNet-18, raw maps upsampled to the image.

Ours (one dry forward, one forward, one gradient for everything), the grad-cam package as its examples use it, one image
and one layer at a time, the same with the batch at once, and captum. Owns what is run; `python -m benchmarks` times it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from registry.models.cifar_resnet import cifar_resnet18
from registry.reports.cam import explain, upsampled

IMAGES, SIDE, CLASSES = 25, 32, 10
LAYERS = ("layer1", "layer2", "layer3", "layer4")


def variants() -> dict[str, Callable[[], int]]:
    """Return what is compared; each call does its work once and returns how many images it explained."""
    torch.manual_seed(0)
    model = cifar_resnet18(CLASSES).eval()
    images = torch.randn(IMAGES, 3, SIDE, SIDE)
    with torch.no_grad():
        targets = model(images).argmax(1)
    return {
        "ours": _ours(model, images, targets),
        "grad-cam, one by one": _package(model, images, targets, at_once=1),
        "grad-cam, in a batch": _package(model, images, targets, at_once=IMAGES),
        "captum, in a batch": _captum(model, images, targets),
    }


def _ours(model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> Callable[[], int]:
    def run() -> int:
        found = explain(model, images, LAYERS, targets)
        for maps in found.maps.values():
            upsampled(maps, (SIDE, SIDE))
        return IMAGES

    return run


def _package(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, at_once: int) -> Callable[[], int]:
    def run() -> int:
        for layer in LAYERS:
            with GradCAM(model=model, target_layers=[model.get_submodule(layer)]) as cam:
                for i in range(0, IMAGES, at_once):
                    batch = slice(i, i + at_once)
                    cam(input_tensor=images[batch], targets=[ClassifierOutputTarget(int(t)) for t in targets[batch]])
        return IMAGES

    return run


def _captum(model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> Callable[[], int]:
    def run() -> int:
        for layer in LAYERS:
            cam = LayerGradCam(model, model.get_submodule(layer))
            upsampled(cam.attribute(images, targets, relu_attributions=True).detach()[:, 0], (SIDE, SIDE))
        return IMAGES

    return run
