"""A GPU where there is none: tensors in ordinary memory that count as lying on "cuda", and the rules this brings.

The numbers are real, computed by the CPU, so a whole run can be held against its values. What a GPU refuses raises here
with torch's own kind of error: operations over tensors of two devices, NumPy views, generators of another device. What
makes the host wait for the device is counted. Device and storage belong together, so views, gradients and tensors
changed in place are followed; what the autograd engine does inside one call is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

HERE, THERE = torch.device("cpu"), torch.device("cuda", 0)

_READINGS = ("item", "tolist", "__bool__", "__float__", "__int__", "__index__", "__contains__", "is_nonzero", "equal")
_SIZED_BY_VALUES = ("nonzero", "masked_select", "unique", "bincount", "_unique2", "repeat_interleave")
_COPIES = ("copy_", "_foreach_copy_", "__set__", "_has_compatible_shallow_copy_type")  # between any two devices
_STRICT = ("cat", "concat", "stack", "gather", "index_select", "take_along_dim")  # no scalar of the CPU is taken along


class PretendedGPU(TorchFunctionMode):
    """While it is entered, `device="cuda"` is there.

    Attributes:
        waits: the calls that made the host wait for the device, by name, in order.
        moved: values that were copied off the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.moved = 0
        self._there: dict[int, StorageWeakRef] = {}  # storages on the device; what is weakly held keeps its address
        self._own: dict[Any, Callable[..., Any]] = {
            Tensor.device.__get__: self.device_of,
            Tensor.is_cuda.__get__: lambda x: self.device_of(x) == THERE,
            Tensor.is_cpu.__get__: lambda x: self.device_of(x) == HERE,
            Tensor.to: self._to,
            Tensor.cuda: lambda x, *_, **options: self._to(x, THERE, **options),
            Tensor.cpu: lambda x, **options: self._to(x, HERE, **options),
            Tensor.pin_memory: self._pin,
            Tensor.numpy: self._numpy,
            Tensor.__array__: self._numpy,
        }

    def device_of(self, tensor: Tensor) -> torch.device:
        """Return where a tensor lies."""
        return THERE if _key(tensor) in self._there else HERE

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in self._own:
            return self._own[func](*args, **kwargs)
        name = getattr(func, "__name__", str(func))
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        where = self._where(name, args, given)
        if kwargs.get("device") is not None:
            where = THERE if torch.device(kwargs["device"]).type == "cuda" else HERE
            kwargs["device"] = HERE
        self._check_generator(kwargs.get("generator"), where)
        if where == THERE and self._waits(name, args, kwargs):
            self.waits.append(name)
        done = func(*args, **kwargs)
        if where == THERE:
            for each in tree_leaves(done):
                if isinstance(each, Tensor):
                    self._tag(each)
        return done

    def _where(self, name: str, args: Any, given: list[Tensor]) -> torch.device:
        """Return where a call over `given` runs.

        Raises:
            RuntimeError: it mixes devices in a way that torch refuses.
        """
        if not given:
            return HERE
        if name in _COPIES or name == "__setitem__":
            return self.device_of(given[0])
        if name == "__getitem__" and self.device_of(args[0]) == THERE:
            return THERE  # an index may come from the CPU
        there = [self.device_of(each) == THERE for each in given]
        strict = name in _STRICT
        if any(there) and any(not t and (strict or each.ndim) for t, each in zip(there, given, strict=True)):
            sizes = ", ".join(f"{tuple(x.shape)} on {self.device_of(x).type}" for x in given)
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found {sizes}")
        return THERE if any(there) else HERE

    def _check_generator(self, generator: torch.Generator | None, where: torch.device) -> None:
        if generator is not None and generator.device.type != where.type:
            raise RuntimeError(f"expected a '{where.type}' generator, but found one on {generator.device.type}")

    def _waits(self, name: str, args: Any, kwargs: Any) -> bool:
        if name == "copy_":
            return self.device_of(args[1]) == HERE and not kwargs.get("non_blocking", False)
        indices = tree_leaves(args[1]) if name == "__getitem__" else []
        by_value = any(isinstance(x, Tensor) and (x.dtype == torch.bool or self.device_of(x) == HERE) for x in indices)
        return by_value or name in _READINGS or name in _SIZED_BY_VALUES

    def _tag(self, tensor: Tensor) -> Tensor:
        self._there[_key(tensor)] = StorageWeakRef(tensor.untyped_storage())
        return tensor

    def _to(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        copy = kwargs.pop("copy", False)
        if args and isinstance(args[0], Tensor):
            args = (self.device_of(args[0]), args[0].dtype, *args[1:])
        wanted, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
        before = self.device_of(tensor)
        after = before if wanted is None else (THERE if wanted.type == "cuda" else HERE)
        made = tensor.to(dtype=dtype or tensor.dtype, copy=copy, memory_format=memory_format or torch.preserve_format)
        if before != after:
            made = made.clone() if _key(made) == _key(tensor) else made
            if after == HERE or not non_blocking:
                self.waits.append(f"to {after.type}")
            self.moved += tensor.numel() if after == HERE else 0
        return self._tag(made) if after == THERE else made

    def _pin(self, tensor: Tensor) -> Tensor:
        if self.device_of(tensor) == THERE:
            raise RuntimeError("cannot pin a tensor of the GPU: only dense CPU tensors can be pinned")
        return tensor.clone()

    def _numpy(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.device_of(tensor) == THERE:
            raise TypeError("can't convert a cuda tensor to numpy; use Tensor.cpu() first")
        return tensor.numpy(*args, **kwargs)


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@contextmanager
def pretended_gpu() -> Iterator[PretendedGPU]:
    """Enter a pretended GPU, with the functions of torch.cuda that ask a real one."""
    gpu, grouped = PretendedGPU(), torch._C._group_tensors_by_device_and_dtype
    states = {0: torch.zeros(16, dtype=torch.uint8)}

    def by_device(lists: Any, with_indices: bool = False) -> Any:
        found = grouped(lists, with_indices)
        return {
            (next((gpu.device_of(x) for x in group[0] if x is not None), device), dtype): (group, indices)
            for (device, dtype), (group, indices) in found.items()
        }

    def number(device: Any) -> int:
        return device if isinstance(device, int) else torch.device(device).index or 0

    with pytest.MonkeyPatch.context() as patch, gpu:
        patch.setattr(torch._C, "_group_tensors_by_device_and_dtype", by_device)
        for check in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):  # by torch's age
            patch.setattr(torch.optim.Optimizer, check, lambda _: None, raising=False)
        for name, stand_in in {
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "mem_get_info": lambda _device=None: (8 << 30, 8 << 30),
            "get_device_name": lambda _device=None: "pretended",
            "get_device_capability": lambda _device=None: (6, 1),
            "get_rng_state": lambda device="cuda": states[number(device)],
            "set_rng_state": lambda state, device="cuda": states.__setitem__(number(device), state),
            "get_rng_state_all": lambda: [states[0]],
        }.items():
            patch.setattr(torch.cuda, name, stand_in)
        yield gpu
