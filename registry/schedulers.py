"""Schedulers a recipe may name: all of torch.optim.lr_scheduler under torch's own names.

Owns the list and its exceptions. When a scheduler steps is the engine's matter.
"""

from __future__ import annotations

from registry.catalogue.adoption import Change, Registry

SCHEDULERS = Registry("scheduler")
SCHEDULERS.adopt(
    "torch.optim.lr_scheduler",
    base="torch.optim.lr_scheduler:LRScheduler",
    package="torch",
    changes={
        "LambdaLR": Change(refused="it takes a function, which a recipe cannot write; take StepLR or LinearLR"),
        "MultiplicativeLR": Change(refused="it takes a function, which a recipe cannot write; take ExponentialLR"),
        "OneCycleLR": Change(facts={"alternatives": [["total_steps"], ["epochs", "steps_per_epoch"]]}),
        "SequentialLR": Change(
            facts={
                "phases": {
                    "of": "schedulers",
                    "ends": "milestones",
                    "lengths": ["T_max", "total_steps", "total_iters"],
                }
            }
        ),
        # Upstream's 5 would leave a rate of 0 from the sixth epoch on; LinearLR's and ConstantLR's 5 are a warm-up.
        "PolynomialLR": Change(supplied={"total_iters": "the run's length in the unit of step.each"}),
    },
    every=Change(renamed={"verbose": "the log, which has the learning rate in every line"}),
)
