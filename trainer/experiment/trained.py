"""What a run was trained with, read once from its checkpoint: the only source for whoever uses the network later.

`predict`, `evaluate`, `explain` and `resume` take the class names, statistics, sizes and weights from here and measure
none of them again. Knows checkpoints and recipes. Matching other data to it is measuring.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from registry.catalogue.catalog import Catalogue, catalogue
from registry.errors import CheckpointError, RecipeError
from registry.models.pretrained import architecture_only
from trainer.data.fingerprint import fingerprint, learnt
from trainer.data.splits import LoadedData
from trainer.engine import checkpoint
from trainer.engine.modules import load_network
from trainer.engine.weights import as_evaluated
from trainer.experiment.assembly import Assembly
from trainer.experiment.evaluation_keys import is_unread, refuse_idle
from trainer.recipe.afterwards import RESOLVED
from trainer.recipe.fast import was_fast
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import render
from trainer.recipe.recipe import Recipe, Reference, Spec

_LEARNT_UNDER = (("model",), ("data", "eval"), ("data", "preprocess"))  # what weights mean nothing without


@dataclass(frozen=True)
class Trained(Assembly):
    """A run's network and what it was trained with.

    Attributes:
        file: the checkpoint.
        recipe: what it was trained by.
        catalogue: what the recipe's names mean.
        weights: state dict of the model.
        buffers: what the model holds beside it, by dotted name.
        loss: what the loss has learnt beside the network, by dotted name; empty for nearly every loss.
        loss_buffers: its buffers that training has moved, by dotted name; empty for nearly every loss.
        class_names: one per class index.
        class_counts: training images per class; None where the checkpoint does not tell.
        input_shape: (channels, height, width) of the model's input.
        channels: of the images before the recipe's transforms: 3 for RGB, 1 for grey.
        stored_size: (height, width) of the images before the recipe's transforms; None where they vary.
        facts: run-time values that the training asked for, by name: "data.mean" -> [0.49, ...].
        prints: of the parts (trainer/data/fingerprint.py); empty where the checkpoint does not tell.
        learnt: digests of the training images, int64 (n,) ascending; None where nobody has looked at them.
        epoch: after which the weights were taken; None in the middle of one.
    """

    file: Path
    recipe: Recipe
    catalogue: Catalogue
    weights: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    loss: Mapping[str, Tensor]
    loss_buffers: Mapping[str, Tensor]
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...] | None
    input_shape: tuple[int, int, int]
    channels: int
    stored_size: tuple[int, int] | None
    facts: Mapping[str, Any]
    prints: Mapping[str, object]
    learnt: Tensor | None
    epoch: float | None = None

    @classmethod
    def read(cls, folder: Path, overrides: Sequence[str] = ()) -> Trained:
        """Read a run's best weights, or its last where it has no best yet, and what belongs to them.

        Args:
            folder: of the run; exists.
            overrides: of the recipe, `key=value`, for what is measured and how.

        Raises:
            CheckpointError: there is no whole checkpoint, or the recipe beside it says another network.
            RecipeError: its recipe no longer fits this version, or an override would change nothing.
        """
        files = [path for name in ("best.pt", "last.pt") if (path := folder / "checkpoints" / name).exists()]
        if not files:
            raise CheckpointError(f"{folder}: this run has no checkpoint yet", "train it, or resume it")
        state = as_evaluated(checkpoint.read(files[0]))
        resolved = folder / RESOLVED
        loaded = load_recipe(resolved, overrides, unread=is_unread)
        if loaded.recipe is None:
            raise RecipeError(f"{folder}: its recipe cannot be used\n{render(loaded.problems)}")
        refuse_idle(overrides, resolved)
        _refuse_another_recipe(resolved, state)
        trained = cls.of(files[0], replace(loaded.recipe, fast=was_fast(resolved)), state)
        trained._refuse_idle_models(overrides, resolved, state)
        return trained

    @classmethod
    def of(cls, file: Path, recipe: Recipe, state: Mapping[str, Any]) -> Trained:
        """Return what a checkpoint tells.

        Args:
            file: the checkpoint.
            recipe: of the run.
            state: what the checkpoint holds.
        """
        counts, size, learnt = state.get("class_counts"), state["stored_size"], state.get("learnt")
        channels, height, width = state["input_shape"]
        return cls(
            file=file,
            recipe=recipe,
            catalogue=catalogue(recipe.plugins),
            weights=state["model"],
            buffers=state.get("buffers", {}),
            loss=state["loss"] if "loss" in state else state.get("modules", {}).get("loss", {}).get("state", {}),
            loss_buffers=state.get("loss_buffers", {}),
            class_names=tuple(state["class_names"]),
            class_counts=None if counts is None else tuple(counts),
            input_shape=(channels, height, width),
            channels=state.get("channels", channels),
            stored_size=None if size is None else (size[0], size[1]),
            facts=state["facts"],
            prints={name: each for name, each in state.get("data", {}).items() if isinstance(each, Mapping)},
            learnt=learnt,
            epoch=_epoch_of(state),
        )

    @property
    def which(self) -> str:
        """Which weights they are, as summary.json calls them: "best" or "final"."""
        return "best" if self.file.name == "best.pt" else "final"

    @property
    def tells_files(self) -> bool:
        """Whether `learnt` holds digests of files: not all training images had been decoded when training began."""
        train = self.prints.get("train")
        return isinstance(train, Mapping) and "pixels" not in train and "contents" in train

    def fact(self, name: str) -> Any:
        """Return the run-time value that `$name` stood for in training.

        Raises:
            CheckpointError: the training had no use for it.
        """
        if name not in self.facts:
            raise CheckpointError(
                f"{self.file}: ${name} was not kept with the checkpoint, because the recipe had no use for it",
                "write the value instead",
            )
        return self.facts[name]

    def count_classes(self) -> int:
        """Return how many classes the network tells apart."""
        return len(self.class_names)

    def bind(self, reference: Reference) -> object:
        """Return what a run-time reference stood for in training."""
        return self.fact(reference.path)

    def model(self) -> nn.Module:
        """Return the network with its weights, on the CPU; nothing is downloaded and no other file is read.

        Raises:
            CheckpointError: the weights do not fit the recipe's model.
        """
        with architecture_only():
            model: nn.Module = self.new_model(self.input_shape)
        self.load_into(model)
        return model

    def _refuse_idle_models(self, overrides: Sequence[str], resolved: Path, state: Mapping[str, Any]) -> None:
        """Refuse overrides of the model with which the network answers as it does without them.

        What only training does, such as dropout, is not there any more; of two networks that take the same weights, one
        image tells whether they are the same.

        Raises:
            RecipeError: naming those keys.
            CheckpointError: the weights do not fit the recipe's model.
        """
        keys = {each: each.partition("=")[0] for each in overrides}
        of_model = [each for each in overrides if keys[each].partition(".")[0] == "model"]
        if not of_model:
            return
        self.model()  # one that the weights do not fit is told before one that changes nothing
        answer = self._answer_of((), resolved, state)
        idle = [keys[each] for each in of_model if torch.equal(answer, self._answer_of([each], resolved, state))]
        if idle:
            raise RecipeError(
                f"{', '.join(idle)} would change nothing: the network that was trained answers the same with it",
                "leave it out: dropout and the like act in training alone, and the weights come from the checkpoint",
            )

    def _answer_of(self, overrides: Sequence[str], resolved: Path, state: Mapping[str, Any]) -> Tensor:
        """Return the logits for one image of noise, (1, C), of the network that the recipe says with `overrides`."""
        recipe = load_recipe(resolved, overrides, unread=is_unread).usable()
        image = torch.rand((1, *self.input_shape), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            answer: Tensor = Trained.of(self.file, recipe, state).model().eval()(image)
        return answer

    def load_into(self, model: nn.Module) -> None:
        """Give a model the weights.

        Raises:
            CheckpointError: they do not fit.
        """
        try:
            load_network(model, {"model": self.weights, "buffers": self.buffers})
        except RuntimeError as error:
            said = " ".join(str(error).split())
            raise CheckpointError(
                f"{self.file}: its weights do not fit model {self.recipe.model.type}: {said[:300]}",
                "resolved.yaml and the command line must say the model that was trained",
            ) from error


def to_keep(
    resolved: str,
    recipe: Recipe,
    data: LoadedData,
    *,
    class_counts: Sequence[int],
    input_shape: Sequence[int],
    facts: Mapping[str, Any],
    packages: Mapping[str, object],
) -> dict[str, Any]:
    """Return what every checkpoint of a run keeps for `Trained`, as plain values and tensors.

    Args:
        resolved: text of resolved.yaml.
        recipe: that it says.
        data: of the run.
        class_counts: training images per class.
        input_shape: (channels, height, width) of the model's input.
        facts: run-time values that something has asked for.
        packages: versions by name.
    """
    return {
        "recipe": resolved,
        "about": about(resolved, recipe, input_shape, facts),
        "class_names": list(data.class_names),
        "class_counts": list(class_counts),
        "channels": data.channels,
        "data": fingerprint(data),
        "learnt": learnt(data.train),
        "facts": dict(facts),
        "input_shape": list(input_shape),
        "stored_size": None if data.image_size is None else list(data.image_size),
        "versions": {key: str(value) for key, value in packages.items()},
    }


def about(resolved: str, recipe: Recipe, input_shape: Sequence[int], facts: Mapping[str, Any]) -> dict[str, str]:
    """Return what best.safetensors says of its network beside the classes: texts, most of them JSON.

    Args:
        resolved: text of resolved.yaml.
        recipe: that it says.
        input_shape: (channels, height, width) of the model's input.
        facts: run-time values by name.
    """
    section, shape = recipe.data, dict(zip(("channels", "height", "width"), input_shape, strict=True))
    plain = {"model": recipe.model, "eval": section.eval, "preprocess": section.preprocess, "input": shape}
    texts = {name: json.dumps(_plain(value, facts)) for name, value in plain.items()}
    normalisation = _normalisation(recipe, input_shape[0], facts)
    if normalisation is not None:
        texts["normalisation"] = json.dumps(normalisation)
    meant = json.dumps(yaml.safe_load(resolved), sort_keys=True, default=str)  # comments mean nothing
    return {**texts, "recipe": recipe.name, "recipe_sha256": hashlib.sha256(meant.encode()).hexdigest()}


def _normalisation(recipe: Recipe, channels: int, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return by which numbers pixels are normalised, (pixel / max_pixel_value - mean) / std; None where otherwise."""
    steps = recipe.data.preprocess
    if not steps:
        return {"mean": [0.0] * channels, "std": [1.0] * channels, "max_pixel_value": 255.0}
    entry = catalogue(recipe.plugins).entry("transform", steps[0].type)
    defaults = {parameter.name: parameter.default for parameter in entry.parameters}
    taken = {**defaults, **_plain(steps[0].arguments, facts)}
    if len(steps) > 1 or steps[0].type != "Normalize" or taken["normalization"] != "standard":
        return None
    return {name: taken[name] for name in ("mean", "std", "max_pixel_value")}


