"""What the tests of several processes share: a tiny recipe, and a command that runs in N processes at once."""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "survival"))

from survival_kit import Process, zygote

from trainer.engine import checkpoint

NETS = """
import hashlib
import os
import signal

import torch
from torch import nn

from registry import component
from registry.datasets.shapes import Shapes
from registry.errors import DataError
from registry.recording import Sink


@component("model")
class Plain(nn.Sequential):
    '''Two convolutions without a norm; writes a digest of every training image into seen-<rank>.txt, a line a batch.

    Args:
        num_classes: of the head.
        in_channels: of the images.
        dropout: share of the features dropped.
        tells: whether it writes.
    '''

    def __init__(self, num_classes: int, in_channels: int = 3, dropout: float = 0.0, tells: bool = False) -> None:
        super().__init__(
            nn.Conv2d(in_channels, 4, 3, stride=3), nn.Tanh(), nn.Conv2d(4, 6, 3, stride=3), nn.Tanh(), nn.Flatten(),
            nn.Dropout(dropout), nn.Linear(24, num_classes),
        )
        self.tells = tells

    def forward(self, images):
        if self.tells and self.training:
            pixels = images.detach().permute(0, 2, 3, 1).contiguous()
            with open(f"seen-{os.environ.get('RANK', 0)}.txt", "a") as file:
                file.write(" ".join(hashlib.sha1(image.numpy()).hexdigest()[:12] for image in pixels) + "\\n")
        return super().forward(images)


@component("model")
class PartlyIdle(nn.Module):
    '''Has a parameter that no forward pass uses.

    Args:
        num_classes: of the head.
    '''

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.idle, self.net = nn.Linear(2, 2), Plain(num_classes)

    def forward(self, images):
        return self.net(images)


@component("model")
class SkipsByChance(nn.Module):
    '''Leaves its middle layer out of every other forward pass, by chance.

    Args:
        num_classes: of the head.
    '''

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first, self.middle = nn.Conv2d(3, 6, 3, stride=8), nn.Conv2d(6, 6, 1)
        self.last = nn.Linear(54, num_classes)

    def forward(self, images):
        found = self.first(images)
        if not self.training or torch.rand(()) < 0.5:
            found = self.middle(found)
        return self.last(found.flatten(1))


@component("loss")
class Tempered(nn.Module):
    '''Cross entropy of logits times a factor that is learnt.'''

    def __init__(self) -> None:
        super().__init__()
        self.log_factor = nn.Parameter(torch.zeros(()))

    def forward(self, logits, targets):
        return nn.functional.cross_entropy(logits * self.log_factor.exp(), targets)


@component("dataset")
class Missing(Shapes):
    '''Shapes, which one of the processes does not have.'''

    def draw(self, indices):
        if os.environ.get("RANK") == "1":
            raise DataError("there are no pictures on this disk")
        return super().draw(indices)


@component("dataset")
class Differs(Shapes):
    '''Shapes, of which one of the processes has others.'''

    def draw(self, indices):
        images = super().draw(indices)
        return 255 - images if os.environ.get("RANK") == "1" else images


@component("model")
class DiesOnce(Plain):
    '''Kills the second process at a step, once in its working directory.

    Args:
        num_classes: of the head.
        step: that is its last.
    '''

    def __init__(self, num_classes: int, step: int = 11) -> None:
        super().__init__(num_classes)
        self.left = step

    def forward(self, images):
        self.left -= self.training
        if self.left == 0 and os.environ["RANK"] == "1" and not os.path.exists("died"):
            open("died", "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(images)


@component("callback")
class Rates(Sink):
    '''Writes the learning rate of every reading into rates.txt.'''

    def step(self, step, values):
        with open("rates.txt", "a") as file:
            file.write(f"{step} {values['lr']!r}\\n")
"""

TINY = """
version: 1
name: whole
seed: 5
plugins: [./nets.py]
model: {type: Plain}
data:
  dataset: {type: Shapes, train_size: 95, val_size: 37, test_size: 21, image_size: 24}
  batch_size: 13
  eval_batch_size: 16
  augment: [{type: HorizontalFlip}]
  preprocess: [{type: Normalize, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}]
optimizer: {type: SGD, lr: 0.05, momentum: 0.9}
train: {epochs: 2, precision: fp32, device: cpu, log_every: 3}
callbacks: []
report: []
"""


def place(cwd: Path, text: str = TINY) -> Path:
    """Write a recipe and its plug-in into a new folder, and return it."""
    cwd.mkdir()
    (cwd / "recipe.yaml").write_text(text, encoding="utf-8")
    (cwd / "nets.py").write_text(NETS, encoding="utf-8")
    return cwd


def start(
    cwd: Path,
    words: Sequence[str],
    count: int,
    *,
    die: tuple[int, str, int] | None = None,
    env: dict[str, str] | None = None,
    others: Sequence[str] = (),
) -> list[Process]:
    """Start a command in `count` processes that find one another by the environment, as torchrun sets it.

    Args:
        cwd: working directory.
        words: of the command.
        count: of processes; with 1 nothing is set.
        die: (rank, "call" or "step", number): where one of them kills itself.
        env: for all.
        others: the words of the last process, where they are others.
    """
    port, started = free_port(), []
    for rank in range(count):
        about = {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count)}
        about |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **(env or {})}
        dies = (die[1], die[2]) if die is not None and die[0] == rank else None
        given = others if others and rank == count - 1 else words
        started.append(zygote().start(cwd, given, die=dies, env=about if count > 1 else env))
    return started


def run(cwd: Path, words: Sequence[str], count: int, **options) -> list[Process]:
    """Run a command in `count` processes to its end, which must be a good one."""
    processes = start(cwd, words, count, **options)
    codes = [process.wait() for process in processes]
    assert codes == [0] * count, "\n".join(process.said for process in processes)
    return processes


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def folder_in(cwd: Path) -> Path:
    """Return the one run below a working directory."""
    (folder,) = [path for path in (cwd / "runs").glob("*/*") if not path.name.startswith(".")]
    return folder


def last_of(cwd: Path) -> dict:
    """Return the last checkpoint of the one run below a working directory."""
    return checkpoint.read(folder_in(cwd) / "checkpoints" / "last.pt")


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Return how far weights are from one another, as a share of their length."""
    assert one.keys() == other.keys()
    flat = [torch.cat([each.double().reshape(-1) for each in state.values()]) for state in (one, other)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())
