"""Optimizers a recipe may name: all of torch.optim under torch's own names, and ours.

Owns the list and its exceptions. Knows nothing of how arguments are checked or steps are taken.
"""

from __future__ import annotations

from registry.adoption import Change, Registry

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
        "SparseAdam": Change(
            refused="it takes sparse gradients only, and the layers of image classifiers have dense ones; take Adam"
        ),
    },
    every=Change(
        engine={
            "differentiable": "nothing differentiates through a step",
            "capturable": "the engine captures no CUDA graphs",
        },
    ),
)
OPTIMIZERS.adopt_own("registry.muon", base="torch.optim:Optimizer")
