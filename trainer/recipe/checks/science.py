"""Warnings: what a recipe may say, but a scientist would ask about. Each has an id; none stops a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from registry.catalogue.plugins import provides
from trainer.recipe.checks import schedules
from trainer.recipe.checks.classes import COUNTED, counted_classes, told
from trainer.recipe.checks.draft import Draft, groups_of
from trainer.recipe.checks.lengths import LENGTH, total_steps, train_images
from trainer.recipe.problems import COMMAND_LINE, listed
from trainer.recipe.recipe import NAMED, Checkpoint, Train

_MOST_SHARES = {  # of a loss or model, beyond which little is left
    "label_smoothing": 0.5,
    **dict.fromkeys(("dropout", "drop_rate", "drop_path_rate", "attention_dropout", "stochastic_depth_prob"), 0.8),
}


def _selection_on_test(draft: Draft) -> None:
    if draft.recipe.data.val == "test":
        text = "the test split chooses the best epoch, so its accuracy is no estimate for new images"
        draft.report("W001", "data.val", text, "take {fraction: 0.1}; the test split then chooses nothing")


def _two_decays(draft: Draft) -> None:
    optimizer = draft.recipe.optimizer
    groups = [group.arguments.get("weight_decay") for group in groups_of(optimizer)]
    decays = [draft.argument(optimizer, "weight_decay"), *groups]
    decay = next((each for each in decays if isinstance(each, (int, float)) and each > 0), None)
    if decay is None:
        return
    for spec in draft.recipe.regularizers:
        if spec.type == "L2":
            own = "" if decay in (optimizer.arguments.get("weight_decay"), *groups) else ", its default,"
            text = f"L2 beside {optimizer.type}'s weight_decay {decay:g}{own} shrinks the weights twice"
            draft.report("W002", spec.path, text, "keep one of them")


def _steepest(draft: Draft) -> None:
    finder = draft.recipe.lr_finder
    if finder is not None and finder.pick == "steepest":
        text = "the steepest point of an LR sweep moves with smoothing and noise, and is often far too low or too high"
        draft.report("W006", "lr_finder.pick", text, "take minimum_over_10")


def _balanced_twice(draft: Draft) -> None:
    if draft.recipe.data.sampler == "balanced" and draft.recipe.loss.arguments.get("weight") == "balanced":
        text = "balanced class weights beside the balanced sampler correct for rare classes twice"
        draft.report("W008", "loss.weight", text, "keep one of them")


def _class_not_learnt(draft: Draft) -> None:
    weights = counted_classes(draft)
    unseen = [index for index, weight in weights.items() if weight == 0]
    if not unseen or (len(unseen) == len(weights) > 1):  # all of them is an error of its own
        return
    which = f"class {unseen[0]}" if len(unseen) == 1 else f"classes {listed(map(str, unseen))}"
    path = "loss.ignore_index" if draft.argument(draft.recipe.loss, "ignore_index") in unseen else "loss.weight"
    text = f"{path}: images of {which} count for nothing in the loss, so they are not learnt, but accuracy counts them"
    draft.report("W025", path, text, "leave the class out of the data, or give it a weight")


def _best_on_training(draft: Draft) -> None:
    metric = draft.recipe.train.best.metric
    if metric.startswith("train/"):
        text = f"the best epoch is chosen by '{metric}', which says nothing about new images"
        draft.report("W009", "train.best.metric", text, "take a metric of val")


def _name_of_a_base(draft: Draft) -> None:
    if draft.written("name") and draft.place("name").file not in (draft.recipe.file, COMMAND_LINE):
        text = f"the name '{draft.recipe.name}' is inherited, so the runs of two recipes lie in one folder"
        draft.report("W014", "name", text, f"give {draft.recipe.file} a name of its own")


def _bands_of_a_base(draft: Draft) -> None:
    for expected in draft.recipe.expect:
        if expected.origin.file == COMMAND_LINE:
            text = f"expect: '{expected.text}' is set on the command line, and so is shown and not judged"
            hint = "write it into a recipe; `verify RUN 'expect={...}'` judges a run that has ended"
            draft.problems.report("W015", expected.origin, text, hint=hint, path="expect")
        elif expected.origin.file != draft.recipe.file:
            text = f"expect: '{expected.text}' is inherited, but was measured for another recipe"
            hint = f"set a band for {draft.recipe.file}, or null"
            draft.problems.report("W015", expected.origin, text, hint=hint, path="expect")


def _unusual_numbers(draft: Draft) -> None:
    """Warn of learning rates, weight decays and strengths that a component is not used with: mostly a slip of units."""
    usual = draft.entry(draft.recipe.optimizer).facts.get("usual", {})
    for spec in draft.specs:
        for name, limits in draft.entry(spec).facts.get("usual", {}).items():
            _unusual(draft, f"{spec.path}.{name}", spec.arguments.get(name), limits, spec.type)
    for index, group in enumerate(groups_of(draft.recipe.optimizer)):
        for name, limits in usual.items():
            at = f"optimizer.groups.{index}.{name}"
            _unusual(draft, at, group.arguments.get(name), limits, draft.recipe.optimizer.type)
    if "lr" in usual:
        _unusual_lr_elsewhere(draft, usual["lr"])


def _unusual_lr_elsewhere(draft: Draft, limits: Sequence[float]) -> None:
    for spec in draft.specs:
        if spec.slot == "scheduler":
            _unusual(draft, f"{spec.path}.max_lr", spec.arguments.get("max_lr"), limits, draft.recipe.optimizer.type)
    finder = draft.recipe.lr_finder
    if finder is not None and (finder.start > limits[1] or finder.end < limits[0]):
        text = (
            f"lr_finder looks from {finder.start:g} to {finder.end:g}, where {draft.recipe.optimizer.type} is not used"
        )
        draft.report("W040", "lr_finder", text, f"{limits[0]:g} to {limits[1]:g}")


def _unusual(draft: Draft, path: str, value: object, limits: Sequence[float], name: str) -> None:
    numbers = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, (int, float))]
    if numbers and not limits[0] <= min(numbers) <= max(numbers) <= limits[1]:
        said = ", ".join(f"{number:g}" for number in numbers)
        text = f"{path}: {said} is far from what {name} is used with"
        draft.report("W040", path, text, f"{limits[0]:g} to {limits[1]:g}")


def _named_for_nothing(draft: Draft) -> None:
    """Warn of `as` where nothing is told apart by name."""
    told_apart = {spec.path for path in NAMED for spec in draft.those(path)}
    for spec in draft.specs:
        if spec.renamed and spec.path not in told_apart:
            text = f"'as' names this {spec.slot} '{spec.name}', which nothing reads"
            draft.report(
                "W016", f"{spec.path}.as", text, f"leave it out: it tells apart what stands in {listed(NAMED)}"
            )


def _swapped_betas(draft: Draft) -> None:
    betas = draft.recipe.optimizer.arguments.get("betas")
    if not isinstance(betas, (list, tuple)) or not all(isinstance(each, (int, float)) for each in betas):
        return
    if len(betas) == 2 and betas[0] > betas[1]:
        text = f"optimizer.betas: the gradient is averaged longer ({betas[0]:g}) than its square ({betas[1]:g})"
        draft.report("W040", "optimizer.betas", text, f"the other way round? [{betas[1]:g}, {betas[0]:g}]")


def _little_left(draft: Draft) -> None:
    """Warn of smoothing and dropout that leave little to learn from."""
    for spec in draft.specs:
        for name, most in _MOST_SHARES.items():
            value = spec.arguments.get(name) if spec.slot in ("model", "loss") else None
            if isinstance(value, (int, float)) and value > most:
                text = f"{spec.slot} {spec.type}.{name}: {value:g} leaves little to learn from"
                draft.report("W041", f"{spec.path}.{name}", text, f"up to {most:g} is common")


def _every_hue(draft: Draft) -> None:
    """Warn of a ColorJitter whose hue is left to Albumentations' default, which is all there is."""
    for spec in draft.specs:
        if spec.slot == "transform" and spec.type == "ColorJitter" and "hue" not in spec.arguments:
            text = "ColorJitter without 'hue' turns every colour into any other: its default is the whole circle"
            draft.report("W080", spec.path, text, "hue: [-0.02, 0.02] leaves a red apple red; hue: 0 leaves hues alone")


