"""Consistency: the errors that only show when more than one value of a recipe is looked at.

Each rule says which paths it looks at and is silent where one of them was already reported. What is allowed but
probably a mistake stands in science.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

from registry.catalogue.catalog import Catalogue
from registry.catalogue.suggest import nearest
from registry.patterns import matches
from trainer.recipe.checks import data, schedules, transforms
from trainer.recipe.checks.classes import COUNTED, counted_classes, counts, told
from trainer.recipe.checks.draft import LOSS, Draft
from trainer.recipe.checks.expect import not_judged_because
from trainer.recipe.checks.lengths import LENGTH, run_length, total_steps
from trainer.recipe.checks.schedules import PLATEAU
from trainer.recipe.checks.science import WARNINGS
from trainer.recipe.patterns import KINDS
from trainer.recipe.problems import Collector, did_you_mean, listed
from trainer.recipe.reading.references import LR_FOUND, needs_what_comes_later
from trainer.recipe.recipe import CROSS_ENTROPY, NAMED, Expectation, Recipe, Spec

SHARES = ("accuracy", "top_k_accuracy")  # keys of metrics that count images
MOST_PATTERNS = 1_000  # in one list; each is held against every parameter's name
_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]+)?")
BOOKKEEPING = ("epoch", "lr", "seconds")  # in the rows of epochs beside what is measured
TARGETS = ("predicted", "true")  # of a GradCAM, beside the names of classes

Rule = tuple[Callable[[Draft], None], tuple[str, ...]]


def check_together(recipe: Recipe, catalogue: Catalogue, problems: Collector) -> None:
    """Report contradictions and dead values of a recipe, then warnings.

    Args:
        recipe: looked at value by value; what was found wrong is `INVALID`.
        catalogue: what it names.
        problems: holds what was reported so far, takes the rest.
    """
    draft = Draft(recipe, catalogue, problems)
    for check, needs in (*data.RULES, *RULES, *transforms.RULES, *WARNINGS):
        if draft.sound(*needs):
            check(draft)


# -------------------------------------------------------------------------------------------------------- runs, names
_RANGES: Mapping[str, tuple[float, float]] = {"lr": (0.0, math.inf), "seconds": (0.0, math.inf)}  # of every run


def _one_seed(draft: Draft) -> None:
    seeds = draft.recipe.seeds
    if seeds is None:
        return
    if draft.written("seed"):
        seed, other = draft.place("seed"), draft.place("seeds")
        text = "'seeds' beside 'seed': a run has one of them"
        hint = "leave 'seed' out" if seed.file == other.file else f"'seed' is set in {seed}: set one of both to null"
        draft.report("R015", "seeds", text, hint)
    if not seeds or len(set(seeds)) < len(seeds):
        text = "'seeds' is empty" if not seeds else "'seeds' names a seed twice"
        draft.report("R015", "seeds", text, "as in seeds: [1, 2, 3]")


def _unique_names(draft: Draft) -> None:
    for path in NAMED:
        _unique(draft, draft.those(path))
    for spec in draft.those("train.metrics"):
        if spec.key == LOSS:
            draft.report("R025", spec.path, f"a metric cannot be called '{LOSS}': that is the loss's own key")
        elif spec.key == CROSS_ENTROPY and spec.type != "CrossEntropy":
            text = f"a metric cannot be called '{CROSS_ENTROPY}': that is the plain cross entropy's key"
            draft.report("R025", spec.path, text, "give it another name with 'as'")
        elif spec.key in SHARES and not _is_share_of_images(spec):
            text = f"{spec.type} cannot be called '{spec.key}': such a number is read as a share of the images"
            draft.report("R025", spec.path, text, "give it another name with 'as', as in balanced_accuracy")


def _is_share_of_images(spec: Spec) -> bool:
    """Whether a metric of this name is a share of images, which pages give an interval by their number."""
    return spec.type in ("Accuracy", "TopKAccuracy") or spec.arguments.get("average") == "micro"


def _unique(draft: Draft, specs: Sequence[Spec]) -> None:
    first: dict[str, Spec] = {}
    for spec in specs:
        earlier = first.setdefault(spec.key, spec)
        if earlier is not spec:
            text = f"two {spec.slot}s are called '{spec.name}' (the other in line {earlier.origin.line})"
            draft.report("R025", spec.path, text, "give one a name of its own with 'as'")


def _one_writes(draft: Draft) -> None:
    """Report callbacks and parts of the report that write the same files, or measure under the same key."""
    first: dict[tuple[str, object], Spec] = {}
    for spec in (*draft.those("callbacks"), *draft.those("report")):
        owned = draft.entry(spec).facts.get("owns")
        if owned is None:
            continue
        value = draft.argument(spec, owned) if owned else ""
        earlier = first.setdefault((spec.type, value), spec)
        if earlier is not spec:
            what = f"the {owned} '{value}'" if owned else "the same files"
            kind = "callbacks" if spec.slot == "callback" else "parts"
            text = f"two {spec.type} {kind} have {what} (the other in line {earlier.origin.line})"
            hint = f"give one a {owned} of its own" if owned else "leave one out"
            draft.report("R114", f"{spec.path}.{owned}" if owned in spec.arguments else spec.path, text, hint)


# --------------------------------------------------------------------------------------------------------- references
def _references_in_time(draft: Draft) -> None:
    for path, reference in draft.references():
        why = needs_what_comes_later(reference, path)
        if why:
            draft.report("R033", path, f"'${reference.path}' is not known yet where {path} is needed", why)


def _finder_exists(draft: Draft) -> None:
    if draft.recipe.lr_finder is not None:
        return
    for path, reference in draft.references():
        if reference.path == LR_FOUND and draft.sound(path):
            text = f"'${LR_FOUND}' needs an 'lr_finder' section"
            draft.report("R034", path, text, "add 'lr_finder: {}' for its defaults, or write a number")


def _finder_range(draft: Draft) -> None:
    finder = draft.recipe.lr_finder
    if finder is not None and finder.end <= finder.start:
        text = f"lr_finder.end must be greater than lr_finder.start, got {finder.end:g} and {finder.start:g}"
        draft.report("R054", "lr_finder.end" if draft.written("lr_finder.end") else "lr_finder.start", text)


# ------------------------------------------------------------------------------------------------------------ metrics
def _metric_named(draft: Draft, path: str, key: str, rule: str = "R050") -> bool:
    """Report a key that no epoch's row has; say whether it has."""
    if key in draft.directions or draft.may_measure(key):
        return True
    hint = did_you_mean(nearest(key, draft.directions), f"measured are {listed(draft.directions, 20)}")
    at = path if draft.written(path) else "train.metrics"
    text = f"{path}: no metric '{key}' is measured"
    draft.problems.report(rule, draft.place(at), text, hint=hint, path=path)
    return False


