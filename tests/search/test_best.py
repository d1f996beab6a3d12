"""best.yaml: read again it is the trial's own recipe, also where a trial has taken something away."""

from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="optuna is an extra: pip install 'recipe-trainer[search]'")

from trainer.recipe.load import load_recipe
from trainer.recipe.resolve import flat
from trainer.search.best import best_yaml
from trainer.search.reading import load_sweep
from trainer.search.trial import recipe_of

BASE = """\
version: 1
name: base
x-net: {type: SmallCNN, width: 4, dropout: 0.5}
x-lr: 0.1
data:
  dataset: Shapes
  val: {fraction: 0.1}
  augment:
    - {type: HorizontalFlip, p: 0.5}
    - {type: OneOf, p: 0.5, transforms: [{type: GaussianBlur, sigma_limit: [0.5, 1]}, GaussNoise]}
model: $x-net
optimizer: {type: SGD, lr: $x-lr, momentum: 0.9, weight_decay: 5e-4, groups: [{match: ["@bias"], weight_decay: 0}]}
scheduler: {type: CosineAnnealingLR, warmup: {epochs: 1}}
loss: {type: CrossEntropyLoss, weight: balanced}
train: {epochs: 3, ema: {decay: 0.9}}
"""


def of(*choices: str) -> str:
    return f"{{type: CategoricalDistribution, choices: [{', '.join(choices)}]}}"


@pytest.mark.parametrize(
    ("path", "distribution", "sets"),
    [
        ("x-lr", "{type: FloatDistribution, low: 1e-4, high: 1e-3}", ""),
        ("x-net.width", "{type: IntDistribution, low: 4, high: 8}", ""),
        ("model", of("{type: SmallCNN, width: 8}", "{type: SmallCNN}"), ""),
        ("model", of("{type: SmallCNN, width: 8}", "cifar_resnet18"), ""),
        ("loss.weight", of("balanced", "null"), ""),
        ("optimizer", of("{type: SGD, lr: 0.1}", "{type: Adam, lr: 1e-3}"), ""),
        ("optimizer.momentum", of("0.9", "null"), ""),
        ("optimizer.groups", of("[{match: ['@norm'], weight_decay: 0}]", "null"), ""),
        ("optimizer.groups.0.weight_decay", "{type: FloatDistribution, low: 0.0, high: 0.1}", ""),
        ("scheduler", of("{type: StepLR, step_size: 2}", "null"), ""),
        ("scheduler.warmup", of("{epochs: 1}", "null"), ""),
        ("data.val", of("{fraction: 0.1}", "{fraction: 0.2, seed: 3}"), ""),
        ("data.augment", of("[{type: VerticalFlip}]", "[]"), ""),
        ("data.augment.1.transforms.0.p", "{type: FloatDistribution, low: 0.1, high: 0.9}", ""),
        ("train.ema", of("{decay: 0.9}", "null"), ""),
        ("optimizer.lr", of("0.1", "1.0"), "{loss.weight: null, optimizer.weight_decay: null}"),
    ],
)
def test_the_best_recipe_read_again_is_the_trials_own(path, distribution, sets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(BASE)
    search = f"search:\n  {path}: {distribution}\n" + (f"set: {sets}\n" if sets else "")
    Path("sweep.yaml").write_text(
        f"version: 1\nsweep: mine\nrecipe: base.yaml\n{search}objective: {{metric: val/loss}}\ntrials: 1\n"
    )
    sweep = load_sweep("sweep.yaml", built=False).usable()
    for which in (0, -1):
        texts = [choice.ends[which] for choice in sweep.choices]
        Path("best").mkdir(exist_ok=True)
        Path("best/best.yaml").write_text(best_yaml(sweep, texts, "the best", Path("best")))
        found, wanted = flat(load_recipe("best/best.yaml").usable()), flat(recipe_of(sweep, texts, None))
        assert {**found, "name": ""} == {**wanted, "name": ""}
