"""The order of an export: what cannot be done is refused first, and nothing is called exported before it is proved.

packages -> run -> graph forms -> data -> the run's answers -> file -> proof -> its name and its card
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from registry import files
from registry.contracts import Predictions
from registry.errors import ExportError, RecipeError, StorageError
from registry.printing import one_line, printable
from registry.reports import scores
from registry.transforms.shrinking import WHOLE
from trainer.data.splits import Part
from trainer.experiment.experiment import Experiment
from trainer.experiment.trained import Trained
from trainer.experiment.trained import about as network_texts
from trainer.export import int8
from trainer.export.about import About
from trainer.export.card import card
from trainer.export.formats import SUFFIX, Format, require_to_make
from trainer.export.parting import where_they_part
from trainer.export.proof import SMALLEST, Probabilities, Proof, answers_of_run, batches_of, name_of, prove
from trainer.export.whole import Whole, example, forms, whole_of
from trainer.export.writing import traced, written
from trainer.recipe.afterwards import Free, free, patterns
from trainer.run.answering import Sureness, sureness, unfitted
from trainer.run.folder import RunFolder
from trainer.run.loading import decoding_of

TOLERANCE = 1e-4  # of a probability, up to which a file in fp32 is the run's
ROUNDED = 1e-2  # the same where means over areas may be rounded to the next grey level
MOST_LOST = 0.01  # of the accuracy, up to which a file in whole numbers is
_OTHERS = "other data"  # what a part is called that is not the run's own
_BINS = 15
_FREE = (
    Free("data.dataset.root", "the same images in another place"),
    Free("data.workers", "speed"),
    Free("data.on_bad_image", "images that cannot be read"),
)


@dataclass(frozen=True)
class Request:
    """What is to be exported and how.

    Attributes:
        run: its folder.
        overrides: `key=value`, of where the data lie.
        to: the format.
        out: the file; None for one in the run's folder.
        calibrated: as `sureness` takes it.
        abstain_below: likewise.
        whole_numbers: whether it computes in 8 bits.
    """

    run: Path
    overrides: Sequence[str]
    to: Format
    out: Path | None = None
    calibrated: bool | None = None
    abstain_below: float | None = None
    whole_numbers: bool = False


@dataclass(frozen=True)
class Exported:
    """What was made.

    Attributes:
        file: proved.
        card: beside it.
        proof: of the file.
    """

    file: Path
    card: Path
    proof: Proof


Log = Callable[[str], None]
Counting = Callable[[str, int], Callable[[], None]]


def export(request: Request, log: Log, counting: Counting) -> Exported:
    """Export a run's network, prove the file, and write its card.

    Args:
        request: what and how.
        log: takes one line.
        counting: (words, batches) -> what is called before each of them.

    Raises:
        RecipeError: a package is missing, a transform or the network has no form in a graph, or a key may not be given.
        CheckpointError: there is no run, or it has no whole checkpoint.
        DataError: its data are missing.
        ExportError: the file does not answer as the run does.
        StorageError: the file cannot be written.
    """
    if request.whole_numbers and request.to != "onnx":
        raise RecipeError("--int8 is of ONNX Runtime", "leave --to out, or --int8")
    require_to_make(request.to)
    folder = RunFolder.open(request.run)
    _refuse_others(request.overrides)
    trained = Trained.read(folder.path, request.overrides)
    how = sureness(trained, folder, calibrated=request.calibrated, abstain_below=request.abstain_below)
    if (trained.recipe.answers.calibrated if request.calibrated is None else request.calibrated) and unfitted(folder):
        log(unfitted(folder))
    whole_of(trained, torch.nn.Identity(), 1.0)  # what a graph cannot hold is told before the data are read
    experiment, part = _experiment(trained, folder, log)
    whole = whole_of(trained, experiment.model, how.temperature)
    answers = answers_of_run(experiment, part, how.temperature, counting("the run answers", batches_of(part)))
    about = _about(trained, folder, part, answers, how)
    target = _target(request, folder)
    with tempfile.TemporaryDirectory() as place:
        candidate = Path(place) / target.name
        log(f"tracing {trained.recipe.model.type} into a graph ...")
        program = traced(whole, example(trained))
        candidate.write_bytes(written(program, request.to, about))
        if request.whole_numbers:
            int8.quantise(candidate, trained, log)
        log(f"proving {target.name} on {len(part):,} pictures of {name_of(part)} ...")
        proof = prove(candidate, part, answers, counting("the file answers", batches_of(part)))
        tolerance = TOLERANCE if all(form.exact for form in forms(trained)) else ROUNDED
        _require(proof, candidate, whole, part, request, tolerance)
        remarks = _remarks(request, trained, proof, _reported(folder))
        for remark in remarks:
            log(remark)
        text = card(target, about, proof, _demanded(request, tolerance), remarks)
        return _kept(candidate, target, text, proof, request, folder)


def _refuse_others(overrides: Sequence[str]) -> None:
    others = [key for each in overrides if free(key := each.partition("=")[0], _FREE) is None]
    if others:
        raise RecipeError(
            f"{', '.join(others)}: an export is of the network as it was trained",
            f"what may be given: {patterns(_FREE)}; how it answers, by --calibrated and --abstain-below",
        )


def _experiment(trained: Trained, folder: RunFolder, log: Log) -> tuple[Experiment, Part]:
    """Return the run's own network and data, on the CPU in fp32, and the part that the run reported."""
    train = replace(trained.recipe.train, device="cpu", precision="fp32", compile=False, tta="none")
    experiment, measured_on = Experiment.of_trained(
        replace(trained, recipe=replace(trained.recipe, train=train)), log=log
    )
    part = next((part for part in measured_on.parts if part.name == _reported(folder)), measured_on.parts[-1])
    if trained.prints and part.name not in measured_on.own:
        part = replace(part, name=_OTHERS, dataset_split="")
    return experiment, part