def _accumulates_beyond_an_epoch(draft: Draft) -> None:
    images, data, accumulate = train_images(draft), draft.recipe.data, draft.recipe.train.accumulate
    if images is None or accumulate == 1:
        return
    batches = images // data.batch_size if data.drop_last else -(-images // data.batch_size)
    if accumulate > batches:
        text = f"train.accumulate: an epoch has no {accumulate:,} batches, so a step takes all there are"
        draft.report("W042", "train.accumulate", text, f"there are {batches:,}")


def _waits_beyond_the_run(draft: Draft) -> None:
    """Warn of counts that are never reached, so that what they wait for never comes."""
    train, steps = draft.recipe.train, total_steps(draft)
    counts: list[tuple[str, int | None, int | None, str]] = [
        ("train.checkpoint.every", train.checkpoint.every, train.epochs, "epoch"),
        ("train.checkpoint.steps", train.checkpoint.steps, steps, "step"),
        ("train.log_every", train.log_every, steps, "step"),
    ]
    usual = {"train.log_every": Train.log_every, "train.checkpoint.every": Checkpoint.every}
    # A default stands written in every resolved.yaml, which resume and report read: nobody has asked for it.
    counts = [one for one in counts if draft.written(one[0]) and one[1] != usual.get(one[0])]
    for spec in draft.those("callbacks"):
        for unit, name in draft.entry(spec).facts.get("waits", {}).items():
            length = {"epochs": train.epochs - 1, "steps": steps}[unit]  # the first epoch is waited for by nobody
            counts.append((f"{spec.path}.{name}", draft.argument(spec, name), length, unit.removesuffix("s")))
    _accumulates_beyond_an_epoch(draft)
    for path, count, length, unit in counts:
        if isinstance(count, int) and length is not None and count > length:
            default = "" if draft.written(path) else ", the default,"
            text = f"{path}: {count:,} {unit}s{default} do not fit into the run, so it never comes to that"
            draft.report("W042", path, text, f"the run takes {train.epochs if unit == 'epoch' else steps:,} {unit}s")


