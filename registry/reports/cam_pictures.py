"""Pictures of explained images: a gallery at one layer, and a strip per image with the map at every layer.

Draws and writes files; which images and what maps is decided by gradcam.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from registry.contracts import Evidence, Figure, Gallery
from registry.printing import literal
from registry.reports.cam import upsampled
from registry.reports.chart import share_said
from registry.reports.pictures import TILE, Colormap, Tile, file_name, grid, overlay, sheet, write_png

if TYPE_CHECKING:
    from torch import Tensor

_SENT = 10  # strips that go to TensorBoard
_PLACES = ("above", "below"), ("above", "in the middle", "below")


@dataclass(frozen=True)
class Panel:
    """Which layers are shown.

    Attributes:
        layers: of the strips, in execution order.
        default: the gallery's.
        sizes: (height, width) of the strips' maps.
    """

    layers: tuple[str, ...]
    default: str
    sizes: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Case:
    """One image, what the network said of it, and why.

    Attributes:
        index: in the dataset's split.
        file: printable; "" where it is not a file of its own.
        photo: enlarged, uint8 (H, W, 3).
        classes: explained, the gallery's first.
        truth: class index; -1 where it is not known.
        predicted: class index.
        confidence: probability of the predicted class.
        truth_probability: probability of the true class.
        maps: raw map (h, w) by layer and class.
    """

    index: int
    file: str
    photo: np.ndarray
    classes: tuple[int, ...]
    truth: int
    predicted: int
    confidence: float
    truth_probability: float
    maps: dict[str, dict[int, Tensor]]

    def role(self, target: int) -> str:
        """Say what the class `target` is to this image."""
        if target == self.truth == self.predicted:
            return " (predicted, and true)"
        return " (predicted)" if target == self.predicted else " (true)" if target == self.truth else ""

    def title(self, names: Sequence[str]) -> str:
        """Return truth and prediction, as far as they are known."""
        predicted = f"Predicted: {names[self.predicted]}"
        return f"Truth: {names[self.truth]}, {predicted}" if self.truth >= 0 else predicted

    def file_stem(self, rank: int, names: Sequence[str]) -> str:
        """Return the stem of this image's pictures."""
        truth = f"-t-{file_name(names[self.truth])}" if self.truth >= 0 else ""
        return f"{rank:02d}-{self.index}{truth}-p-{file_name(names[self.predicted])}"