def _reported(folder: RunFolder) -> str:
    """Return the part whose numbers a run's report leads with."""
    return "test" if folder.read_summary().get("test") else "val"


def _about(trained: Trained, folder: RunFolder, part: Part, answers: Probabilities, how: Sureness) -> About:
    """Return what the file says of itself; what the run reaches is measured anew, in fp32."""
    recipe, resolved = trained.recipe, folder.resolved.read_text(encoding="utf-8")
    kept = folder.read_summary().get("calibration") or {}
    decoding = decoding_of(recipe)
    return About.of(
        {
            **network_texts(resolved, recipe, trained.input_shape, trained.facts),
            "resolved": resolved,
            "class_names": list(trained.class_names),
            "pictures": {
                "layout": "NHWC",
                "type": "uint8",
                "colours": "RGB" if trained.channels == 3 else "grey",
                "channels": trained.channels,
                "size": trained.stored_size,
                "short_side": None if recipe.data.store is None else recipe.data.store.side,
                "white_level": decoding.white_level,
                "background": decoding.ground,
            },
            "measured": measured(part, answers),
            "calibration": {
                "calibrated": how.temperature != 1,
                "temperature": how.temperature,
                "fitted_on": kept.get("split"),
            },
            "abstain_below": how.abstain_below,
            "data": dict(trained.prints),
            "weights": {"file": trained.file.name, "epoch": trained.epoch},
            "versions": {"torch": torch.__version__},
        }
    )


def measured(part: Part, answers: Probabilities) -> dict[str, Any]:
    """Return what probabilities (n, classes) of a part's images are worth."""
    logits = np.log(np.maximum(answers.astype(np.float64), SMALLEST))
    predictions = Predictions(np.arange(len(part)), part.targets.numpy(), logits, float("nan"), {})
    found = scores.read(predictions)
    return {
        "split": name_of(part),
        "images": len(part),
        "accuracy": float(np.mean(~found.wrong)) if len(part) else None,
        "nll": float(np.mean(found.loss)) if len(part) else None,
        "ece": scores.reliability(found, _BINS).ece,
    }