def _plain(value: Any, facts: Mapping[str, Any]) -> Any:
    """Return a value of a recipe as JSON has it, run-time values in the place of what refers to them."""
    if isinstance(value, Spec):
        return {"type": value.type, **_plain(value.arguments, facts)}
    if isinstance(value, Reference):
        return facts.get(value.path, f"${value.path}")
    if isinstance(value, Mapping):
        return {name: _plain(item, facts) for name, item in value.items()}
    return [_plain(item, facts) for item in value] if isinstance(value, (list, tuple)) else value


def callbacks_changed(state: Mapping[str, Any], resolved: str) -> bool:
    """Whether a resolved recipe has other callbacks than a checkpoint was made with."""
    before, now = (yaml.safe_load(text).get("callbacks") for text in (state["recipe"], resolved))
    return bool(before != now)


def _epoch_of(state: Mapping[str, Any]) -> float | None:
    """Return the epoch after which a checkpoint was written; None in the middle of one."""
    row, progress = state.get("row") or {}, state.get("progress") or {}
    found: float | None = row.get("epoch", None if progress.get("batch") else progress.get("epoch"))
    return found


def _refuse_another_recipe(resolved: Path, state: Mapping[str, Any]) -> None:
    """Refuse a resolved.yaml that was changed since the checkpoint where the weights mean nothing without it."""
    before, now = yaml.safe_load(state["recipe"]), yaml.safe_load(resolved.read_text(encoding="utf-8"))
    for path in _LEARNT_UNDER:
        if _at(before, path) != _at(now, path):
            raise CheckpointError(
                f"{resolved}: {'.'.join(path)} is not what the network was trained with",
                "bring resolved.yaml back as it was, or give another value as an override",
            )


def _at(recipe: Any, path: Sequence[str]) -> object:
    for key in path:
        recipe = recipe.get(key) if isinstance(recipe, Mapping) else None
    return recipe