def _measures(draft: Draft, path: str, key: str) -> bool:
    """Report a number of an epoch that measures nothing, where it would choose; say whether it does."""
    if key not in BOOKKEEPING:
        return True
    text = f"{path}: '{key}' says nothing of how good an epoch is"
    draft.problems.report("R050", draft.place(path), text, hint="take a metric, as val/accuracy", path=path)
    return False


def _direction_fits(draft: Draft, path: str, key: str, mode: object) -> None:
    """Report `mode` at `path` where the metric `key` is better in the other direction."""
    wanted = draft.directions.get(key)
    if wanted is not None and mode in ("min", "max") and mode != wanted:
        better = {"min": "smaller", "max": "greater"}[wanted]
        written = "" if draft.written(path) else ", the default,"
        text = f"{path}: '{mode}'{written} does not fit '{key}', which is better when {better}"
        draft.report("R051", path, text, f"write mode: {wanted}")


def _best_metric(draft: Draft) -> None:
    best = draft.recipe.train.best
    if _measures(draft, "train.best.metric", best.metric) and _metric_named(draft, "train.best.metric", best.metric):
        _direction_fits(draft, "train.best.mode", best.metric, best.mode)


def _metrics_in_arguments(draft: Draft) -> None:
    """Check every argument that names a metric, and the `mode` beside it."""
    for spec in draft.specs:
        for parameter in draft.entry(spec).parameters:
            path = f"{spec.path}.{parameter.name}"
            if parameter.type.get("syntax") != "metric" or not draft.sound(path):
                continue
            key = draft.argument(spec, parameter.name)
            if isinstance(key, str) and _metric_named(draft, path, key):
                _direction_fits(draft, f"{spec.path}.mode", key, draft.argument(spec, "mode"))


