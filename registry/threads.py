"""How the threads of OpenMP wait for one another, so that a run is no burden on a machine that others use, too.

By default a thread that waits spins for milliseconds. Alone that is nearly free; beside a busy neighbour the thread
that is waited for cannot run while others spin, and a small run takes many times as long. Sleeping at once costs small
networks half their speed on a quiet machine. docs/performance.md has the figures, and those of what lies between.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

# The policy counts for every OpenMP; the number of turns before a thread sleeps is libgomp's, which torch brings along.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
_CHOSEN_BY = (*WAITING, "KMP_BLOCKTIME", "KMP_LIBRARY")


def share_cores(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have waiting threads sleep, for this process and those it starts, unless the user has chosen how they wait.

    OpenMP reads it when torch is imported; later it changes nothing, and nothing is done.
    """
    if "torch" not in sys.modules and not any(name in environment for name in _CHOSEN_BY):
        environment.update(WAITING)
