"""Losses a recipe may name: those of torch that take logits and class indices.

A table, because torch.nn has no rule that tells them from the others. Knows nothing of training.
"""

from __future__ import annotations

from registry.adoption import Change, Registry

_WEIGHT = {
    "kind": "union",
    "of": [{"kind": "tensor", "min": 0}, {"kind": "one_of", "values": ["balanced"]}, {"kind": "null"}],
}
_SHARE = {"kind": "number", "min": 0, "max": 1}

LOSSES = Registry("loss")
LOSSES.adopt_table(
    {name: f"torch.nn:{name}" for name in ("CrossEntropyLoss", "MultiMarginLoss")},
    package="torch",
    changes={
        "CrossEntropyLoss": Change(types={"label_smoothing": _SHARE}),
        "MultiMarginLoss": Change(
            types={"p": {"kind": "one_of", "values": [1, 2]}, "margin": {"kind": "number"}},
            renamed={"label_smoothing": "CrossEntropyLoss, which has it"},
        ),
    },
    every=Change(
        types={"weight": _WEIGHT},
        engine={
            "reduction": "the engine needs the mean over the samples",
            "size_average": "the engine needs the mean over the samples",
            "reduce": "the engine needs the mean over the samples",
        },
        facts={"computed": {"weight": "balanced"}},
        docs={"weight": "one factor per class, in the classes' order; `balanced` takes them from the class counts."},
    ),
)
