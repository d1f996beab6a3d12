"""Optimizers a recipe may name: all of torch.optim under torch's own names, and ours.

Owns the list and its exceptions. Knows nothing of how arguments are checked or steps are taken.
"""

from __future__ import annotations

from registry.catalogue.adoption import Change, Registry

RATE = {"kind": "number", "above": 0}
SHARE = {"kind": "number", "min": 0, "below": 1}  # 1 would keep the past for ever
DECAY = {"kind": "number", "min": 0}
_BETAS = {"kind": "tuple", "of": [SHARE, SHARE]}


def _usual(lr: tuple[float, float], weight_decay: float, **more: object) -> Change:
    """Return the numbers that are met in practice, with a decade to spare; what lies outside is doubted."""
    return Change(facts={"usual": {"lr": list(lr), "weight_decay": [0, weight_decay]}, **more})


_BY_GRADIENT, _ADAPTIVE, _RELATIVE = _usual((1e-6, 10), 0.1), _usual((1e-7, 0.1), 0.1), _usual((1e-7, 1), 1)
_FOR_MATRICES = _usual((1e-7, 1), 1, instead="MuonConv does for a whole network what Muon does for matrices")

OPTIMIZERS = Registry("optimizer")
OPTIMIZERS.adopt(
    "torch.optim",
    base="torch.optim:Optimizer",
    package="torch",
    changes={
        "LBFGS": Change(
            refused="it evaluates the loss several times per step, which needs a closure that batches with dropout and "
            "augmentation do not have; take SGD or AdamW"
        ),
        "ASGD": Change(
            engine={"t0": "its average of the weights stays within it, and nobody measures that; train.ema averages"}
        ).over(_BY_GRADIENT),
        **dict.fromkeys(("SGD", "Adagrad", "Adadelta"), _BY_GRADIENT),
        **dict.fromkeys(("Adam", "Adamax", "NAdam", "RAdam"), _ADAPTIVE),
        "RMSprop": Change(types={"alpha": SHARE}).over(_ADAPTIVE),
        "AdamW": _usual((1e-7, 0.1), 1),  # its decay does not pass through the gradient
        **dict.fromkeys(("Adafactor", "Rprop"), _RELATIVE),
        "Muon": _FOR_MATRICES,
        "SparseAdam": Change(
            refused="it takes sparse gradients only, and the layers of image classifiers have dense ones; take Adam"
        ),
    },
    every=Change(
        types={
            "lr": RATE,
            "momentum": SHARE,
            "dampening": {"kind": "number", "min": 0, "max": 1},
            "rho": SHARE,
            "betas": _BETAS,
            "weight_decay": DECAY,
        },
        engine={
            "differentiable": "nothing differentiates through a step",
            "capturable": "the engine captures no CUDA graphs",
            "maximize": "a loss is minimised",
        },
    ),
)
OPTIMIZERS.adopt_own("registry.optimizers", base="torch.optim:Optimizer")
