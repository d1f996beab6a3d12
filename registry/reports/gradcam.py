"""The part that shows where the network looked: class-activation maps of its mistakes, at several layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from registry.catalogue.markers import Bounds, Text
from registry.contracts import Block, Evidence, Paragraph, ReportPart, Section
from registry.errors import RecipeError
from registry.reports import scores
from registry.reports.heat import HeatScore, heat_score
from registry.reports.pictures import Colormap, enlarged, file_name

if TYPE_CHECKING:
    from torch import Tensor

    from registry.reports.cam_pictures import Case, Panel
    from registry.reports.faithfulness import Faithfulness

__all__ = ["GradCAM"]

Select = Literal["misclassified", "correct", "confident", "uncertain"]
Method = Literal["GradCAM", "GradCAMPlusPlus", "LayerCAM", "EigenCAM"]
_SCORED = 256  # correctly answered images on which heat is held against object masks
_TRUSTED = (4, 16)  # fewest and most of them on which pixels are deleted and inserted, by their size
_TRUSTED_PIXELS = 32 * 64 * 64
_PIXELS_AT_ONCE = 32 * 224 * 224  # of a batch, so that graphs of large images fit in memory
_CHANCE = 0.05  # mean probability by which pixels must do better than in random order: a few images tell no less
_COARSE = 5  # px: a map below this side is too coarse to read


class GradCAM(ReportPart):
    """Where the network looked: a gallery at one layer, and a strip per image with the map at every layer.

    Args:
        layers: names or patterns of the strips' layers; omitted: the last layer of each map size, the deepest four.
        select: `misclassified` takes the most confident mistakes, filled up with the least confident correct images;
            `correct` the most confident right answers; `confident`, `uncertain` the most and least confident answers.
        count: images explained.
        target: whose evidence the gallery shows: the `predicted` class, the `true` class, or a class by its name.
        method: how maps follow from activations and gradients.
        alpha: opacity of the overlay where the map is 1; in between it grows with the map.
        colormap: OpenCV's colour map of the overlay.
        columns: images in a row of the gallery.
    """

    def __init__(
        self,
        layers: Sequence[Annotated[str, Text("pattern")]] | None = None,
        select: Select = "misclassified",
        count: Annotated[int, Bounds(min=1)] = 25,
        target: str = "predicted",
        method: Method = "GradCAM",
        alpha: Annotated[float, Bounds(min=0, max=1)] = 0.6,
        colormap: Colormap = "turbo",
        columns: Annotated[int, Bounds(min=1)] = 5,
    ) -> None:
        self.layers = layers
        self.select: Select = select
        self.count = count
        self.target = target
        self.method: Method = method
        self.alpha = alpha
        self.colormap: Colormap = colormap
        self.columns = columns
        self.label = ""

    def render(self, evidence: Evidence) -> Section:
        """Write gradcam/gallery.png and a strip and an overlay per image, and return them."""
        from registry.reports.cam_pictures import CamPictures

        title, key = self._title(), "-".join(("gradcam", *self._unlike_the_default()))
        if evidence.predictions is None:
            return Section(title, (Paragraph("There are no predictions: no epoch was finished.", "note"),), key)
        answers = scores.read(evidence.predictions)
        chosen, remark = self._choose(answers, evidence.split)
        panel = self._panel(evidence, chosen) if len(chosen) else None
        if panel is None:
            words = (
                "This network has no layer with a map of more than one cell."
                if len(chosen)
                else "No image is explained."
            )
            return Section(title, (Paragraph(remark), Paragraph(words, "note")), key)
        cases = self._explain(evidence, answers, chosen, panel)
        score = self._score(evidence, answers, panel)
        blocks: list[Block] = [Paragraph(remark), Paragraph(_how_to_read(self, panel))]
        if coarse := [f"`{name}` ({h}x{w})" for name, (h, w) in panel.sizes.items() if min(h, w) < _COARSE]:
            blocks.append(Paragraph(f"Too coarse to read as a place: {', '.join(coarse)}.", "note"))
        if score is not None:
            blocks.append(Paragraph(_score_words(score, panel.default)))
        trust = self._trust(evidence, answers, panel)
        if trust is not None:
            blocks.append(Paragraph(_trust_words(trust, panel.default)))
        whose = {"predicted": "the predicted class", "true": "the true class"}.get(self.target, self.target)
        folder = "/".join(("gradcam", *self._unlike_the_default()))
        pictures = CamPictures(evidence, panel, folder, self.method, whose, self.alpha, self.colormap)
        blocks.append(pictures.gallery(cases, self.columns))
        blocks.extend(pictures.strip(case, rank) for rank, case in enumerate(cases, start=1))
        facts = {"explained": float(len(cases))}
        for measured in (score, trust):
            facts |= {} if measured is None else measured.facts()
        return Section(title, tuple(blocks), key, facts)

    def _title(self) -> str:
        """Return what tells this part from another on the page."""
        return ", ".join((self.method, *self._unlike_the_default()[self.method != "GradCAM" :]))

    def _unlike_the_default(self) -> list[str]:
        """Return what tells this part from a plain one, so that two on one page have places of their own."""
        given = ((self.method, "GradCAM"), (self.select, "misclassified"), (self.target, "predicted"))
        told = [file_name(value) for value, default in given if value != default]
        return [*told, file_name(self.label)] if self.label else told

    def _choose(self, answers: scores.Answers, split: str) -> tuple[np.ndarray, str]:
        """Return the positions to explain, and a sentence that says which they are."""
        if self.select == "misclassified":
            wrong = scores.most_confident_mistakes(answers, self.count)
            filling = scores.least_confident_correct(answers, self.count - len(wrong))
            return np.concatenate([wrong, filling]), _which_mistakes(
                int(answers.wrong.sum()), len(wrong), len(filling), split
            )
        if self.select == "correct":
            right = scores.most_confident_correct(answers, self.count)
            return right, f"The {len(right)} right answers on {split} given with the greatest confidence."
        direction = -1 if self.select == "confident" else 1
        order = np.argsort(direction * answers.confidence, kind="stable")[: self.count]
        word = "greatest" if self.select == "confident" else "least"
        return order, f"The {len(order)} answers on {split} given with the {word} confidence."

    def _panel(self, evidence: Evidence, chosen: np.ndarray) -> Panel | None:
        """Return the strips' layers and the gallery's, from one dry forward."""
        from registry.reports.cam_pictures import Panel
        from registry.reports.layers import deepest_readable, panel_layers, select_layers, visits

        seen = visits(evidence.model, evidence.images.prepared([int(chosen[0])]))
        names = panel_layers(seen) if self.layers is None else select_layers(self.layers, seen)
        default = deepest_readable(seen)
        if default is None:
            return None
        sizes = {v.name: v.map_shape[1:] for v in seen if v.map_shape and (v.name in names or v.name == default)}
        return Panel(tuple(names), default, {name: sizes[name] for name in names})

    def _classes(self, evidence: Evidence, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Return the classes to explain, int64 (3, n): the gallery's target, the predicted and the true class."""
        if self.target in ("predicted", "true"):
            first = predicted if self.target == "predicted" else np.where(truth < 0, predicted, truth)
        elif self.target in evidence.class_names:
            first = np.full_like(truth, evidence.class_names.index(self.target))
        else:
            names = ", ".join(evidence.class_names[:20])
            raise RecipeError(f"no class is named {self.target!r}", f"target: predicted, true, or one of {names}")
        return np.stack([first, predicted, np.where(truth < 0, predicted, truth)])

    def _explain(self, evidence: Evidence, answers: scores.Answers, chosen: np.ndarray, panel: Panel) -> list[Case]:
        from registry.reports.cam import explain
        from registry.reports.cam_pictures import Case

        assert evidence.predictions is not None
        layers = list(dict.fromkeys((*panel.layers, panel.default)))
        cases = []
        for positions, inputs in _batches(evidence, chosen):
            shown, files = evidence.images.shown(positions), evidence.images.files(positions)
            classes = self._classes(evidence, answers.truth[positions], answers.predicted[positions])
            found = explain(evidence.model, inputs, layers, _tensor(classes), self.method)
            for i, position in enumerate(positions):
                maps = {name: {int(c): found.maps[name][t, i] for t, c in enumerate(classes[:, i])} for name in layers}
                cases.append(
                    Case(
                        index=int(evidence.predictions.indices[position]),
                        file=files[i],
                        photo=enlarged(shown[i]),
                        classes=tuple(dict.fromkeys(int(c) for c in classes[:, i])),
                        truth=int(answers.truth[position]),
                        predicted=int(answers.predicted[position]),
                        confidence=float(answers.confidence[position]),
                        truth_probability=float(answers.truth_probability[position]),
                        maps=maps,
                    )
                )
        return cases

    def _score(self, evidence: Evidence, answers: scores.Answers, panel: Panel) -> HeatScore | None:
        """Hold the heat of correctly answered images against their object masks, where there are masks."""
        from registry.reports.cam import explain, upsampled

        right = np.flatnonzero(~answers.wrong)
        if not len(right) or evidence.images.masks([int(right[0])]) is None:
            return None
        sample = right[np.unique(np.linspace(0, len(right) - 1, _SCORED).astype(np.int64))]
        heats, masks = [], []
        for positions, inputs in _batches(evidence, sample):
            targets = _tensor(answers.predicted[positions])
            found = explain(evidence.model, inputs, [panel.default], targets, self.method)
            truth = evidence.images.masks(positions)
            assert truth is not None
            heats.append(upsampled(found.maps[panel.default][0], truth.shape[1:]).numpy())
            masks.append(truth)
        return heat_score(np.concatenate(heats), np.concatenate(masks))

    def _trust(self, evidence: Evidence, answers: scores.Answers, panel: Panel) -> Faithfulness | None:
        """Ask of some correctly answered images whether the network needs what the maps point at."""
        from registry.reports.faithfulness import faithfulness

        right = np.flatnonzero(answers.predicted == answers.truth)
        if not len(right):
            return None
        height, width = evidence.images.prepared([int(right[0])]).shape[2:]
        count = int(np.clip(_TRUSTED_PIXELS // (height * width), *_TRUSTED))
        sample = right[np.unique(np.linspace(0, len(right) - 1, count).astype(np.int64))]
        batches = ((inputs, _tensor(answers.predicted[positions])) for positions, inputs in _batches(evidence, sample))
        return faithfulness(evidence.model, batches, panel.default, self.method)


def _batches(evidence: Evidence, positions: np.ndarray) -> Iterator[tuple[list[int], Tensor]]:
    """Yield positions, in order, with the model's input (n, C, H, W) of as many as fit in memory and have one size."""
    import torch

    taken: list[int] = []
    inputs: list[Tensor] = []
    for position in map(int, positions):
        one = evidence.images.prepared([position])
        height, width = one.shape[2:]
        if inputs and (one.shape != inputs[0].shape or (len(inputs) + 1) * height * width > _PIXELS_AT_ONCE):
            yield taken, torch.cat(inputs)
            taken, inputs = [], []
        taken.append(position)
        inputs.append(one)
    if inputs:
        yield taken, torch.cat(inputs)


def _tensor(classes: np.ndarray) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(classes, dtype=np.int64))


def _which_mistakes(all_wrong: int, shown: int, filled: int, split: str) -> str:
    if all_wrong == 0:
        return f"The model made **no mistake** on {split}; these are its {filled} least confident right answers."
    words = f"The {shown} most confident of {all_wrong:,} mistakes on {split}"
    return words + (f", filled up with the {filled} least confident right answers." if filled else ".")


def _how_to_read(part: GradCAM, panel: Panel) -> str:
    return (
        f"Maps by {part.method}: warm colours are evidence for the class named; where there is none, the photo stays. "
        "Each map is scaled by its own maximum, so compare the maxima printed below the pictures. Layers: "
        + ", ".join(f"`{name}` {h}x{w}" for name, (h, w) in panel.sizes.items())
        + f"; the gallery shows `{panel.default}`."
        + (" EigenCAM explains no class in particular." if part.method == "EigenCAM" else "")
    )


def _score_words(score: HeatScore, layer: str) -> str:
    silent = f"; {score.silent} maps had no positive evidence" if score.silent else ""
    return (
        f"On {score.images} correctly classified images with known object masks, `{layer}` puts "
        f"**{score.ratio:.2f} times** the heat of a uniform map on the object, and the hottest point lies on it in "
        f"**{100 * score.pointing:.1f} %**{silent}."
    )


def _trust_words(found: Faithfulness, layer: str) -> str:
    heat, chance = found.by_heat, found.by_chance
    words = (
        f"On {found.images} correctly classified images, pixels taken away in the order of `{layer}` leave a mean "
        f"probability of **{heat.deletion_area:.2f}** (lower is better; {chance.deletion_area:.2f} in random order), "
        f"and put back in that order **{heat.insertion_area:.2f}** (higher is better; {chance.insertion_area:.2f})."
    )
    gains = (chance.deletion_area - heat.deletion_area, heat.insertion_area - chance.insertion_area)
    if max(gains) < _CHANCE:
        words += " **Neither is better than chance: what the maps point at is not what the network needs here.**"
    if found.after_shuffling is None:
        return words
    return words + (
        f" With the network's weights shuffled, the maps' rank correlation with these is "
        f"**{found.after_shuffling:.2f}**: at 1 they would not show what was learned."
    )
