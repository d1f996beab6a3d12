"""Mixed precision: fp32, bf16 and fp16, one small class each behind the same four verbs.

Owns the choice by hardware and the gradient scaler. The loop never asks which precision it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

Name = Literal["fp32", "bf16", "fp16"]
NO_SCALE = 1.0  # of fp16's losses: a gradient that overflows even so is no matter of the format


class Precision:
    """Full precision, float32; the base that does nothing special."""

    name: Name = "fp32"

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context that the forward pass runs in."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Run the backward pass of a scalar loss."""
        loss.backward()

    def unscale(self, optimizer: Optimizer) -> None:
        """Bring `.grad` to true size, before penalties and clipping."""

    def fault(self, found: Tensor) -> Tensor:
        """Return what `found`, not 0 where a gradient is not finite, says of the network; on the device."""
        return found

    def leave_out(self, optimizer: Optimizer) -> None:
        """Instead of `step`, after `unscale`: the update is not taken."""

    def step(self, optimizer: Optimizer) -> None:
        """Let the optimizer step."""
        optimizer.step()

    def state(self) -> dict[str, Any]:
        """Return what must survive a resume."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""


def products(precision: Precision, device: torch.device, *, deterministic: bool) -> str:
    """Return what is to be said of products of float32 numbers on a device, as device.py sets it; "" for nothing.

    Args:
        precision: in use.
        device: it is in use on.
        deterministic: whether every bit repeats.
    """
    if precision.name != "fp32" or device.type != "cuda" or deterministic:
        return ""
    return "; products in TF32, whole with train.deterministic: true"


class BF16(Precision):
    """Mixed precision with bfloat16, by autocast; weights, gradients and the optimizer stay float32."""

    name: Name = "bf16"

    def __init__(self, device: torch.device) -> None:
        self._autocast = torch.autocast(device.type, dtype=torch.bfloat16)  # entering it again costs little

    def autocast(self) -> AbstractContextManager[object]:
        """Return the bfloat16 autocast context."""
        return self._autocast


class FP16(Precision):
    """Mixed precision with float16: autocast, and a scaler, which skips steps whose gradients overflow."""

    name: Name = "fp16"

    def __init__(self, device: torch.device) -> None:
        self._autocast = torch.autocast(device.type, dtype=torch.float16)
        self._scaler = torch.amp.GradScaler(device.type)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the float16 autocast context."""
        return self._autocast

    def backward(self, loss: Tensor) -> None:
        """Run the backward pass of the scaled loss."""
        self._scaler.scale(loss).backward()

    def unscale(self, optimizer: Optimizer) -> None:
        """Divide `.grad` by the scale, and note overflows."""
        self._scaler.unscale_(optimizer)

    def fault(self, found: Tensor) -> Tensor:
        """Leave overflows to the scaler, as long as it has a scale to come down from."""
        scale = self._scaler.scale(torch.ones((), device=found.device))
        return torch.where(scale > NO_SCALE, torch.zeros_like(found), found)

    def leave_out(self, optimizer: Optimizer) -> None:  # noqa: ARG002  (there is one optimizer)
        """Forget the step, the scale unchanged."""
        scale = self._scaler.state_dict()
        self._scaler.update()
        self._scaler.load_state_dict(scale)

    def step(self, optimizer: Optimizer) -> None:
        """Step unless gradients overflowed, then adapt the scale."""
        self._scaler.step(optimizer)
        self._scaler.update()

    def state(self) -> dict[str, Any]:
        """Return the scaler's state."""
        return dict(self._scaler.state_dict())

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore the scaler; one that starts anew where the state is another format's, which has none."""
        if state:
            self._scaler.load_state_dict(dict(state))


def cpu_has_native_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX); only Linux tells."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return False
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def choose(requested: Literal["auto", "fp32", "bf16", "fp16"], device: torch.device) -> tuple[Precision, str]:
    """Return the precision for `device` and the reason, one phrase for the log."""
    name, reason = (requested, "as the recipe says") if requested != "auto" else _by_hardware(device)
    if name == "bf16":
        return BF16(device), reason
    if name == "fp16":
        return FP16(device), reason
    return Precision(), reason


def _by_hardware(device: torch.device) -> tuple[Name, str]:
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability >= (8, 0):
            return "bf16", f"GPU of compute capability {capability[0]}.{capability[1]} has native bfloat16"
        if capability >= (7, 0):
            return "fp16", f"GPU of compute capability {capability[0]}.{capability[1]} has float16 but no bfloat16"
        return "fp32", f"GPU of compute capability {capability[0]}.{capability[1]} gains nothing from half precision"
    if device.type == "cpu" and cpu_has_native_bf16():
        return "bf16", "this CPU multiplies bfloat16 natively"
    return "fp32", f"no native bfloat16 on this {device.type.upper()}"
