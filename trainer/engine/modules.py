"""Module state: what modules hold, for a checkpoint, or copied to be put back after a trial or a bad step.

`state_dict` leaves out the buffers that a module registered as not persistent, although a network that moves them in
training is another network without them. Here every buffer counts, and one that a forward pass made, or replaced by
another tensor, counts like one that it changed in place. Also how modules answer by another
function for a while. Knows nothing of files, epochs or the roles modules play.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

Slot = tuple[dict[str, Any], str]  # where a tensor stands: a module's dict of parameters or buffers, and a name in it
Wanted = Callable[[str, Tensor | None], bool]  # of a tensor's name and the tensor


# ---------------------------------------------------------------------------------------------------- for a checkpoint
def transient_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that `state_dict` leaves out, by dotted name; live tensors, not copies."""
    found = {}
    for prefix, owner in module.named_modules():
        for name in sorted(owner._non_persistent_buffers_set):
            tensor = owner._buffers.get(name)
            if tensor is not None:
                found[f"{prefix}.{name}".removeprefix(".")] = tensor
    return found


def load_transient(module: nn.Module, buffers: Mapping[str, Tensor]) -> None:
    """Put back what `transient_buffers` returned; others stay as they are."""
    for full_name, saved in buffers.items():
        path, _, name = full_name.rpartition(".")
        _put(module.get_submodule(path)._buffers, name, saved, _device_of(module))


def state_of(module: nn.Module) -> dict[str, Any]:
    """Return everything a module holds: its state dict, and the buffers that are not in it."""
    return {"state": module.state_dict(), "buffers": transient_buffers(module)}


def load_state(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Continue from what `state_of` returned."""
    module.load_state_dict(state["state"])
    load_transient(module, state["buffers"])


def load_network(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Load the weights and buffers of a checkpoint into the network it is of.

    Args:
        model: any mode and device.
        state: `model`, a state dict, and `buffers`, those not in it; an older checkpoint has none.
    """
    model.load_state_dict(state["model"])
    load_transient(model, state.get("buffers", {}))


def buffers_of(part: object) -> dict[str, Tensor]:
    """Return all buffers of a part beside the network, by dotted name; live tensors, not copies."""
    return dict(part.named_buffers()) if isinstance(part, nn.Module) else {}


def moved_in(part: object, begun: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the buffers that training has moved in a part beside the network: a running prior in a loss, say.

    Args:
        part: as it is now.
        begun: copies of its buffers as it was built. One that is as it was is the recipe's, which may be given anew.
    """
    return {
        name: buffer.detach()
        for name, buffer in buffers_of(part).items()
        if name not in begun or begun[name].shape != buffer.shape or not torch.equal(begun[name], buffer)
    }


def learnt_in(part: object) -> dict[str, Tensor]:
    """Return the parameters that learn in a part beside the network, a loss say, by dotted name; live tensors."""
    named = part.named_parameters() if isinstance(part, nn.Module) else ()
    return {name: parameter.detach() for name, parameter in named if parameter.requires_grad}


@torch.no_grad()
def load_learnt(part: object, saved: Mapping[str, Tensor], moved: Mapping[str, Tensor]) -> None:
    """Put back what `learnt_in` and `moved_in` returned, where `part` has something of these names."""
    for name, own in learnt_in(part).items():
        if name in saved and saved[name].shape == own.shape:
            own.copy_(saved[name])
    if isinstance(part, nn.Module):
        owners = dict(part.named_modules())
        for full_name, buffer in moved.items():
            path, _, name = full_name.rpartition(".")
            if path in owners and name in owners[path]._buffers:
                _put(owners[path]._buffers, name, buffer, _device_of(part))


# ------------------------------------------------------------------------------------------------------ as they were
def is_counter(name: str, tensor: Tensor | None) -> bool:
    """Whether a buffer counts what has passed, and so is no statistic that could be spoilt or learnt anew.

    Whole numbers are such counters, except BatchNorm's: its running mean may depend on how many batches it has seen.
    """
    if tensor is None or name == "num_batches_tracked":
        return False
    return not (tensor.is_floating_point() or tensor.is_complex())


def statistics(name: str, tensor: Tensor | None) -> bool:
    """Whether a buffer is none of the counters."""
    return not is_counter(name, tensor)


def slots_of(modules: Iterable[nn.Module], *, parameters: bool) -> list[Slot]:
    """Return where the tensors of `modules` stand: their buffers, and with `parameters` those too; each once."""
    owners = {id(owner): owner for module in modules for owner in module.modules()}
    kinds = [owner._buffers for owner in owners.values()]
    if parameters:
        kinds += [owner._parameters for owner in owners.values()]  # type: ignore[misc]
    return [(kind, name) for kind in kinds for name in kind]


class Kept:
    """Snapshot of tensors, to be put back.

    Args:
        slots: where they stand.
        wanted: which of them are kept.
    """

    def __init__(self, slots: Sequence[Slot], wanted: Wanted = lambda *_: True) -> None:
        self._slots, self._wanted = slots, wanted
        self._live: list[tuple[Slot, Tensor | None]] = []
        self._copies: list[Tensor | None] = []

    @torch.no_grad()
    def take(self) -> Kept:
        """Copy the tensors as they are now; return self."""
        live = [((kind, name), kind[name]) for kind, name in self._slots if self._wanted(name, kind[name])]
        # Into the same memory as before, unless a forward pass has made or replaced a tensor since.
        if [id(tensor) for _, tensor in live] != [id(tensor) for _, tensor in self._live]:
            self._live, self._copies = live, [None if each is None else each.detach().clone() for _, each in live]
            return self
        for own, copies in self._pairs():
            torch._foreach_copy_(copies, own)
        return self

    @torch.no_grad()
    def put_back(self) -> None:
        """Make the tensors what they were at `take`: the same objects with the same values."""
        for (kind, name), tensor in self._live:
            kind[name] = tensor
        for own, copies in self._pairs():
            torch._foreach_copy_(own, copies)

    def _pairs(self) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        """Yield live tensors and their copies by type of number: a call for one type is a single kernel."""
        by_type: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for (_, own), copy in zip(self._live, self._copies, strict=True):
            if own is not None and copy is not None:
                pair = by_type.setdefault(own.dtype, ([], []))
                pair[0].append(own.detach())
                pair[1].append(copy)
        yield from by_type.values()


@contextmanager
def counters_go_on(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Leave the counters of `modules` as they are, whatever the block loads into them."""
    kept = Kept(slots_of(modules, parameters=False), is_counter).take()
    try:
        yield
    finally:
        kept.put_back()


def _put(buffers: dict[str, Any], name: str, saved: Tensor, device: torch.device) -> None:
    """Copy a saved buffer into the one that is there; where there is none alike, put a new one in its place."""
    own = buffers.get(name)
    if own is not None and own.shape == saved.shape and own.dtype == saved.dtype:
        with torch.no_grad():
            own.copy_(saved)
    else:
        buffers[name] = saved.to(device, copy=True)


def _device_of(module: nn.Module) -> torch.device:
    tensors = chain(module.parameters(), module.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


# ------------------------------------------------------------------------------------------------------ for one forward
@contextmanager
def answering_by(forwards: Sequence[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Have each module answer by another function than its `forward` inside the block."""
    before = [(module, vars(module).get("forward")) for module, _ in forwards]
    for module, forward in forwards:
        module.forward = forward
    try:
        yield
    finally:
        for module, own in before:
            del module.forward
            if own is not None:
                module.forward = own
