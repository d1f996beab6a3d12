"""Joining: the processes that a launcher started find one another, and leave together.

`torchrun`, or anything else that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, starts the same command several
times. Owns what is read of that environment, how long is waited for the others, and whose error is printed when a run
ends before its time. What processes then do together is trainer/engine/group.py.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from registry.errors import RecipeError
from trainer.engine.group import Ends, Group
from trainer.engine.interrupts import Interrupted
from trainer.engine.processes import Lost

WAIT = "TRAINER_RENDEZVOUS_SECONDS"
DEFAULT_WAIT = 300  # seconds for all processes to find one another
LONGEST = timedelta(minutes=30)  # that one message between processes may take
FIRST_WORD = 2.0  # seconds that the others leave the first process to say an error that all have
POLL = 0.1  # seconds between two looks for the others
WATCH = 1.0  # seconds between two looks whether another process has ended
LEAVE = 10.0  # seconds to end by itself for a process that learns of another's end


@contextmanager
def joined() -> Iterator[Group]:
    """Find the other processes; where the block raises, have one of them say why, and end all.

    Raises:
        RecipeError: they cannot be found.
        Lost: another process has said why this one ends, too.
    """
    group, store = _joined()
    threading.Thread(
        target=_watch, args=(Ends(store.clone(), group.rank),), name="other processes", daemon=True
    ).start()
    try:
        yield group
    except BaseException as error:
        ending = _said_once(group, error)
        _leave_in_time(getattr(ending, "exit_code", 1))
        if ending is error:
            raise
        raise ending from error
    dist.destroy_process_group()


def _joined() -> tuple[Group, Store]:
    rank, count, seconds = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), _patience()
    try:
        shared, rank, count = next(rendezvous("env://", timeout=timedelta(seconds=seconds)))
        store = PrefixStore(f"trainer/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", shared)
        _wait_for_all(store, rank, count, seconds)
        backends = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        dist.init_process_group(
            backends, store=PrefixStore("torch", store), rank=rank, world_size=count, timeout=LONGEST
        )
        control = dist.new_group(backend="gloo", timeout=LONGEST)
        assert isinstance(control, dist.ProcessGroup)
    except (RuntimeError, ValueError) as error:
        raise _not_found(error, rank, count, seconds) from error
    group = Group(
        rank=rank,
        count=count,
        local_rank=int(os.environ.get("LOCAL_RANK", rank)),
        on_this_machine=int(os.environ.get("LOCAL_WORLD_SIZE", count)),
        machine=int(os.environ.get("GROUP_RANK", 0)),
        machines=int(os.environ.get("GROUP_WORLD_SIZE", 1)),
        store=store,
        control=control,
        ends=Ends(store, rank),
    )
    return group, store


def _patience() -> float:
    """Return how long is waited for the others, in seconds.

    Raises:
        RecipeError: the environment says no number.
    """
    text = os.environ.get(WAIT, str(DEFAULT_WAIT))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise RecipeError(f"{WAIT} takes seconds, more than 0; got {text!r}")
    return seconds


def _wait_for_all(store: Store, rank: int, count: int, seconds: float) -> None:
    """Wait until every process has come.

    Raises:
        RuntimeError: some have not, named by number.
    """
    store.set(f"here {rank}", "")
    until = time.monotonic() + seconds
    while missing := [each for each in range(count) if not store.check([f"here {each}"])]:
        if time.monotonic() > until:
            raise RuntimeError(f"process {', '.join(map(str, missing))} did not come")
        time.sleep(POLL)


def _not_found(error: Exception, rank: int, count: int, seconds: float) -> RecipeError:
    """Return why the processes did not find one another, in our words."""
    place = f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}"
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "EADDRINUSE" in str(error) or "address already in use" in str(error):
        return RecipeError(
            f"process {rank} of {count} cannot wait for the others at {place}: another program has that port",
            "choose another one (--master-port), or let torchrun choose: --standalone, --rdzv-backend c10d",
        )
    return RecipeError(
        f"process {rank} of {count} did not find the others at {place} within {seconds:g} s ({said})",
        f"start all of them, with the same address, which each must be able to reach; {WAIT} is how long is waited",
    )


def _said_once(group: Group, error: BaseException) -> BaseException:
    """Return what this process is to end with: its error where it is the first to have one, else a quiet `Lost`."""
    cause = group.cause(error)
    if isinstance(cause, Lost):
        return cause
    if not group.is_first and (other := group.ends.of_another(FIRST_WORD)) is not None:
        return other
    text = getattr(error, "message", "") or (f"by {error}" if isinstance(error, Interrupted) else f"{error!r}")
    if not group.ends.claim(text, getattr(error, "exit_code", 1)):
        return group.ends.of_another() or error
    if not group.is_first and not isinstance(error, Interrupted):
        print(f"process {group.rank} on {os.uname().nodename} ends the run:", file=sys.stderr, flush=True)
    return error


def _watch(ends: Ends) -> None:
    """End this process where another has ended and it does not notice: it may wait on a GPU that nobody answers."""
    while (other := ends.of_another()) is None:
        time.sleep(WATCH)
    time.sleep(LEAVE)
    os._exit(other.exit_code)


def _leave_in_time(exit_code: int) -> None:
    """End this process soon, even if something in it waits for processes that are gone."""
    timer = threading.Timer(LEAVE, os._exit, (exit_code,))
    timer.daemon = True
    timer.start()