@dataclass(frozen=True)
class CamPictures:
    """Draws the cases of one report.

    Attributes:
        evidence: gives names, the folder and the recorder.
        panel: the layers.
        place: where pictures go, relative to the run folder.
        method: named in titles.
        whose: whose evidence the gallery shows, in words.
        alpha: opacity where a map is 1.
        colormap: OpenCV's.
    """

    evidence: Evidence
    panel: Panel
    place: str
    method: str
    whose: str
    alpha: float
    colormap: Colormap

    def gallery(self, cases: Sequence[Case], columns: int) -> Gallery:
        """Write an overlay per case at the default layer and gallery.png; return the overlays."""
        names, layer, folder = self.evidence.class_names, self.panel.default, self.evidence.folder
        figures, tiles = [], []
        for rank, case in enumerate(cases, start=1):
            target = case.classes[0]
            picture, peak = self._overlay(case, layer, target)
            path = f"{self.place}/{case.file_stem(rank, names)}-overlay.png"
            write_png(folder / path, picture, below=folder)
            sure = share_said(case.confidence)
            truth = f"**{literal(names[case.truth])}** taken for " if case.truth not in (-1, case.predicted) else ""
            file = f"`{literal(case.file)}`, " if case.file else ""
            words = f"{truth}**{literal(names[case.predicted])}**, {sure} sure, {_peak(peak)}, {file}#{case.index}"
            shown = "what it holds above all" if self.of_no_class else f"the evidence for {names[target]}"
            alt = f"Image {case.index} with {shown} at {layer} laid over it."
            figures.append(Figure(path, alt, words, width=TILE))
            answer = f"{names[case.truth]} → {names[case.predicted]}" if case.truth >= 0 else names[case.predicted]
            tiles.append(Tile(picture, (answer, f"#{case.index}  {sure}"), pale=peak <= 0))
        truths = " (truth → prediction)" if any(case.truth >= 0 for case in cases) else ""
        whole = grid(tiles, columns, f"{self.method} at {layer}{truths}")
        write_png(folder / self.place / "gallery.png", whole, below=folder)
        self.evidence.recorder.image(f"{self.place}/gallery", whole)
        what = "What is there above all, for no class," if self.of_no_class else f"Evidence for {literal(self.whose)}"
        caption = f"{what} at {layer}; # is the index in {self.evidence.numbering}."
        return Gallery(tuple(figures), caption, columns)

    @property
    def of_no_class(self) -> bool:
        """Whether the maps are the same whatever class is asked about."""
        return self.method == "EigenCAM"

    def strip(self, case: Case, rank: int) -> Figure:
        """Write the maps of one case at every layer, the photo once and a row per class beside it."""
        names = self.evidence.class_names
        explained = case.classes[:1] if self.of_no_class else case.classes
        said = {c: "of no class" if self.of_no_class else f"evidence for {names[c]}{case.role(c)}" for c in explained}
        rows = [(words, self._row(case, c)) for c, words in said.items()]
        sure = f"{names[case.predicted]} {share_said(case.confidence)}"
        if case.truth not in (-1, case.predicted):
            sure += f", {names[case.truth]} {share_said(case.truth_probability)}"
        within = self.evidence.counted_in or self.evidence.split
        named = f"{case.file}, image {case.index}" if case.file else f"Image {case.index} of {within}"
        photo = Tile(case.photo, ("image",))
        picture = sheet(rows, case.title(names), f"{named}; {sure}", lead=photo)
        path = f"{self.place}/{case.file_stem(rank, names)}.png"
        write_png(self.evidence.folder / path, picture, below=self.evidence.folder)
        if rank <= _SENT:
            self.evidence.recorder.image(f"{self.place}/{rank:02d}", picture)
        alt = f"{self.method} maps at {', '.join(self.panel.layers)}"
        if self.of_no_class:
            caption = f"{literal(named)}: {literal(sure)}; the maps are of no class in particular."
            return Figure(path, f"{alt}.", caption, width=picture.shape[1])
        alt += " for " + " and ".join(names[c] for c in case.classes)
        places = _PLACES[len(rows) == 3] if len(rows) > 1 else ("",)
        which = ", ".join(
            f"for **{literal(names[c])}**{case.role(c)} {place}".rstrip()
            for c, place in zip(case.classes, places, strict=True)
        )
        caption = f"{literal(named)}: {literal(sure)}: evidence {which}."
        return Figure(path, alt, caption, width=picture.shape[1])

    def _row(self, case: Case, target: int) -> list[Tile]:
        """Return the maps of one class."""
        tiles = []
        for layer in self.panel.layers:
            height, width = case.maps[layer][target].shape
            picture, peak = self._overlay(case, layer, target)
            tiles.append(Tile(picture, (f"{layer}  {height}x{width}", _peak(peak)), pale=peak <= 0))
        return tiles

    def _overlay(self, case: Case, layer: str, target: int) -> tuple[np.ndarray, float]:
        """Return the photo under one map, and the raw map's maximum."""
        raw = case.maps[layer][target]
        heat = upsampled(raw, case.photo.shape[:2]).numpy()
        return overlay(case.photo, heat, self.alpha, self.colormap), float(raw.max())


def _peak(peak: float) -> str:
    """Return a raw maximum in words; without it a map of 1e-9 would look like one of 10."""
    return f"max {peak:.3g}" if peak > 0 else "no positive evidence"