def _target(request: Request, folder: RunFolder) -> Path:
    if request.out is not None:
        if request.out.suffix != SUFFIX[request.to]:
            raise RecipeError(
                f"--out {request.out}: a file of --to {request.to} ends in {SUFFIX[request.to]}",
                "its ending says how it is read",
            )
        return request.out
    name = f"model{'-int8' if request.whole_numbers else ''}{SUFFIX[request.to]}"
    return folder.path / "export" / name


def _demanded(request: Request, tolerance: float) -> str:
    if request.whole_numbers:
        return f"at most {100 * MOST_LOST:g} point of accuracy may be lost"
    rounded = ": means over areas may be rounded to the next grey level" if tolerance > TOLERANCE else ""
    return f"at most {tolerance:g} is demanded{rounded}"


def _require(proof: Proof, file: Path, whole: Whole, part: Part, request: Request, tolerance: float) -> None:
    """Refuse to call a file exported that does not answer as the run does.

    Raises:
        ExportError: which picture differs, by how much, and at which layer the two part.
    """
    holds = proof.lost <= MOST_LOST if request.whole_numbers else proof.largest <= tolerance
    if holds:
        return
    index = part.indices[proof.worst : proof.worst + 1]
    stored = part.store.gather(index)
    picture = stored if isinstance(stored, torch.Tensor) else torch.from_numpy(np.stack(stored))
    where = "the layers could not be compared"
    with contextlib.suppress(Exception):  # the answer stands without it
        where = f"they part {where_they_part(file, whole, picture)}"
    lost = f"; {100 * proof.lost:.2f} points of accuracy are lost" if request.whole_numbers else ""
    raise ExportError(
        f"the file does not answer as the run does: {proof.said()} ({_demanded(request, tolerance)}){lost}; "
        f"most at {one_line(part.store.describe(int(index[0])))}: {where}",
        "nothing was written; take another --to, or tell us of the layer",
    )


def _kept(candidate: Path, target: Path, text: str, proof: Proof, request: Request, folder: RunFolder) -> Exported:
    """Give a proved file its name, and write its card, `text`, beside it; in a run's folder through no link."""
    beside = target.with_name(f"{target.name}.md")
    below = folder.path if request.out is None else target.parent
    try:
        below.mkdir(parents=True, exist_ok=True)
        files.write(target, candidate.read_bytes(), below=below)
        files.write(beside, printable(text).encode(), below=below)
    except OSError as error:
        raise StorageError(f"{target}: cannot be written ({error.strerror or error})") from error
    return Exported(target, beside, proof)


def _remarks(request: Request, trained: Trained, proof: Proof, reported: str) -> list[str]:
    remarks = []
    if reported == "test" and proof.split == "val":
        remarks.append(
            "The run's report tells of test pictures, of which there is none here that it has not learnt from: the "
            "file was proved on those of validation, which chose the best epoch."
        )
    if proof.split == _OTHERS:
        remarks.append("The pictures are not those that the run was measured on: what it reached is in its report.")
    data, (height, width) = trained.recipe.data, trained.stored_size or (0, 0)
    if data.decode == "reduced" and (data.store is not None or not 0 < height * width <= WHOLE):
        on = (
            "so were those on which the run and the file were measured, and the file's own decoding differs a little."
            if data.store is not None
            else "the file is given pictures in full size. On those the run and the file were measured; the report's "
            "accuracy is of pictures decoded smaller."
        )
        remarks.append(f"The run decodes large JPEGs at 1/2, 1/4 or 1/8 of their size (data.decode: reduced); {on}")
    if request.whole_numbers:
        remarks.append(
            "It computes in whole numbers of 8 bits, their ranges taken from training pictures: "
            f"{100 * proof.lost:.2f} points of accuracy are lost by that."
        )
    return remarks
