"""Class-activation methods: how a map follows from a layer's activations and gradients, a table beside its formulas.

Each takes activations A and gradients dy/dA of the class logit y, both float32 (N, C, H, W), and returns a map
(N, H, W) that is never negative. Nothing here runs a network.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Return ReLU(sum_k alpha_k A_k), alpha_k the mean of dy/dA_k over space (Selvaraju et al., arXiv 1610.02391)."""
    weights = gradients.mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
    return (weights * activations).sum(1).relu()


def grad_cam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Return ReLU(sum_k w_k A_k), w_k = sum_ij a_kij ReLU(dy/dA_kij) (Chattopadhay et al., arXiv 1710.11063).

    With the exponential of the logit as the score, a = g^2 / (2 g^2 + sum A g^3); that exponential is a positive factor
    of the whole map and left out, so that the raw maximum stays finite.
    """
    squared = gradients.square()
    denominator = 2 * squared + (activations.sum(dim=(2, 3), keepdim=True) * squared * gradients)
    share = torch.where(
        denominator != 0, squared / denominator.where(denominator != 0, torch.ones_like(denominator)), 0
    )
    weights = (share * gradients.relu()).sum(dim=(2, 3), keepdim=True)
    return (weights * activations).sum(1).relu()


def layer_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Return ReLU(sum_k ReLU(dy/dA_k) * A_k), each place with its own weight (Jiang et al., IEEE TIP 2021)."""
    return (gradients.relu() * activations).sum(1).relu()


def eigen_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Return the activations' first principal component, of no class (Muhammad & Yeasin, arXiv 2008.00299).

    The projection of each place's channels on the first right singular vector, signed so that its sum is positive.
    """
    del gradients
    places = activations.flatten(2).transpose(1, 2).double()  # (N, H*W, C)
    right: Tensor = torch.linalg.svd(places, full_matrices=False).Vh
    component = (places @ right[:, 0, :, None]).squeeze(-1)  # (N, H*W)
    component = component * torch.where(component.sum(1, keepdim=True) < 0, -1.0, 1.0)
    maps: Tensor = component.reshape(activations.shape[0], *activations.shape[2:])
    return maps.relu().float()


METHODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "GradCAM": grad_cam,
    "GradCAMPlusPlus": grad_cam_plus_plus,
    "LayerCAM": layer_cam,
    "EigenCAM": eigen_cam,
}