def _expected_metrics(draft: Draft) -> None:
    epochs = draft.recipe.train.epochs
    for expected in draft.recipe.expect:
        key, words = expected.key, expected.when.split()
        known = draft.final_directions if words[0] in ("best", "final") else draft.directions
        shortened = bool(not_judged_because(draft.recipe))  # on purpose, by the command line
        if key.startswith("val/tta/") and key in known and draft.holds_out_test and not shortened:
            text = f"expect: '{key}' is not measured where a test split is held out, which is augmented in its place"
            hint = f"expect test/{key.removeprefix('val/')}"
            draft.problems.report("R060", expected.origin, text, hint=hint, path="expect")
        if key and key not in known and not draft.may_measure(key):
            hint = did_you_mean(nearest(key, known), f"measured are {listed(known, 20)}")
            draft.problems.report("R060", expected.origin, f"expect: no metric '{key}'", hint=hint, path="expect")
        if words[0] == "lr" and draft.sound("scheduler") and draft.recipe.scheduler is None:
            text = f"expect: '{expected.text}' waits for a drop of the learning rate, and no scheduler moves it"
            draft.problems.report("R060", expected.origin, text, hint="add a scheduler, or leave it out", path="expect")
        if words[0] == "epoch" and draft.sound("train.epochs") and int(words[1]) > epochs and not shortened:
            text = f"expect: there is no epoch {words[1]}, training ends after {epochs}"
            draft.problems.report("R060", expected.origin, text, path="expect")


def _bands_within_range(draft: Draft) -> None:
    """Refuse a band that no value of its metric can meet, or miss: 92 where accuracies are fractions."""
    for expected in draft.recipe.expect:
        limits = _RANGES.get(expected.key, draft.ranges.get(expected.key))
        if expected.key == "epoch":
            limits = (1, draft.recipe.train.epochs)
        if expected.when.startswith("lr drop") and not not_judged_because(draft.recipe):
            least = int(expected.when.split()[2]) + 1  # each drop takes an epoch of its own
            limits = (least, max(least, draft.recipe.train.epochs))
            if least > draft.recipe.train.epochs:
                text = f"expect: '{expected.text}' cannot come: {draft.recipe.train.epochs} epochs have fewer drops"
                draft.problems.report("R060", expected.origin, text, path="expect")
                continue
        why = _beyond(expected, *limits) if limits is not None else ""
        if limits is not None and why:
            what = expected.key or "the epoch of a drop"
            text = f"expect: {what} lies between {limits[0]:g} and {limits[1]:g}, so '{expected.text}' {why}"
            hint = _as_fraction(expected) if limits == (0, 1) else ""
            draft.problems.report("R110", expected.origin, text, hint=hint, path="expect")


def _beyond(expected: Expectation, least: float, greatest: float) -> str:
    """Say what is wrong with a band of a number that lies between `least` and `greatest`; "" where nothing is."""
    low, high = expected.low, expected.high
    if (low is not None and low > greatest) or (high is not None and high < least):
        return "cannot come true"
    covers = (low is None or low <= least) and (high is None or high >= greatest)
    outside = (low is not None and low < least) or (high is not None and high > greatest)
    strict = outside or expected.key in (*_RANGES, "epoch")
    return "says nothing" if covers and strict and expected.key else ""  # that it drops at all is something


def _as_fraction(expected: Expectation) -> str:
    given = [one for one in (expected.low, expected.high) if one is not None and 1 < one <= 100]
    percent, fraction = ("..".join(f"{one / by:g}" for one in given) for by in (1, 100))
    return f"it is a fraction: {percent} % is {fraction}" if given else ""


