"""What an exported file says of itself: texts, most of them JSON, by the names that best.safetensors has for them, too.

class_names                          one per class index
recipe, recipe_sha256, resolved      what it was trained by: name, digest, and the whole of it
pictures                             how they go in: layout, type, colours, channels, the training images' size; and how
                                     files become them: the value that is white, what shows through
model, input, eval, preprocess       the network and what is done before it, all of which is inside
measured                             split, images, accuracy and calibration of the run's answers in fp32
calibration                          the temperature, and whether the file tells probabilities by it
abstain_below                        below which the answer is "not sure"; null for never
data                                 fingerprints of the parts, to tell the run's own images by
weights, versions                    which weights of the run they are, and what made the file
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from registry.datasets.decoding import FULL, WHITE, Decoding
from registry.errors import DataError

FORMAT = "1"
_KEY = "recipe_trainer"  # under which the format's number stands


@dataclass(frozen=True)
class About:
    """What a file says of itself.

    Attributes:
        texts: all of it, by name.
    """

    texts: Mapping[str, str]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> About:
        """Return what a file is to say; what is no text becomes JSON."""
        texts = {name: each if isinstance(each, str) else json.dumps(each) for name, each in values.items()}
        return cls({_KEY: FORMAT, **texts})

    @classmethod
    def read(cls, path: object, texts: Mapping[str, str]) -> About:
        """Return what a file says.

        Raises:
            DataError: it is none of ours, or of another version.
        """
        found = texts.get(_KEY)
        if found != FORMAT:
            what = "was not exported by this program" if found is None else f"has format {found}, this version {FORMAT}"
            raise DataError(f"{path}: {what}", "`export RUN` makes such a file")
        return cls(texts)

    def json(self, name: str) -> Any:
        """Return a value that stands as JSON."""
        return json.loads(self.texts[name])

    @property
    def class_names(self) -> tuple[str, ...]:
        """One per class index."""
        return tuple(self.json("class_names"))

    @property
    def channels(self) -> int:
        """Of the pictures: 3 for RGB, 1 for grey."""
        return int(self.json("pictures")["channels"])

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the training images; None where they varied."""
        size = self.json("pictures")["size"]
        return None if size is None else (int(size[0]), int(size[1]))

    @property
    def short_side(self) -> int | None:
        """Pixels of the short side to which larger pictures are shrunk before they are asked about; None for not."""
        side = self.json("pictures").get("short_side")
        return None if side is None else int(side)

    @property
    def decoding(self) -> Decoding:
        """How files become pixels."""
        said = self.json("pictures")
        level, ground = said.get("white_level"), said.get("background")
        red, green, blue = WHITE if ground is None else ground
        return Decoding(FULL if level is None else level, ground=(red, green, blue))

    @property
    def abstain_below(self) -> float | None:
        """Probability of the likeliest class below which the answer is "not sure"; None for never."""
        value = self.json("abstain_below")
        return None if value is None else float(value)
