"""Localisation: how well heat agrees with known objects, as its share on them and by the pointing game.

Pure NumPy on maps and masks; knows nothing of networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class HeatScore:
    """Agreement of maps with object masks.

    Attributes:
        ratio: heat on the object relative to a uniform map: mean of (share of heat on the mask / share of pixels).
        pointing: share of maps whose hottest pixel lies on the mask (Zhang et al., arXiv 1608.00507).
        images: maps that had any heat and a mask that is neither empty nor everything.
        silent: maps without positive evidence; they count neither way.
    """

    ratio: float
    pointing: float
    images: int
    silent: int

    def facts(self) -> dict[str, float]:
        """Return the numbers for summary.json."""
        return {
            "heat_ratio": self.ratio,
            "pointing_game": self.pointing,
            "heat_images": float(self.images),
            "heat_silent": float(self.silent),
        }


def heat_score(heat: np.ndarray, masks: np.ndarray) -> HeatScore | None:
    """Return the agreement of `heat` (n, H, W) with bool `masks` (n, H, W); None where no image can be judged."""
    total = heat.sum(axis=(1, 2))
    area = masks.mean(axis=(1, 2))
    judged = (area > 0) & (area < 1)
    warm = judged & (total > 0)
    if not warm.any():
        return None
    heat, masks = heat[warm], masks[warm]
    share = (heat * masks).sum(axis=(1, 2)) / total[warm]
    hottest = heat.reshape(len(heat), -1).argmax(axis=1)
    hits = masks.reshape(len(masks), -1)[np.arange(len(masks)), hottest]
    return HeatScore(
        float((share / area[warm]).mean()), float(hits.mean()), int(warm.sum()), int((judged & ~warm).sum())
    )