def _change_within_range(draft: Draft) -> None:
    """Refuse a `min_delta` by which the metric beside it cannot change."""
    for spec in draft.specs:
        delta, key = draft.argument(spec, "min_delta"), draft.argument(spec, "monitor")
        limits = draft.ranges.get(key) if isinstance(key, str) else None
        if limits is not None and isinstance(delta, (int, float)) and delta >= limits[1] - limits[0]:
            text = f"{spec.slot} {spec.type}.min_delta: {key} lies between {limits[0]:g} and {limits[1]:g}, "
            draft.report("R110", f"{spec.path}.min_delta", f"{text}no change of it is greater than {delta:g}")


def _average_is_updated(draft: Draft) -> None:
    """Refuse averaged weights that stay as they were drawn: the run is shorter than `every`."""
    ema, steps = draft.recipe.train.ema, total_steps(draft)
    if ema is not None and steps is not None and ema.every > steps:
        text = f"train.ema.every: the run takes {steps:,} optimizer steps, so after {ema.every:,} there is no update"
        hint = "the average, which is what is evaluated, would be the initial weights"
        draft.report("R112", "train.ema.every", text, hint)
    elif ema is not None and steps is not None and ema.every > steps / draft.recipe.train.epochs:
        text = f"train.ema.every: an epoch takes {steps // draft.recipe.train.epochs:,} optimizer steps, so the first "
        draft.report("W042", "train.ema.every", f"{text}is evaluated with the initial weights", "update more often")


# ---------------------------------------------------------------------------------------------------------- scheduler
def _schedule_step(draft: Draft) -> None:
    scheduler = draft.recipe.scheduler
    if scheduler is None:
        return
    step = scheduler.knobs.get("step")
    if step is not None and scheduler.type == PLATEAU and step.each == "step":
        text = f"{PLATEAU} watches a number of whole epochs, it cannot step each step"
        draft.report("R052", "scheduler.step.each", text, "write each: epoch")
    if scheduler.type == PLATEAU:
        path, monitor = "scheduler.step.monitor", step.monitor if step is not None else None
        if monitor is None or (_measures(draft, path, monitor) and _metric_named(draft, path, monitor)):
            _direction_fits(draft, "scheduler.mode", monitor or f"val/{LOSS}", draft.argument(scheduler, "mode"))
    elif step is not None and step.monitor is not None:
        text = f"nothing reads scheduler.step.monitor: {scheduler.type} watches no metric"
        draft.report("R052", "scheduler.step.monitor", text, f"only {PLATEAU} does")
    for spec in draft.specs:
        if spec.slot == "scheduler" and spec is not scheduler and "step" in spec.knobs:
            text = f"nothing reads 'step' of {spec.type}: the scheduler around it says when to step"
            draft.report("R052", f"{spec.path}.step", text, "set scheduler.step")


# --------------------------------------------------------------------------------------------------- data and devices
def _validation_split(draft: Draft) -> None:
    val, dataset = draft.recipe.data.val, draft.recipe.data.dataset
    declared = draft.data_facts.splits
    if not isinstance(val, str) or not declared:
        return
    if val == "train":
        text = "data.val: 'train' is what is learnt from, it cannot choose the best epoch"
        draft.report("R055", "data.val", text, "take another split, or {fraction: 0.1}")
    elif val not in declared:
        others = [split for split in declared if split != "train"]
        hint = did_you_mean(nearest(val, others), f"it has {listed(declared)}; or write {{fraction: 0.1}}")
        draft.report("R055", "data.val", f"data.val: dataset {dataset.type} has no split '{val}'", hint)


def _device(draft: Draft) -> None:
    device = draft.recipe.train.device
    if device.partition(":")[0] == "mps":
        text = "train.device: mps has no float64, which the keyed draws of augmentation are made in"
        draft.report("R056", "train.device", text, "use auto or cpu")
    elif not _DEVICE.fullmatch(device):
        hint = "one of auto, cpu, cuda, cuda:0"
        draft.report("R056", "train.device", f"train.device: there is no device '{device}'", hint)


