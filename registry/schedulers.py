"""Schedulers a recipe may name: all of torch.optim.lr_scheduler under torch's own names.

Owns the list and its exceptions. When a scheduler steps is the engine's matter.
"""

from __future__ import annotations

from registry.catalogue.adoption import Change, Registry

_NOT_BELOW_0 = {"kind": "number", "min": 0}  # a rate below 0 climbs
_ABOVE_0 = {"kind": "number", "above": 0}
_COUNT, _SOME = {"kind": "integer", "min": 0}, {"kind": "integer", "min": 1}
_SHARE = {"kind": "number", "min": 0, "below": 1}  # 1 would keep the past for ever
_MOMENTUM = {"kind": "union", "of": [_SHARE, {"kind": "list", "of": _SHARE}]}

SCHEDULERS = Registry("scheduler")
SCHEDULERS.adopt(
    "torch.optim.lr_scheduler",
    base="torch.optim.lr_scheduler:LRScheduler",
    package="torch",
    changes={
        "LambdaLR": Change(refused="it takes a function, which a recipe cannot write; take StepLR or LinearLR"),
        "MultiplicativeLR": Change(refused="it takes a function, which a recipe cannot write; take ExponentialLR"),
        "CyclicLR": Change(engine={"scale_mode": "only a function reads it, scale_fn, which a recipe cannot write"}),
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
    every=Change(
        types={
            **dict.fromkeys(("gamma", "eta_min"), _NOT_BELOW_0),
            **dict.fromkeys(("div_factor", "final_div_factor"), _ABOVE_0),
            **dict.fromkeys(("max_momentum", "base_momentum"), _MOMENTUM),
            **dict.fromkeys(("patience", "cooldown"), _COUNT),
            **dict.fromkeys(("step_size", "step_size_up", "T_0", "T_mult", "total_iters"), _SOME),
            "milestones": {"kind": "list", "of": _SOME},
        },
        renamed={"verbose": "the log, which has the learning rate in every line"},
    ),
)
