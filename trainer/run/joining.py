"""Joining: the processes that a launcher started find one another, and leave together.

`torchrun`, or anything else that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, starts the same command several
times. Owns what is read of that environment, how long is waited for the others, and whose error is printed when a run
ends before its time. What processes then do together is trainer/engine/group.py.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from registry.errors import RecipeError
from registry.printing import harmless
from trainer.engine.group import Ends, Group
from trainer.engine.interrupts import Interrupted
from trainer.engine.processes import Lost

WAIT = "TRAINER_RENDEZVOUS_SECONDS"
DEFAULT_WAIT = 300  # seconds for all processes to find one another
LONGEST = timedelta(minutes=30)  # that one message between processes may take
FIRST_WORD = 2.0  # seconds that the others leave the first process to say an error that all have
OPEN, BEAT, ALL = "open", "beat", "all"  # keys of the store
POLL = 0.1  # seconds between two looks for the others
WATCH = 1.0  # seconds between two looks whether another process has ended
STAY = 8.0  # seconds that the process which keeps the store stays for the others at an end before its time
FOLLOW = 4.0  # seconds that the others have to end by themselves once they can know of an end
LEAVE = 10.0  # seconds to end by itself for a process that learns of another's end


@contextmanager
def joined() -> Iterator[Group]:
    """Find the other processes; where the block raises, have one of them say why, and end all.

    Raises:
        RecipeError: they cannot be found.
        Lost: another process has said why this one ends, too.
    """
    group, store = _joined()
    done = threading.Event()
    ends = Ends(store.clone(), group.rank)  # a connection of its own: the store answers one question at a time
    patience = LEAVE if group.is_first else FOLLOW
    watch = threading.Thread(target=_watch, args=(ends, done, patience), name="other processes", daemon=True)
    watch.start()
    try:
        yield group
    except BaseException as error:
        ending = _said_once(group, error)
        _leave_in_time(getattr(ending, "exit_code", 1))
        _see_off(store, group)
        if ending is error:
            raise
        raise ending from error
    finally:
        done.set()
        watch.join(2 * WATCH)  # one that is in the store when the interpreter ends is torn out of C++, which aborts
    dist.destroy_process_group()


def _joined() -> tuple[Group, Store]:
    lacking = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if lacking:
        raise RecipeError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(lacking)} of its environment is not set",
            "torchrun and --processes set all of them; for one process unset WORLD_SIZE",
        )
    rank, count, seconds = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), _patience()
    found = threading.Event()
    threading.Thread(target=_give_up, args=(found, rank, count, seconds), name="rendezvous", daemon=True).start()
    try:
        shared, rank, count = next(rendezvous("env://", timeout=timedelta(seconds=seconds)))
        store = _met(shared, rank, count, time.monotonic() + seconds)
        backends = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        dist.init_process_group(
            backends, store=PrefixStore("torch", store), rank=rank, world_size=count, timeout=LONGEST
        )
        control = dist.new_group(backend="gloo", timeout=LONGEST)
        assert isinstance(control, dist.ProcessGroup)
    except (RuntimeError, ValueError) as error:
        raise _not_found(error, rank, count, seconds) from error
    finally:
        found.set()
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


def _met(shared: Store, rank: int, count: int, until: float) -> Store:
    """Wait for all processes, and return a part of the store that only this start of them writes in.

    An agent may keep its store when it starts all anew, and agents of several machines count their starts differently.
    So the first process opens a place with a new name and beats there: one that beats no more is of an earlier start.

    Raises:
        RuntimeError: somebody has not come.
    """
    if rank == 0:
        name = uuid.uuid4().hex
        place = PrefixStore(name, shared)
        shared.set(OPEN, name)
        while missing := [each for each in range(1, count) if not place.check([f"here {each}"])]:
            place.add(BEAT, 1)
            _wait_a_little(until, f"process {', '.join(map(str, missing))} did not come")
        place.set(ALL, "")
        return place
    answered = ""
    while True:
        name = shared.get(OPEN).decode()
        place = PrefixStore(name, shared)
        beat = place.add(BEAT, 0)
        _wait_a_little(until, "process 0 did not come")
        if name != answered and place.add(BEAT, 0) != beat:
            place.set(f"here {rank}", "")
            answered = name
        if name == answered and place.check([ALL]):
            return place


def _wait_a_little(until: float, lacking: str) -> None:
    if time.monotonic() > until:
        raise RuntimeError(lacking)
    time.sleep(2 * POLL)


def _give_up(found: threading.Event, rank: int, count: int, seconds: float) -> None:
    """End this process where torch waits longer than it was told: for the answer of a program that is none of ours."""
    if not found.wait(seconds + STAY):
        error = _not_found(TimeoutError("what listens there does not answer"), rank, count, seconds)
        print(harmless(f"error: {error}"), file=sys.stderr, flush=True)
        os._exit(error.exit_code)


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


def _watch(ends: Ends, done: threading.Event, patience: float) -> None:
    """End this process where another has ended and it does not notice: it may wait for one that waits for its leave."""
    while (other := ends.of_another()) is None:
        if done.wait(WATCH):
            return
    if not done.wait(patience):
        os._exit(other.exit_code)


def _see_off(store: Store, group: Group) -> None:
    """Say that this process knows of the end; the one that keeps the store stays until the others know, too."""
    with contextlib.suppress(RuntimeError):
        store.set(f"left {group.rank}", "")
        until = time.monotonic() + STAY
        keeps_store = group.is_first and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True)
        others = [f"left {rank}" for rank in range(1, group.count)]
        while keeps_store and not store.check(others) and time.monotonic() < until:
            time.sleep(POLL)


def _leave_in_time(exit_code: int) -> None:
    """End this process soon, even if something in it waits for processes that are gone."""
    timer = threading.Timer(LEAVE, os._exit, (exit_code,))
    timer.daemon = True
    timer.start()