def _explained_classes(draft: Draft) -> None:
    dataset = draft.recipe.data.dataset
    class_names = draft.entry(dataset).data_facts(dataset.arguments).class_names
    if class_names is not None:
        explained_classes(draft, class_names)


def explained_classes(draft: Draft, class_names: Sequence[str]) -> None:
    """Report classes that a GradCAM is to explain and that are not among those of the data."""
    for spec in draft.recipe.report:
        target = spec.arguments.get("target")
        if spec.type != "GradCAM" or not isinstance(target, str) or target in (*TARGETS, *class_names):
            continue
        few = listed(map(repr, class_names), 10)
        hint = did_you_mean(nearest(target, (*TARGETS, *class_names)), f"predicted, true, or one of {few}")
        path = f"{spec.path}.target"
        draft.report("R093", path, f"{path}: no class is named '{target}'", hint)


def _group_rates(draft: Draft) -> None:
    groups = draft.recipe.optimizer.knobs.get("groups", ())
    lists = (
        f"{spec.path}.{name}"
        for spec in draft.specs
        for name in ("max_lr", "base_lr")  # of OneCycleLR and CyclicLR, which set the optimizer's own by them
        if isinstance(spec.arguments.get(name), (list, tuple))
        and (spec.type == "OneCycleLR" or spec is draft.recipe.scheduler)  # a later phase comes after theirs was read
    )
    rates = next(lists, None)
    for index, group in enumerate(groups):
        path = f"optimizer.groups.{index}"
        if "lr" in group.arguments and draft.written(f"{path}.lr_scale"):
            text = f"nothing reads {path}.lr_scale: 'lr' beside it says the learning rate"
            draft.report("R052", f"{path}.lr_scale", text, "keep one of them")
        for name in ("lr", "lr_scale") if rates else ():
            if draft.written(f"{path}.{name}") and (name == "lr" or group.lr_scale != 1):
                text = f"nothing reads {path}.{name}: {rates} says every group's rate"
                draft.report("R052", f"{path}.{name}", text, "keep one of them")
        if not group.match:
            draft.report("R057", f"{path}.match", f"{path}.match: expected at least one pattern", "as in ['**.bias']")


def _unread_by_optimizer(draft: Draft) -> None:
    """Refuse what an optimizer does not look at as its other arguments stand, in any group."""
    optimizer = draft.recipe.optimizer
    groups = [group.arguments for group in optimizer.knobs.get("groups", ())]

    def ever(name: str, unlike: object) -> bool:
        return any(each.get(name, unlike) != unlike for each in groups) or draft.argument(optimizer, name) != unlike

    unread: dict[str, str] = {}
    cycles = any(
        spec.type in schedules.OWN_RATES and draft.argument(spec, "cycle_momentum") is not False for spec in draft.specs
    )
    if optimizer.type == "SGD" and not cycles and not ever("momentum", 0):
        unread["dampening"] = "it dampens the momentum, which is 0"
    if optimizer.type == "MuonConv" and not ever("update", "sgd"):
        unread |= dict.fromkeys(("ns_steps", "normalize"), "update: sgd orthogonalises nothing")
    for name, why in unread.items():
        parameter = draft.entry(optimizer).parameter(name)
        idle = parameter is not None and optimizer.arguments.get(name) == parameter.default
        if name in optimizer.arguments and not idle:
            text = f"nothing reads '{name}' of {optimizer.type}: {why}"
            draft.report("R052", f"optimizer.{name}", text, "leave it out")


def _pattern_kinds(draft: Draft) -> None:
    """Refuse what is no pattern and kinds that do not exist; whether one means anything only the model can tell."""
    for path, patterns in _patterns(draft):
        if len(patterns) > MOST_PATTERNS:
            text = f"{path}: {len(patterns):,} patterns, and {MOST_PATTERNS:,} are the most"
            draft.report("R057", path, text, "'**' stands for many names")
            continue
        for index, pattern in enumerate(patterns):
            if not isinstance(pattern, str):
                continue
            if pattern.startswith("@") and pattern not in KINDS:
                hint = did_you_mean(nearest(pattern, KINDS), f"kinds are {', '.join(KINDS)}")
                draft.report("R057", f"{path}.{index}", f"{path}: there is no kind '{pattern}'", hint)
                continue
            try:
                matches(pattern, "")
            except ValueError as error:
                draft.report(
                    "R057", f"{path}.{index}", f"{path}: {error}", "as in 'layer1.**', 'layer[1-3]', '**.bias'"
                )


