"""`--processes`: the command again in several processes, by torch's own elastic agent, as torchrun would start them."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousError, RendezvousTimeoutError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from registry.errors import RecipeError

DEFAULT_WAIT = 300  # seconds that machines are waited for


def launched(words: Sequence[str], options: Mapping[str, Any]) -> int:
    """Run a command of this program in several processes and return its exit code.

    Args:
        words: of the command.
        options: those of launching that were given, "--processes" among them.

    Raises:
        RecipeError: they cannot be started, or do not find one another in time.
    """
    count, machines = _count(options["--processes"]), options.get("--machines", 1)
    place, wait = options.get("--rendezvous", ""), options.get("--wait", DEFAULT_WAIT)
    if "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError("--processes within a launch: torchrun, or who else started this, has started the processes")
    if machines > 1 and not place:
        raise RecipeError(
            "--machines needs --rendezvous HOST:PORT, where they meet",
            "one of the machines and a port that is free there, the same in the command on each",
        )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    logging.disable(logging.ERROR)  # of the agent, in this process alone: the processes say why they end
    config = LaunchConfig(
        min_nodes=machines,
        max_nodes=machines,
        nproc_per_node=count,
        run_id=place or uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint=place or "localhost:0",
        rdzv_configs={"join_timeout": wait, "timeout": wait, "read_timeout": wait},
        max_restarts=options.get("--max-restarts", 0),
    )
    try:
        elastic_launch(config, sys.executable)("-m", "trainer", *words)
    except ChildFailedError as error:
        return _as_exit_code(error.get_first_failure()[1].exitcode)
    except SignalException as error:
        return _as_exit_code(-error.sigval)
    except (RendezvousError, TimeoutError) as error:
        raise _not_met(error, place, machines, wait) from error
    return 0


def _count(processes: str) -> int:
    """Return how many processes there are to be on this machine.

    Raises:
        RecipeError: it is no number, or there is no GPU to go by.
    """
    if processes != "auto":
        if processes.isdecimal() and int(processes):
            return int(processes)
        raise RecipeError(f"--processes takes a whole number of 1 or more, or auto; got {processes!r}")
    gpus = torch.cuda.device_count()
    if not gpus:
        raise RecipeError("--processes auto is one per GPU, and there is none here", "say how many: --processes 2")
    return gpus


def _as_exit_code(code: int) -> int:
    """Return an exit code as shells have it: 128 and the signal, where one ended a process."""
    return 128 - code if code < 0 else code


def _not_met(error: Exception, place: str, machines: int, wait: int) -> RecipeError:
    """Return why the machines did not meet, in our words."""
    if isinstance(error, (RendezvousTimeoutError, TimeoutError)):
        return RecipeError(
            f"not all {machines} machines came to {place} within {wait} s",
            "give this command on each of them with the same --rendezvous; --wait says how long they are waited for",
        )
    said = str(error.__cause__ or error).splitlines()[0]
    return RecipeError(
        f"nobody can be met at {place or 'this machine'}: nothing answers there, or another program has the port "
        f"({said})",
        "HOST must be one of the machines, and PORT free there",
    )
