"""The part that shows what augmentation makes of the training images."""

from __future__ import annotations

from typing import Annotated, ClassVar

from registry.catalogue.adoption import Change
from registry.catalogue.markers import Bounds
from registry.contracts import Evidence, Figure, Paragraph, ReportPart, Section
from registry.reports.pictures import Tile, enlarged, sheet, write_png

__all__ = ["AugmentationSheet"]

_SIDE = 96  # px


class AugmentationSheet(ReportPart):
    """A training image of each class, before augmentation and after several draws of it.

    Args:
        images: rows of the sheet at most, a class each.
        draws: augmented versions of each image.
    """

    change: ClassVar = Change(facts={"owns": ""})

    def __init__(self, images: Annotated[int, Bounds(min=1)] = 10, draws: Annotated[int, Bounds(min=1)] = 8) -> None:
        self.images = images
        self.draws = draws

    def render(self, evidence: Evidence) -> Section:
        """Write figures/augmentation.png and return it."""
        title, key = "Augmentation", "augmentation"
        before = evidence.train_samples[: self.images]
        if not len(before):
            return Section(title, (Paragraph("There are no training images to show.", "note"),), key)
        after = [evidence.augmented(k) for k in range(self.draws)]
        rows = []
        for i, image in enumerate(before):
            name = evidence.class_names[evidence.sample_classes[i]] if evidence.sample_classes else "as stored"
            tiles = [Tile(enlarged(image, _SIDE), (name,))]
            tiles += [
                Tile(enlarged(draw[i], _SIDE), (f"draw {k}",) if i == 0 else ()) for k, draw in enumerate(after, 1)
            ]
            rows.append(("", tiles))
        picture = sheet(rows, side=_SIDE)
        path = "figures/augmentation.png"
        write_png(evidence.folder / path, picture, below=evidence.folder)
        evidence.recorder.image("augmentation", picture)
        classes = len(evidence.class_names)
        alt = f"{len(before)} training images, each before augmentation and after {self.draws} draws."
        whole = f"the first {len(before)} of {classes:,} classes" if len(before) < classes else "each class"
        caption = f"A training image of {whole} as it is stored, and after {self.draws} draws of the augmentation."
        return Section(title, (Figure(path, alt, caption, width=picture.shape[1]),), key)