def _patterns(draft: Draft) -> list[tuple[str, Sequence[object]]]:
    """Return every list of patterns in a recipe, with its path."""
    found: list[tuple[str, Sequence[object]]] = []
    if draft.sound("train.freeze"):
        found.append(("train.freeze", draft.recipe.train.freeze))
    if draft.sound("optimizer"):
        groups = draft.recipe.optimizer.knobs.get("groups", ())
        found += [(f"optimizer.groups.{i}.match", group.match) for i, group in enumerate(groups)]
    for spec in draft.specs:
        for name, value in spec.arguments.items():
            parameter = draft.entry(spec).parameter(name)
            if parameter is not None and "'pattern'" in repr(parameter.type) and isinstance(value, (list, tuple)):
                found.append((f"{spec.path}.{name}", value))
    return found


def _class_counts(draft: Draft) -> None:
    """Hold every number of classes against what the dataset declares, else against the first one in the recipe."""
    known = told(draft)
    if known is None:
        return
    for path, number, _ in counts(draft):
        if number == known.number or path == f"{draft.recipe.model.path}.num_classes":
            continue  # the model is tried in the second tier, which says more
        if path == f"{draft.recipe.loss.path}.weight":
            text, hint = f"got {number} weights", "one per class, in the order of the classes"
            draft.report("R058", path, f"loss {draft.recipe.loss.type}.weight: {known.said}, {text}", hint)
        else:
            draft.report("R058", path, f"{path}: {known.said}, got {number}", "leave it out: the engine supplies it")


def _weights_left(draft: Draft) -> None:
    """Refuse class weights under which no image counts."""
    if isinstance(draft.recipe.loss.arguments.get("weight"), (list, tuple)) and not any(
        counted_classes(draft).values()
    ):
        draft.report("R095", "loss.weight", "loss.weight: no class has a weight above 0, so nothing is learnt")


def _something_is_left(draft: Draft) -> None:
    """Refuse a batch that is larger than what is learnt from, where it would be dropped as incomplete."""
    length = run_length(draft)
    data = draft.recipe.data
    if (
        length is not None
        and length.train_images is not None
        and length.train_images < data.batch_size
        and data.drop_last
    ):
        text = f"data.drop_last leaves nothing: {length.train_images} images make no batch of {data.batch_size}"
        draft.report("R059", "data.drop_last", text, "take a smaller data.batch_size")


RULES: tuple[Rule, ...] = (
    (_one_seed, ("seed", "seeds")),
    (_unique_names, ()),
    (_one_writes, ("callbacks", "report")),
    (_references_in_time, ()),
    (_finder_exists, ("lr_finder",)),
    (_finder_range, ("lr_finder",)),
    (_best_metric, ("train.metrics", "train.best")),
    (_metrics_in_arguments, ("train.metrics",)),
    (_expected_metrics, ("train.metrics", "train.tta", "data.dataset.type", "data.val")),
    (_bands_within_range, ("expect", "train.metrics", "train.epochs")),
    (_change_within_range, ("train.metrics", "callbacks")),
    (_average_is_updated, ("train.ema", *LENGTH)),
    (_schedule_step, ("scheduler", "train.metrics")),
    *schedules.RULES,
    (_validation_split, ("data.val", "data.dataset.type")),
    (_device, ("train.device",)),
    (_explained_classes, ("report", "data.dataset")),
    (_group_rates, ("optimizer",)),
    (_unread_by_optimizer, ("optimizer",)),
    (_pattern_kinds, ()),
    (_class_counts, COUNTED),
    (_weights_left, COUNTED),
    (_something_is_left, LENGTH),
)
