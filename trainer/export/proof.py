"""The proof: every picture of the reported split answered by the run and by the file, their probabilities compared.

The run answers in this process, in fp32 on the CPU, as `predict` does; the file in a fresh one that imports nothing of
ours (standalone.py).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from registry.errors import ExportError
from trainer.data.singly import naming
from trainer.data.splits import Part
from trainer.engine.evaluation import evaluation_mode
from trainer.experiment.experiment import Experiment
from trainer.export import standalone

SMALLEST = float(np.finfo(np.float32).tiny)  # a probability that counts for those that have become 0 by rounding
PIXELS_AT_ONCE = 64 * 224 * 224  # of pictures that are answered together
MOST_AT_ONCE = 512
Counted = Callable[[], None]  # called before each batch
Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class Proof:
    """How a file's answers compare with the run's.

    Attributes:
        split: whose pictures they are to.
        images: that were answered.
        equal: of those, the ones with the same class.
        largest: difference of a probability.
        worst: place in the split of the picture where that is.
        right_of_run: answers of the run that are right.
        right_of_file: answers of the file that are right.
        seconds: that the file took.
    """

    split: str
    images: int
    equal: int
    largest: float
    worst: int
    right_of_run: int
    right_of_file: int
    seconds: float

    @property
    def lost(self) -> float:
        """Accuracy that the file has less than the run, a share; below 0 where it has more."""
        return (self.right_of_run - self.right_of_file) / max(1, self.images)

    def said(self) -> str:
        """Return it in a sentence."""
        return (
            f"{self.equal:,} of {self.images:,} answers equal on {self.split}, "
            f"largest difference of a probability {self.largest:.1g}"
        )


def pictures_of(part: Part) -> Iterator[tuple[torch.Tensor, NDArray[np.uint8]]]:
    """Yield a part's images as they are stored: positions, and those of one size that follow, uint8 (n, H, W, C)."""
    size = part.store.image_size
    count = 64 if size is None else max(1, min(MOST_AT_ONCE, PIXELS_AT_ONCE // (size[0] * size[1])))
    for positions in torch.arange(len(part)).split(count):
        stored = part.store.gather(part.indices[positions])
        if isinstance(stored, torch.Tensor):
            yield positions, stored.numpy()
            continue
        first = 0
        for last in range(1, len(stored) + 1):
            if last == len(stored) or stored[last].shape != stored[first].shape:
                yield positions[first:last], np.stack(stored[first:last])
                first = last


def name_of(part: Part) -> str:
    """Return what people call a part: a test split that chose the best epoch is "test" all the same."""
    return "test" if part.dataset_split == "test" else part.name


def batches_of(part: Part) -> int:
    """Return how many batches `pictures_of` yields at least, to tell how far it is."""
    size = part.store.image_size
    count = 64 if size is None else max(1, min(MOST_AT_ONCE, PIXELS_AT_ONCE // (size[0] * size[1])))
    return -(-len(part) // count)


def answers_of_run(experiment: Experiment, part: Part, temperature: float, counted: Counted) -> Probabilities:
    """Return what the run answers to every picture of a part, (n, classes).

    Args:
        experiment: of the finished run, on the CPU in fp32.
        part: the pictures.
        temperature: that logits are divided by.
        counted: called before each batch; may raise to stop.
    """
    found = np.zeros((len(part), len(experiment.data.class_names)), np.float32)
    with evaluation_mode(experiment.model), torch.inference_mode():
        for positions, pictures in pictures_of(part):
            counted()
            indices = part.indices[positions]
            with naming(part.store.describe, indices):
                inputs = experiment.eval_pipeline.apply(torch.from_numpy(pictures), epoch=0, indices=indices)
            logits = experiment.model(inputs).float()
            found[positions.numpy()] = (logits / temperature).softmax(1).numpy()
    return found


def answers_of_file(file: Path, part: Part, classes: int, counted: Counted) -> Probabilities:
    """Return what a file answers to every picture of a part in a fresh process, (n, classes).

    Raises:
        ExportError: the file cannot be opened, or refuses a picture.
    """
    found = np.zeros((len(part), classes), np.float32)
    with answering(file) as answer:
        for positions, pictures in pictures_of(part):
            counted()
            found[positions.numpy()] = answer(pictures)
    return found


@contextlib.contextmanager
def answering(file: Path) -> Iterator[standalone.Answer]:
    """Start a process that answers from a file and knows nothing of this program; it ends with the block."""
    program = Path(standalone.__file__).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as nowhere, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(file.resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            cwd=nowhere,  # where nothing of ours can be imported from
            env={**os.environ, "PYTHONPATH": _without_us()},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        pipes = process.stdin, process.stdout

        def answer(pictures: np.ndarray) -> np.ndarray:
            with contextlib.suppress(BrokenPipeError):  # why it ended is said below
                standalone.send(pipes[0], pictures)
            found = standalone.receive(pipes[1])
            if found is None:
                process.wait()
                said.seek(0)
                last = said.read().decode(errors="replace").strip().splitlines()[-1:]
                raise ExportError(f"{file}: answers nothing: {' '.join(last) or f'exit code {process.returncode}'}")
            return found

        try:
            yield answer
        finally:
            with contextlib.suppress(BrokenPipeError):
                pipes[0].close()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            pipes[1].close()


def held_together(part: Part, run: Probabilities, file: Probabilities, seconds: float) -> Proof:
    """Return how a file's answers compare with the run's; what is no number differs by 1."""
    differences = np.nan_to_num(np.abs(run - file), nan=1.0).max(axis=1) if len(run) else np.zeros(0)
    targets = part.targets.numpy()
    of_run, of_file = run.argmax(1), file.argmax(1)
    return Proof(
        split=name_of(part),
        images=len(part),
        equal=int((of_run == of_file).sum()),
        largest=float(differences.max(initial=0.0)),
        worst=int(differences.argmax()) if len(differences) else 0,
        right_of_run=int((of_run == targets).sum()),
        right_of_file=int((of_file == targets).sum()),
        seconds=seconds,
    )


def prove(file: Path, part: Part, run: Probabilities, counted: Counted) -> Proof:
    """Have a file answer a part, and hold its answers against the run's.

    Raises:
        ExportError: the file answers nothing.
    """
    started = time.perf_counter()
    answers = answers_of_file(file, part, run.shape[1], counted)
    return held_together(part, run, answers, time.perf_counter() - started)


def _without_us() -> str:
    """Return PYTHONPATH without the folder that this program lies in."""
    ours = Path(standalone.__file__).resolve().parents[2]
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(path for path in paths if path and Path(path).resolve() != ours)
