"""Muon for convolutional networks: momentum whose matrices are orthogonalised before each step.

Owns `MuonConv`. `torch.optim.Muon` takes matrices alone; this one flattens convolution kernels to matrices and takes
plain SGD steps for biases and norms, so that one optimizer serves a whole network. Knows nothing of schedules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from registry.catalogue.adoption import Change
from registry.catalogue.markers import Bounds

__all__ = ["MuonConv"]

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan's quintic: steepest at 0, brings singular values within 0.7..1.2
TINY = 1e-7


class MuonConv(torch.optim.Optimizer):
    """Muon for whole networks: kernels and matrices step along the orthogonalised momentum, everything else by SGD.

    A kernel (out, in, h, w) is the matrix (out, in * h * w). Its momentum is replaced by nearly the nearest
    semi-orthogonal matrix, found by Newton-Schulz iterations in bfloat16, so that a step changes all directions much
    alike and `lr` is about the step's spectral norm: after five iterations between 0.7 and 1.2 times it in every
    direction. Sources: Jordan et al., "Muon: an optimizer for hidden layers in neural networks"
    (kellerjordan.github.io/posts/muon, 2024); Bernstein and Newhouse, "Old optimizer, new norm" (arXiv 2409.20325);
    Nesterov momentum as in Sutskever et al. (ICML 2013).

    Args:
        params: parameters, or groups of them.
        lr: learning rate per step; for orthogonalised tensors the spectral norm of the step, 0.02 to 0.5.
        momentum: share of the earlier gradients kept, 0..1; 0.6 for short runs, up to 0.95.
        nesterov: look one step ahead along the momentum.
        weight_decay: for orthogonalised tensors decoupled (the share lr * weight_decay is taken off), for the others
            added to the gradient as SGD does.
        update: `orthogonal`, `sgd`, or `auto`: orthogonal for tensors of two or more dimensions. Set it per group,
            for example `sgd` for the head.
        normalize: rescale each orthogonalised tensor to the norm sqrt(out) before its step, so that `lr` is relative
            to its size; for networks that normalise after each convolution.
        ns_steps: Newton-Schulz iterations; 3 are enough for small networks, and hardly move the weakest directions of
            square matrices; 5 are common.
        sgd_scale: factor on `lr` for tensors that take SGD steps.
    """

    change: ClassVar = Change(facts={"usual": {"lr": [1e-4, 10], "weight_decay": [0, 1]}})

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: Annotated[float, Bounds(above=0)] = 0.02,
        momentum: Annotated[float, Bounds(min=0, below=1)] = 0.95,
        nesterov: bool = True,
        weight_decay: Annotated[float, Bounds(min=0)] = 0.0,
        update: Literal["auto", "orthogonal", "sgd"] = "auto",
        normalize: bool = False,
        ns_steps: Annotated[int, Bounds(min=1, max=20)] = 5,
        sgd_scale: Annotated[float, Bounds(min=0)] = 1.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "update": update,
            "normalize": normalize,
            "ns_steps": ns_steps,
            "sgd_scale": sgd_scale,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            if group["update"] == "orthogonal" and any(p.dim() < 2 for p in group["params"]):
                raise ValueError(
                    "update 'orthogonal' needs tensors of two or more dimensions; biases take 'sgd' or 'auto'"
                )

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Take one step.

        Args:
            closure: evaluates the loss again and returns it; rarely needed.

        Returns:
            What `closure` returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            learning = [p for p in group["params"] if p.grad is not None]
            flat = [p for p in learning if group["update"] == "sgd" or p.dim() < 2]
            matrices = [p for p in learning if group["update"] != "sgd" and p.dim() >= 2]
            if flat:
                self._step_sgd(flat, group)
            if matrices:
                self._step_orthogonal(matrices, group)
        return loss

    def _step_sgd(self, params: list[Tensor], group: dict[str, Any]) -> None:
        gradients = _gradients(params)
        if group["weight_decay"] != 0:
            gradients = list(torch._foreach_add(gradients, params, alpha=group["weight_decay"]))
        torch._foreach_add_(params, self._momentum(params, gradients, group), alpha=-group["lr"] * group["sgd_scale"])

    def _step_orthogonal(self, params: list[Tensor], group: dict[str, Any]) -> None:
        directions = self._momentum(params, _gradients(params), group)
        if group["normalize"]:
            norms = torch._foreach_norm(params)
            torch._foreach_clamp_min_(norms, TINY)
            torch._foreach_div_(params, norms)
            torch._foreach_mul_(params, [p.shape[0] ** 0.5 for p in params])
        if group["weight_decay"] != 0:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(params, _orthogonalized(directions, group["ns_steps"]), alpha=-group["lr"])

    def _momentum(self, params: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """Take the gradients into the momentum buffers and return the directions to step along."""
        for p in params:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        buffers: list[Tensor] = [self.state[p]["momentum_buffer"] for p in params]
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, gradients)
        if not group["nesterov"]:
            return buffers
        return list(torch._foreach_add(gradients, buffers, alpha=group["momentum"]))


def _gradients(params: list[Tensor]) -> list[Tensor]:
    return [p.grad for p in params if p.grad is not None]


def _orthogonalized(tensors: list[Tensor], steps: int) -> list[Tensor]:
    """Return each tensor, flattened to (rows, rest), as its nearest semi-orthogonal matrix, in its old shape.

    Matrices of one shape are iterated as one batch.
    """
    by_shape: dict[torch.Size, list[int]] = {}
    matrices = [tensor.reshape(len(tensor), -1) for tensor in tensors]
    for position, matrix in enumerate(matrices):
        by_shape.setdefault(matrix.shape, []).append(position)
    results = list(tensors)
    for positions in by_shape.values():
        batch = newton_schulz(torch.stack([matrices[position] for position in positions]), steps)
        for position, matrix in zip(positions, batch.unbind(), strict=True):
            results[position] = matrix.view(tensors[position].shape).to(tensors[position].dtype)
    return results


def newton_schulz(matrices: Tensor, steps: int) -> Tensor:
    """Push the singular values of each matrix towards 1, in bfloat16.

    Args:
        matrices: (batch, rows, columns).
        steps: iterations.

    Returns:
        bfloat16 matrices of the same shape, with the same singular vectors; all-zero matrices stay zero.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices.bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=TINY)  # the largest singular value is at most 1
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT  # the Gram matrix below is the smaller one
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).contiguous()
