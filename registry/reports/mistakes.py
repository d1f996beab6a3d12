"""The part that shows the images a model got wrong."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np

from registry.catalogue.adoption import Change
from registry.catalogue.markers import Bounds
from registry.contracts import Block, Evidence, Figure, Gallery, Paragraph, ReportPart, Section
from registry.printing import literal, share_text
from registry.reports import scores
from registry.reports.chart import share_said
from registry.reports.pictures import TILE, Tile, enlarged, file_name, grid, write_png

__all__ = ["Misclassified"]


class Misclassified(ReportPart):
    """Galleries of the mistakes made with the greatest confidence, and of those with the greatest loss.

    Args:
        count: images per gallery.
        columns: images in a row.
    """

    change: ClassVar = Change(facts={"owns": ""})

    def __init__(self, count: Annotated[int, Bounds(min=1)] = 25, columns: Annotated[int, Bounds(min=1)] = 5) -> None:
        self.count = count
        self.columns = columns

    def render(self, evidence: Evidence) -> Section:
        """Write one PNG per image and one per gallery into figures/ and return the galleries."""
        title, key = "Mistakes", "misclassified"
        predictions = evidence.predictions
        if predictions is None:
            return Section(title, (Paragraph("There are no predictions: no epoch was finished.", "note"),), key)
        answers = scores.read(predictions)
        mistakes, total = int(answers.wrong.sum()), len(answers.truth)
        facts = {"mistakes": float(mistakes), "images": float(total)}
        if mistakes == 0:
            words = f"The model made no mistake on the {total:,} images of {evidence.split}."
            return Section(title, (Paragraph(words, "note"),), key, facts)
        share = (
            f"{mistakes:,} of {total:,} images of {evidence.split} ({share_text(mistakes / total)}) are misclassified."
        )
        blocks: list[Block] = [Paragraph(share)]
        by_confidence = scores.most_confident_mistakes(answers, self.count)
        by_loss = scores.greatest_losses(answers, self.count)
        blocks.append(self._gallery(evidence, answers, by_confidence, "confidence", "The most confident mistakes"))
        if set(by_loss) != set(by_confidence):
            blocks.append(self._gallery(evidence, answers, by_loss, "loss", "The mistakes with the greatest loss"))
        return Section(title, tuple(blocks), key, facts)

    def _gallery(
        self, evidence: Evidence, answers: scores.Answers, positions: np.ndarray, ranking: str, caption: str
    ) -> Gallery:
        assert evidence.predictions is not None
        places = [int(position) for position in positions]
        images, files = evidence.images.shown(places), evidence.images.files(places)
        names, tiles, figures = evidence.class_names, [], []
        for rank, (position, image, file) in enumerate(zip(places, images, files, strict=True), start=1):
            truth, predicted = names[answers.truth[position]], names[answers.predicted[position]]
            index = int(evidence.predictions.indices[position])
            sure, loss = answers.confidence[position], answers.loss[position]
            number = share_said(sure) if ranking == "confidence" else f"loss {loss:.2f}"
            lines = (f"{truth} → {predicted}", f"#{index}  {number}", *([file] if file else []))
            tile = Tile(enlarged(image), lines)
            path = f"figures/misclassified/{ranking}-{rank:02d}-{index}-{file_name(truth)}-{file_name(predicted)}.png"
            write_png(evidence.folder / path, tile.image, below=evidence.folder)
            named = file or f"Image {index} of {evidence.counted_in or evidence.split}"
            alt = f"{named}: truth {truth}, predicted {predicted}."
            words = f"**{literal(truth)}** taken for **{literal(predicted)}**, {share_said(sure)} sure, "
            words += f"{share_said(answers.truth_probability[position])} for the truth, loss {loss:.2f}, "
            words += f"`{literal(file)}`, " if file else ""
            figures.append(Figure(path, alt, f"{words}#{index}", width=TILE))
            tiles.append(tile)
        picture = grid(tiles, self.columns, f"{caption} (truth → prediction)")
        write_png(evidence.folder / f"figures/misclassified_by_{ranking}.png", picture, below=evidence.folder)
        evidence.recorder.image(f"misclassified/{ranking}", picture)
        return Gallery(tuple(figures), f"{caption}; # is the index in {evidence.numbering}.", self.columns)
