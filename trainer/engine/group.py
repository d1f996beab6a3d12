"""Group: the processes of a run that torch's launcher started, and how they act as one.

Every process holds the whole network and takes its share of every batch; torch's DistributedDataParallel sums the
gradients. Losses, counts and decisions go over a group of their own on the CPU, so that no GPU is waited for. One
process of the group speaks and writes; when any of them ends before its time it says so in the store that all can see,
and the others end with its reason in place of a lost connection.

Imported only where there is more than one process. How processes are started and found is launch.py.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import Store
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parallel import DistributedDataParallel

from registry.contracts import Mergeable, Metric
from registry.errors import RecipeError, UserError
from trainer.data.batches import Batch, SharedBatch
from trainer.data.sharing import Sharing
from trainer.engine import checkpoint, rng
from trainer.engine.criterion import Criterion, Weight
from trainer.engine.device import choose_device
from trainer.engine.interrupts import Interrupted, Interrupts, Paused
from trainer.engine.meters import BatchResult
from trainer.engine.modules import Slot, slots_of
from trainer.engine.processes import Lost, Mixer, OwnState, Processes, states_in

T = TypeVar("T")

POLL = 0.1  # seconds between two looks whether a neighbour is done
PATIENCE = 3.0  # seconds that a process which has lost another waits for its last words
KILLED = 137  # exit code of a process that SIGKILL ended
SAY_EVERY = 15.0  # seconds of waiting between two lines that say so


class Ends:
    """Where the first process that ends before its time says why, so that the others do not guess.

    Args:
        store: that all processes see.
        rank: of this process.
    """

    _KEY = "ended"

    def __init__(self, store: Store, rank: int) -> None:
        self._store, self._rank = store, rank

    def claim(self, text: str, exit_code: int) -> bool:
        """Say why this process ends; return whether it is the first to."""
        said = json.dumps({"rank": self._rank, "text": text, "exit_code": exit_code})
        try:
            return bool(self._store.compare_set(self._KEY, "", said).decode() == said)
        except RuntimeError:  # the store is gone with the process that kept it, which has ended before
            return False

    def of_another(self, patience: float = 0.0) -> Lost | None:
        """Return why another process has ended; None where none has said so within `patience` seconds."""
        until = time.monotonic() + patience
        while True:
            try:
                said = json.loads(self._store.get(self._KEY)) if self._store.check([self._KEY]) else None
            except RuntimeError:
                return Lost("the process that keeps all together is gone", KILLED)
            if said is not None:
                own = said["rank"] == self._rank
                return None if own else Lost(f"process {said['rank']} ended: {said['text']}", said["exit_code"])
            if time.monotonic() >= until:
                return None
            time.sleep(POLL)


class AgreedInterrupts(Interrupts):
    """Signals to any process, answered by all at the same moment.

    Each look sends what this process has received and takes in what all had at the look before, which has arrived by
    then: nobody waits, and all stop after the same step. Processes must look equally often.

    Args:
        control: the group for numbers on the CPU.
    """

    def __init__(self, control: dist.ProcessGroup) -> None:
        super().__init__()
        self._control = control
        self._sent: tuple[Any, Tensor] | None = None

    def check(self) -> None:
        """Raise in all processes what had come to one of them at the look before: a signal, or the wish to pause."""
        if self._sent is not None:
            work, worst = self._sent
            work.wait()
            signum, pause = map(int, worst)
            if signum:
                self.signum = signum
                raise Interrupted(signum)
            if pause:
                raise Paused(self._pause or "another process asked for it")
        own = torch.tensor([self.signum or 0, int(bool(self._pause))])
        self._sent = (dist.all_reduce(own, dist.ReduceOp.MAX, self._control, async_op=True), own)


class Group(Processes):
    """Several processes, of which this is one.

    Args:
        rank: number of this process.
        count: of processes.
        local_rank: number of this process on its machine.
        on_this_machine: processes there.
        machine: number of the machine.
        machines: how many there are.
        store: that all processes see.
        control: group for numbers on the CPU.
        ends: where processes say why they end.
    """

    def __init__(
        self,
        *,
        rank: int,
        count: int,
        local_rank: int,
        on_this_machine: int,
        machine: int,
        machines: int,
        store: Store,
        control: dist.ProcessGroup,
        ends: Ends,
    ) -> None:
        self.ends = ends
        self.rank, self.count, self.on_this_machine = rank, count, on_this_machine
        self.is_first = rank == 0
        self.again = f" --processes {count}" if machines == 1 else ", on each machine as before"
        self.sharing = Sharing(rank, count)
        self.machine, self.machines = machine, machines
        self._local_rank = local_rank
        self._store, self._control = store, control
        self._waits = 0  # for the first on the machine, so far
        self._backend = "gloo"
        self._own: list[bool] = []  # of the step's micro-batches: whether their images are not lent
        self._part = 0.0  # of the step's images that are this process's own

    # ----------------------------------------------------------------------------------------------------------- a step
    def normed(self, model: nn.Module) -> nn.Module:
        """Return a network whose BatchNorms count over all processes, by torch's SyncBatchNorm."""
        synchronised: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return synchronised

    def carried(self, model: nn.Module, others: Iterable[nn.Module], shape: tuple[int, int, int]) -> nn.Module:
        """Return the network wrapped so that its gradients are summed over all processes, as `settled` does others'."""
        self._moved, self._same = _buffers(model)
        self._beside: list[nn.Parameter] = []
        for each in others:
            self._same += slots_of([each], parameters=False)
            self._beside += [parameter for parameter in each.parameters() if parameter.requires_grad]
        device = next(model.parameters()).device
        self._carrier = DistributedDataParallel(
            model,
            device_ids=None if device.type == "cpu" else [device],
            gradient_as_bucket_view=True,
            find_unused_parameters=_may_leave_parameters_out(model, (2, *shape), device),
        )
        self._carrier.broadcast_buffers = False  # before each forward pass: `settled` does, once a step
        return self._carrier

    def prepared(
        self, group: Sequence[Batch], mix: Mixer | None, criterion: Criterion
    ) -> tuple[Sequence[Batch], list[Weight], Weight]:
        """Return micro-batches mixed over all processes, what each counts, and all of them on average per process."""
        shares = [batch.share for batch in group if isinstance(batch, SharedBatch)]
        self._own = [share.images > 0 for share in shares]
        images = sum(share.whole for share in shares)
        self._part = sum(share.images for share in shares) / images
        given = group if mix is None else [self._mixed(batch, mix) for batch in group]
        counts = [criterion.weight(batch.targets) for batch in given]
        weights: list[Weight] = [count if own else 0 for count, own in zip(counts, self._own, strict=True)]
        if not isinstance(counts[0], Tensor):
            return given, weights, images / self.count
        whole = torch.stack([torch.as_tensor(count) * own for count, own in zip(counts, self._own, strict=True)]).sum()
        dist.all_reduce(whole)
        return given, weights, whole / self.count

    def _mixed(self, batch: Batch, mix: Mixer) -> Batch:
        """Return this process's share of the whole batch, mixed: an image's partner may be another process's."""
        assert isinstance(batch, SharedBatch)
        images = self._together(batch.images.permute(0, 2, 3, 1), batch.share.whole).permute(0, 3, 1, 2)
        mixed, targets = mix(images, self._together(batch.targets, batch.share.whole))
        own = slice(batch.share.start, batch.share.start + batch.share.images) if batch.share.images else slice(0, 1)
        return Batch(mixed[own], targets[own], batch.indices)

    def _together(self, own: Tensor, whole: int) -> Tensor:
        """Return the rows of all processes, (whole, ...), from this one's, in order."""
        assert self.sharing is not None
        lengths = self.sharing.lengths(whole)
        padded = own.new_zeros((lengths[0], *own.shape[1:]))
        padded[: lengths[self.rank]] = own[: lengths[self.rank]]
        gathered = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(gathered, padded)
        return torch.cat([rows[:length] for rows, length in zip(gathered, lengths, strict=True)])

    def in_turn(self, micro_batches: Iterable[T]) -> Iterator[T]:
        """Yield micro-batches; only the last one's backward pass sums gradients over the processes."""
        several = list(micro_batches)
        for number, each in enumerate(several, start=1):
            self._carrier.require_backward_grad_sync = number == len(several)  # as its `no_sync` does
            yield each

    @torch.no_grad()
    def settled(self, results: Sequence[BatchResult]) -> list[Tensor]:
        """Return one scalar, the sum of the step's losses everywhere; bring buffers and what a loss learns together.

        Means over batches (running statistics) become the mean of the processes', by their images; what else training
        may move is the first process's.
        """
        losses = torch.stack([result.loss.float() for result in results]).sum()
        moved = [kind[name] for kind, name, owner in self._moved if owner.training]
        parts = torch._foreach_mul([each.float() for each in moved], self._part) if moved else []
        sums = torch.cat([losses.reshape(1), *(part.reshape(-1) for part in parts)])
        dist.all_reduce(sums)
        places = sums[1:].split([each.numel() for each in moved]) if moved else ()
        for each, mean in zip(moved, places, strict=True):
            each.copy_(mean.view_as(each))
        self._take_over([kind[name] for kind, name in self._same if kind[name] is not None])
        for each in self._beside:
            if each.grad is not None:  # it has one everywhere or nowhere
                dist.all_reduce(each.grad)
                each.grad.div_(self.count)  # as those of the network are
        return [sums[0]]

    def _take_over(self, tensors: Sequence[Tensor]) -> None:
        """Give tensors the values that they have in the first process, by one message."""
        if not tensors:
            return
        flat = torch.cat([each.contiguous().reshape(-1).view(torch.uint8) for each in tensors])
        dist.broadcast(flat, 0)
        for each, content in zip(tensors, flat.split([each.nbytes for each in tensors]), strict=True):
            each.copy_(content.clone().view(each.dtype).view(each.shape))  # a copy: aligned for its type

    def counted(self, results: list[BatchResult]) -> list[BatchResult]:
        """Return the results of images that are this process's own."""
        return [result for result, own in zip(results, self._own, strict=True) if own]

    def counts(self, batch: Batch) -> bool:
        """Whether a batch has images of this process's own."""
        return not isinstance(batch, SharedBatch) or batch.share.images > 0

    # --------------------------------------------------------------------------------------------------------- numbers
    def totals(self, *numbers: float) -> list[float]:
        """Return each number's sum over all processes."""
        sums = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(sums, group=self._control)
        return sums.tolist()

    def value(self, metric: Metric) -> float:
        """Return a metric over what all processes took in."""
        if getattr(metric, "synchronises", False):
            return float(metric.compute())
        own = metric.state()
        states = self.every(checkpoint.snapshot(own))
        metric.load(states[0])
        cast(Mergeable, metric).merge(states[1:])  # `require_mergeable` has let no other begin
        merged = float(metric.compute())
        metric.load(own)
        return merged

    def on_first(self, columns: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return rows of all processes on the first, sorted by the last column."""
        gathered: list[Any] | None = [None] * self.count if self.is_first else None
        dist.gather_object(list(columns), gathered, group=self._control)
        if gathered is None:
            return ()
        whole = [torch.cat(column) for column in zip(*filter(None, gathered), strict=True)]
        order = whole[-1].argsort()
        return [column[order] for column in whole]

    # ------------------------------------------------------------------------------------------------------- agreement
    def said_by_first(self, value: T) -> T:
        """Return what the first process has as `value`."""
        box = [value]
        dist.broadcast_object_list(box, 0, group=self._control)
        return box[0]

    def made_by_first(self, make: Callable[[], T]) -> T:
        """Return what `make` returns in the first process; where it raises, the others are ended by that."""
        return self.said_by_first(make()) if self.is_first else self.said_by_first(None)  # type: ignore[return-value]

    @contextlib.contextmanager
    def first_on_machine(self, log: Callable[[str], None]) -> Iterator[None]:
        """Let the first process of each machine run the block before the others there, which wait and say so."""
        self._waits += 1
        key = f"{self._waits} on machine {self.machine}"
        if self._local_rank:
            self._wait_for(key, log)
        yield
        if not self._local_rank:
            self._store.set(key, "")

    def _wait_for(self, key: str, log: Callable[[str], None]) -> None:
        said = time.monotonic()
        while not self._store.check([key]):
            if (other := self.ends.of_another(POLL)) is not None:
                raise other
            if time.monotonic() - said >= SAY_EVERY:
                log(f"waiting for process {self.rank - self._local_rank}, which reads the data on this machine")
                said = time.monotonic()

    def require_same(self, facts: Callable[[], Mapping[str, str]], error: type[UserError], hint: str = "") -> None:
        """Refuse to go on where processes have other facts than the first."""
        first, *others = self.every((os.uname().nodename, dict(facts())))
        for rank, (host, theirs) in enumerate(others, start=1):
            names = [name for name in {**first[1], **theirs} if first[1].get(name) != theirs.get(name)]
            if names:
                told = "; ".join(
                    f"{name}: {first[1].get(name, 'none')} there, {theirs.get(name, 'none')} here" for name in names
                )
                raise error(f"process {rank} (on {host}) is not like process 0 (on {first[0]}): {told}", hint)

    def require_share(self, batch_size: int, place: object) -> None:
        """Refuse batches that leave a process without an image."""
        if batch_size < self.count:
            raise RecipeError(
                f"{place}: data.batch_size {batch_size} is less than one image for each of {self.count} processes",
                "it is what one step learns from, on all processes together: start fewer, or learn from more at a time",
            )

    def require_mergeable(self, metrics: Mapping[str, Metric]) -> None:
        """Refuse metrics, by key, that cannot be taken over all processes."""
        for key, metric in metrics.items():
            if not getattr(metric, "synchronises", False) and not hasattr(metric, "merge"):
                raise RecipeError(
                    f"the metric {key} has no method `merge`, so it cannot be taken over {self.count} processes",
                    "docs/write-your-own.md shows the method, one line for what adds up; or train on one process",
                )

    def every(self, own: T) -> list[T]:
        """Return every process's value, by rank."""
        box: list[Any] = [None] * self.count
        dist.all_gather_object(box, own, group=self._control)
        return box

    def cause(self, error: BaseException) -> BaseException:
        """Return what has ended this process: another's end where it has said so, and a connection or a signal told."""
        if isinstance(error, Interrupted):
            return self.ends.of_another() or error
        if not _is_lost_connection(error):
            return error
        return self.ends.of_another(PATIENCE) or Lost(
            "another process of this run is gone without a word: killed, perhaps for memory", KILLED
        )

    # ------------------------------------------------------------------------------------------ hardware and randomness
    def device(self, requested: str, place: object = "") -> torch.device:
        """Return the GPU of this process's number on its machine, or the CPU."""
        if ":" in requested:
            raise RecipeError(
                f"{place}: train.device is {requested}, and the {self.count} processes cannot all use that one",
                "write `cuda` or `auto`: each process takes the GPU of its number",
            )
        device = choose_device(requested)
        if device.type != "cuda":
            return device
        gpus = torch.cuda.device_count()
        if self._local_rank >= gpus:
            raise RecipeError(
                f"process {self.rank} has no GPU: {self.on_this_machine} processes were started on "
                f"{os.uname().nodename}, which has {gpus}",
                f"start {gpus} there (--processes auto does), or set train.device=cpu",
            )
        torch.cuda.set_device(self._local_rank)
        self._backend = "nccl"
        return torch.device("cuda", self._local_rank)

    def interrupts(self) -> Interrupts:
        """Return what remembers signals to any process."""
        return AgreedInterrupts(self._control)

    def draw_apart(self, seed: int) -> None:
        """From now on random draws, of dropout, are this process's own; the first's are those of a run of one."""
        if self.rank:
            rng.seed_everything(rng.derived_seed("process", seed, self.rank))

    # ----------------------------------------------------------------------------------------------------- checkpoints
    def every_state(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a checkpoint holds of the other processes' states."""
        states = self.every(checkpoint.snapshot(own))
        return {"processes": {"count": self.count, "others": states[1:]}}

    def own_state(self, state: Mapping[str, Any]) -> OwnState:
        """Return what this process goes on from: its own where there were as many, else the first takes all over."""
        meters, draws = states_in(state, "meter"), states_in(state, "rng")
        if len(meters) == self.count:
            return OwnState(draws[self.rank], [meters[self.rank]])
        if self.is_first:
            return OwnState(draws[0], meters)
        rng.seed_everything(rng.derived_seed("process", self.count, self.rank, state["progress"]["step"]))
        return OwnState(rng.capture(), [])

    # ----------------------------------------------------------------------------------------------------------- words
    def described(self, batch_size: int) -> dict[str, Any]:
        """Return what environment.json says of the processes."""
        assert self.sharing is not None
        lengths = self.sharing.lengths(batch_size)
        share = str(lengths[0]) if lengths[0] == lengths[-1] else f"{lengths[-1]} or {lengths[0]}"
        return {"processes": {"count": self.count, "machines": self.machines, "backend": self._backend, "share": share}}


_DROP_BY_FACTOR = ("StochasticDepth", "DropPath")  # of torchvision and timm: what they drop is computed all the same


def _may_leave_parameters_out(model: nn.Module, shape: tuple[int, ...], device: torch.device) -> bool:
    """Whether a forward pass may leave learnt parameters out, whose gradients would be waited for; tried on a copy.

    One that draws may leave other layers out the next time. Modules that only draw what they multiply by are known.
    """
    with rng.untouched_randomness():
        tried = copy.deepcopy(model).train()
        for module in tried.modules():
            if isinstance(module, _DropoutNd) or type(module).__name__ in _DROP_BY_FACTOR:
                module.eval()
        before = rng.capture()
        tried(torch.zeros(shape, device=device)).sum().backward()
        draws = not rng.same(before, rng.capture())
    return draws or any(each.requires_grad and each.grad is None for each in tried.parameters())


def _buffers(model: nn.Module) -> tuple[list[tuple[dict[str, Any], str, nn.Module]], list[Slot]]:
    """Return where a network's buffers stand that are means over batches, and the others that a forward pass may move.

    Counters of batches are alike everywhere, and so are the statistics of a SyncBatchNorm.
    """
    moved, same = [], []
    for owner in model.modules():
        for name, tensor in owner._buffers.items():
            if tensor is None or name == "num_batches_tracked" or isinstance(owner, nn.SyncBatchNorm):
                continue
            if name.startswith("running_") and tensor.is_floating_point():
                moved.append((owner._buffers, name, owner))
            else:
                same.append((owner._buffers, name))
    return moved, same


def _is_lost_connection(error: BaseException) -> bool:
    """Whether an error is torch's at a process that no longer answers."""
    if isinstance(error, dist.DistError):
        return True
    told = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in told for word in ("gloo", "nccl", "connection", "peer"))
