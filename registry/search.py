"""What a sweep may name: Optuna's distributions, samplers and pruners under Optuna's own names.

Owns the lists and their exceptions. Optuna is an extra: where it is not installed the lists are empty, and a sweep says
what to install before it looks at anything else.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass

from registry.catalogue.adoption import Change, Found, Namespace, Registry, Rule, Table
from registry.errors import RecipeError

PACKAGE = "optuna"
NEEDS = 'install it: pip install "recipe-trainer[search]"'
_CHOICES = {"kind": "list", "of": {"kind": "any"}}
_CODE = "it runs functions, which a sweep cannot write"


def is_installed() -> bool:
    """Whether Optuna can be imported."""
    return importlib.util.find_spec(PACKAGE) is not None


def require_optuna() -> None:
    """Refuse to go on without Optuna.

    Raises:
        RecipeError: it is not installed.
    """
    if not is_installed():
        raise RecipeError(f"a sweep needs the package {PACKAGE}", NEEDS)


@dataclass(frozen=True)
class Extra:
    """Adopt what another rule finds where Optuna is installed, and nothing where it is not."""

    rule: Rule

    def find(self) -> Iterator[Found]:
        """Import Optuna and yield the components."""
        if is_installed():
            yield from self.rule.find()


DISTRIBUTIONS = Registry("distribution")
DISTRIBUTIONS.rules.append(
    Extra(
        Table(
            {
                name: f"optuna.distributions:{name}"
                for name in ("FloatDistribution", "IntDistribution", "CategoricalDistribution")
            },
            package=PACKAGE,
            changes={
                "CategoricalDistribution": Change(
                    types={"choices": _CHOICES},
                    docs={"choices": "values of the recipe, each of which is tried: numbers, names, whole components"},
                )
            },
        )
    )
)

SAMPLERS = Registry("sampler")
SAMPLERS.rules.append(
    Extra(
        Namespace(
            "optuna.samplers",
            base="optuna.samplers:BaseSampler",
            package=PACKAGE,
            exclude=("BaseGASampler",),
            changes={
                "GridSampler": Change(supplied={"search_space": "every choice of `search`"}),
                "PartialFixedSampler": Change(refused="values that stay fixed belong to `set`"),
                "GPSampler": Change(facts={"needs": "scipy and torch"}),
            },
        )
    )
)

PRUNERS = Registry("pruner")
PRUNERS.rules.append(
    Extra(
        Namespace(
            "optuna.pruners",
            base="optuna.pruners:BasePruner",
            package=PACKAGE,
            changes={"HyperbandPruner": Change(supplied={"max_resource": "train.epochs of the recipe"})},
        )
    )
)