def _empty_plugins(draft: Draft) -> None:
    """Warn of a plug-in that nothing can be named from."""
    for index, plugin in enumerate(draft.recipe.plugins):
        named = any(provides(plugin, spec.type.partition(":")[0]) for spec in draft.specs if ":" in spec.type)
        if not named and draft.catalogue.marked_by.get(plugin) == 0:
            text = f"the plug-in {plugin} marks no component, and none is named from it"
            hint = "write @component(slot) above a class or function, or name it as module:Object"
            draft.report("W044", f"plugins.{index}", text, hint)


def _never_unsure(draft: Draft) -> None:
    below, known = draft.recipe.answers.abstain_below, told(draft)
    if below is not None and known is not None and below * known.number <= 1:
        least = f"the likeliest of them never has less than {1 / known.number:.3g}"
        text = f"answers.abstain_below {below:g} makes no answer 'not sure': {known.said}, and {least}"
        draft.report("W110", "answers.abstain_below", text, "take a larger one, such as 0.8")


WARNINGS: tuple[tuple[Callable[[Draft], None], tuple[str, ...]], ...] = (
    (_selection_on_test, ("data.val",)),
    (_two_decays, ("optimizer.type", "optimizer.weight_decay", "regularizers")),
    (_steepest, ("lr_finder",)),
    (_balanced_twice, ("data.sampler", "loss")),
    (_class_not_learnt, COUNTED),
    (_best_on_training, ("train.best",)),
    (_unusual_numbers, ("optimizer", "scheduler", "regularizers", "lr_finder")),
    (_named_for_nothing, ("data", "model", "loss", "optimizer", "scheduler", "train")),
    (_swapped_betas, ("optimizer",)),
    (_little_left, ("model", "loss")),
    (_every_hue, ("data",)),
    (_waits_beyond_the_run, ("train.checkpoint", "train.log_every", "callbacks", *LENGTH)),
    (_empty_plugins, ("plugins",)),
    (_name_of_a_base, ("name",)),
    (_bands_of_a_base, ("expect",)),
    (_never_unsure, ("answers", *COUNTED)),
    *schedules.WARNINGS,
)
