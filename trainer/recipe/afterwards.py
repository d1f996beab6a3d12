"""What of its recipe may be given anew once a run has been trained: to `resume` it, and to `evaluate` it.

Tables only, held by docs/reliability.md, docs/recipe.md and the help of both commands. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from registry.patterns import matches

RESOLVED = "resolved.yaml"  # in a run folder: the recipe that the run was made by


@dataclass(frozen=True)
class Free:
    """Keys that may be given anew.

    Attributes:
        pattern: of the dotted path.
        why: what changes, or why nothing does.
        redone: whether a completed run is evaluated and reported anew for it.
    """

    pattern: str
    why: str
    redone: bool = False

    def fits(self, key: str) -> bool:
        """Say whether `key` is one of them, or the section that they are all of."""
        return matches(self.pattern, key) or key == self.pattern.removesuffix(".**")


FREE_AT_RESUME = (
    Free("train.epochs", "more or fewer epochs, unless the scheduler was planned on their number"),
    Free("train.max_minutes", "only ends training earlier or later"),
    Free("train.checkpoint.**", "only when the state is written"),
    Free("train.device", "continues elsewhere; equal to the last bit only on the same device"),
    Free("train.tta", "only the final evaluation", redone=True),
    Free("data.workers", "every image's draws are keyed by its index, not by the worker"),
    Free("data.eval_batch_size", "validation only; its sums may differ in the last bits"),
    Free("data.dataset.root", "the same images in another place"),
    Free("data.dataset.file", "the same table in another place"),
    Free("data.on_bad_image", "images that cannot be read; those learnt from must be the same"),
    Free("callbacks.**", "behaviour; those that stay keep their state, and more patience continues a run", redone=True),
    Free("report.**", "only the page", redone=True),
    Free("answers.**", "how sure an answer must be, and by which temperature it is told", redone=True),
    Free("description", "only words", redone=True),
    Free("expect.**", "only the verdict", redone=True),
)

# Everything else was said to the training, which is over; network, classes and statistics lie in the checkpoint.
READ_BY_EVALUATE = (
    Free("data.dataset.**", "other images, or the same in another place"),
    Free("data.fixes", "labels decided anew of the pictures that are measured"),
    Free("data.eval.**", "what happens to an image before it is measured"),
    Free("data.preprocess.**", "how pixels become the network's numbers"),
    Free("data.augment_backend", "what computes the transforms"),
    Free("data.eval_batch_size", "memory and speed"),
    Free("data.workers", "speed"),
    Free("data.on_bad_image", "images that cannot be read"),
    Free("model.**", "what the network answers; refused where it changes nothing, as dropout does not"),
    Free("loss.**", "the loss that is measured"),
    Free("plugins.**", "where components of your own lie"),
    Free("train.metrics.**", "what else is measured"),
    Free("train.tta", "test-time augmentation"),
    Free("answers.**", "how sure an answer must be, and by which temperature it is told"),
    Free("train.device", "where it is computed"),
    Free("train.precision", "in which number format"),
    Free("train.compile", "speed"),
    Free("train.deterministic", "whether every bit repeats"),
)


def free(key: str, table: Sequence[Free]) -> Free | None:
    """Return what a table says of a key; None where it does not have it."""
    return next((one for one in table if one.fits(key)), None)


def patterns(table: Sequence[Free]) -> str:
    """Return a table's keys in one line."""
    return ", ".join(one.pattern for one in table)
