"""Memory limits: how much a process may have, and how much of it decoded images take.

Owns the reading of limits: the machine's memory, the control groups of Slurm, systemd and containers at every level
above the process, and the shell's limit on address space. Knows nothing of images.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SHARE = 2  # decoded images may take the whole divided by this
ASSUMED = 8 << 30  # bytes, where the system does not tell

_LIMITS = {"cgroup2": ("memory.max", "memory.high"), "cgroup": ("memory.limit_in_bytes",)}


@dataclass
class Budget:
    """What the decoded images of all splits together may take.

    Attributes:
        memory: bytes this process may have.
        taken: bytes that images take already.
    """

    memory: int
    taken: int = field(default=0, init=False)

    def room_for(self, needed: int) -> bool:
        """Whether so many bytes more stay within the share."""
        return self.taken + needed <= self.memory // SHARE

    def take(self, needed: int) -> None:
        """Count bytes as taken."""
        self.taken += needed


def physical_memory() -> int:
    """Return the bytes of memory this process may have: the machine's, or what a limit leaves of it."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        machine = ASSUMED
    return min([machine, *group_limits(), *_address_space()])


def group_limits(
    groups: Path = Path("/proc/self/cgroup"), mounts: Path = Path("/proc/self/mountinfo")
) -> Iterator[int]:
    """Yield every limit on memory, in bytes, that a process's control groups set, from its own to the root.

    Args:
        groups: lines of hierarchy:controllers:path, version 1 and 2, as Linux's cgroups(7) has them.
        mounts: where the hierarchies are mounted, as proc(5) has it.
    """
    for kind, path in _memberships(_lines(groups)):
        for root, mounted, top in _mounted(_lines(mounts)):
            if root != kind:
                continue
            for folder in _up_to(mounted, _below(path, top)):
                for name in _LIMITS[kind]:
                    with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
                        yield int((folder / name).read_text(encoding="ascii"))


def _memberships(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (kind of file system, path of the group) where memory may be limited."""
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield "cgroup2", path
        elif "memory" in controllers.split(","):
            yield "cgroup", path


def _mounted(lines: list[str]) -> Iterator[tuple[str, Path, str]]:
    """Yield (kind, mount point, the group that is mounted there) per hierarchy that limits memory."""
    for line in lines:
        place, separator, kind = line.partition(" - ")
        fields, facts = place.split(), kind.split()
        if not separator or len(fields) < 5 or len(facts) < 3 or facts[0] not in _LIMITS:
            continue
        if facts[0] == "cgroup2" or "memory" in facts[2].split(","):
            yield facts[0], Path(_unescaped(fields[4])), _unescaped(fields[3])


def _below(path: str, top: str) -> list[str]:
    """Return a group's path from the mounted one on; empty where it lies outside, as a container may see it."""
    if ".." in (parts := [part for part in path.split("/") if part]):
        return []
    above = [part for part in top.split("/") if part]
    return parts[len(above) :] if parts[: len(above)] == above else []


def _up_to(root: Path, parts: list[str]) -> Iterator[Path]:
    """Yield the folder of a group and those above it, to the root."""
    for length in range(len(parts), -1, -1):
        yield root.joinpath(*parts[:length])


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # another system
        return []


def _unescaped(text: str) -> str:
    """Return a path of mountinfo, whose spaces, tabs, line ends and backslashes are written in octal."""
    for letter in " \t\n\\":
        text = text.replace(f"\\{ord(letter):03o}", letter)
    return text


def _address_space() -> Iterator[int]:
    """Yield the limit that `ulimit -v` sets, if it does."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        yield soft
