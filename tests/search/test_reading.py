"""A sweep's file is checked as strictly as a recipe, each mistake at its place, before the first trial."""

import json
import re
import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml

pytest.importorskip("optuna", reason="optuna is an extra: pip install 'recipe-trainer[search]'")

from trainer.cli.main import main
from trainer.recipe.load import load_recipe
from trainer.recipe.problems import Collector
from trainer.recipe.reading.files import read_file
from trainer.recipe.reading.nodes import plain
from trainer.recipe.sections import section_type
from trainer.search.building import most_epochs
from trainer.search.points import points_of
from trainer.search.reading import load_sweep
from trainer.search.schema import schema
from trainer.search.sweep import Sweep

ROOT = Path(__file__).parents[2]


def said(path):
    """Return what is wrong, a line each, without source lines."""
    return [str(problem) for problem in load_sweep(path).problems]


def test_a_right_sweep_is_read(written):
    loaded = load_sweep(written("set: {train.epochs: 2}"))
    assert loaded.problems == ()
    sweep = loaded.usable()
    assert (sweep.sweep, sweep.base, sweep.trials) == ("mine", "tiny.yaml", 3)
    assert [(goal.metric, goal.at, goal.mode) for goal in sweep.goals] == [("val/loss", "final", "min")]
    assert sweep.assigned(["0.5"]) == ("train.epochs=2", "optimizer.lr=0.5")
    assert loaded.recipe.train.epochs == 2


@pytest.mark.parametrize("metric", ["seconds", "parameters", "test/loss"])
def test_a_pruner_is_told_of_no_number_of_a_whole_run(written, metric):
    path = written("pruner: MedianPruner", f"objective: {{metric: {metric}}}", "selects_on_test: true")
    assert f"pruner MedianPruner judges by what epochs reach, and '{metric}' is of a whole run" in "".join(said(path))


def test_a_pruner_counts_to_the_epochs_of_the_longest_trial(written):
    search = "search:\n  train.epochs: {type: IntDistribution, low: 2, high: 27}"
    loaded = load_sweep(written(search, "pruner: HyperbandPruner"))
    assert most_epochs(loaded.usable(), loaded.recipe) == 27
    loaded = load_sweep(written("pruner: HyperbandPruner"))
    assert most_epochs(loaded.usable(), loaded.recipe) == 4


def test_a_whole_component_is_laid_down_before_its_arguments(written):
    search = """search:
  optimizer.lr: {type: FloatDistribution, low: 0.1, high: 1.0}
  optimizer: {type: CategoricalDistribution, choices: [{type: SGD, lr: 0.1}, {type: AdamW, lr: 0.1}]}"""
    sweep = load_sweep(written(search)).usable()
    assert sweep.assigned(["0.5", "{type: AdamW, lr: 0.1}"]) == (
        "optimizer=null",
        "optimizer={type: AdamW, lr: 0.1}",
        "optimizer.lr=0.5",
    )


def test_a_whole_component_inherits_nothing_from_the_one_it_replaces(written, here):
    (here / "tiny.yaml").write_text((here / "tiny.yaml").read_text().replace("lr: 0.02", "lr: 0.02, momentum: 0.5"))
    search = """search:
  optimizer: {type: CategoricalDistribution, choices: [{type: SGD, lr: 0.1}, {type: AdamW, lr: 0.1}]}"""
    sweep = load_sweep(written(search)).usable()
    made = [load_recipe(sweep.base, sweep.assigned([text])).recipe for text in sweep.choices[0].texts]
    assert [(recipe.optimizer.type, recipe.optimizer.arguments) for recipe in made] == [
        ("SGD", {"lr": 0.1}),
        ("AdamW", {"lr": 0.1}),
    ]


def test_steps_of_whole_numbers_are_no_integers(written):
    search = "search:\n  data.batch_size: {type: FloatDistribution, low: 16, high: 64, step: 16}"
    assert "data.batch_size: expected integer >= 1, got 16.0" in said(written(search))[0]


def test_a_key_of_ones_own_that_nothing_refers_to_is_not_searched(written, here):
    search = "search:\n  x-rate: {type: FloatDistribution, low: 0.1, high: 0.9}"
    (problem,) = said(written(search))
    assert problem == (
        "sweep.yaml:5:3: 'x-rate' is searched, and nothing in tiny.yaml refers to it: every trial is the same "
        "(write $x-rate where it is meant) [R162]"
    )
    (here / "tiny.yaml").write_text(
        (here / "tiny.yaml").read_text().replace("lr: 0.02", "lr: $x-rate") + "x-rate: 0.1\n"
    )
    assert said(written(search)) == []


def test_a_key_that_some_choice_of_another_refers_to_is_searched(written, here):
    (here / "tiny.yaml").write_text((here / "tiny.yaml").read_text() + "x-rate: 0.1\n")
    search = """search:
  optimizer: {type: CategoricalDistribution, choices: [{type: SGD, lr: 0.1}, {type: AdamW, lr: $x-rate}]}
  x-rate: {type: CategoricalDistribution, choices: [0.001, 0.01]}"""
    assert said(written(search)) == []


def test_a_seed_beyond_those_of_numpy_serves_a_sweep(written, here):
    (here / "tiny.yaml").write_text((here / "tiny.yaml").read_text().replace("seed: 1", "seed: 5000000000"))
    assert said(written("sampler: TPESampler")) == []


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        (
            "search:\n  optimizer.momentun: {type: FloatDistribution, low: 0.1, high: 0.9}",
            "sweep.yaml:5:3: optimizer SGD takes no argument 'momentun' (did you mean 'momentum'?) [R021]",
        ),
        (
            "search:\n  model.dropout: {type: CategoricalDistribution, choices: [0, 0.5, 1.2]}",
            "sweep.yaml:5:68: model SmallCNN.dropout: expected number >= 0 and < 1, got 1.2 (default 0.0) [R017]",
        ),
        (
            "search:\n  optimizer.lr: {type: FloatDistribution, low: -0.1, high: 1.0}",
            "sweep.yaml:5:48: optimizer SGD.lr: expected number > 0, got -0.1 [R017]",
        ),
        (
            "search:\n  train.epochs: {type: IntDistribution, low: 0, high: 4}",
            "sweep.yaml:5:46: train.epochs: expected integer >= 1, got 0 [R017]",
        ),
        (
            "search:\n  optimizer.lr: {type: FloatDistribution, low: 1.0, high: 0.1}",
            "sweep.yaml:5:17: search 'optimizer.lr': `low <= high` must hold, but got (low=1.0, high=0.1) [R161]",
        ),
        (
            "search:\n  optimizer.lr: {type: FlotDistribution, low: 1.0, high: 0.1}",
            "sweep.yaml:5:24: there is no distribution 'FlotDistribution' (did you mean 'FloatDistribution'?) [R020]",
        ),
        (
            "search:\n  optimizer.lr: {type: FloatDistribution, low: 1.0, hihg: 2.0}",
            "sweep.yaml:5:53: distribution FloatDistribution takes no argument 'hihg' (did you mean 'high'?) [R021]",
        ),
        (
            "search:\n  model: {type: CategoricalDistribution, choices: [SmallCNN, SmalCNN]}",
            "sweep.yaml:5:62: there is no model 'SmalCNN' (did you mean 'SmallCNN'?) [R020]",
        ),
        ("pruner: MedianPrunner", "there is no pruner 'MedianPrunner' (did you mean 'MedianPruner'?) [R020]"),
        ("trails: 3", "unknown section 'trails' (did you mean 'trials'?) [R010]"),
        (
            "objective: {metric: val/acuracy}",
            "no metric 'val/acuracy' is measured (did you mean 'val/accuracy'?) [R050]",
        ),
        ("objective: {metric: lr}", "objective: of 'lr' neither more nor less is better [R163]"),
        ("objective: {metric: test/accuracy}", "the test split would choose among the trials"),
        ("set: {data.val: test}", "the test split would choose among the trials"),
        (
            "set: {seed: 3}",
            "a sweep does not change 'seed' (the sweep's own `seeds` says by which seeds each trial runs)",
        ),
        ("set: {optimizer.lr: 3}", "'optimizer.lr' is both set and searched (leave one of them out) [R162]"),
        (
            "set: {optimizer.lr.x: 3}",
            "'optimizer.lr.x' is set, and 'optimizer.lr' above it is searched, which replaces it",
        ),
        (
            "search:\n  train.ema: {type: CategoricalDistribution, choices: [{decay: 0.9}, null]}\n"
            "  train.ema.decay: {type: FloatDistribution, low: 0.5, high: 0.9}",
            "'train.ema.decay' would set 'train.ema' again, one of whose choices is null",
        ),
        (
            "search:\n  model.width: {type: FloatDistribution, low: 4, high: 8}",
            "model SmallCNN.width: expected integer",
        ),
        (
            "sampler: BruteForceSampler",
            "sampler BruteForceSampler: 'optimizer.lr' is a range without `step`, which has no grid",
        ),
        ("trials: 0", "trials: expected integer >= 1, got 0"),
        ("sweep: ../mine", "sweep '../mine' cannot be a folder's name: it contains '/' [R014]"),
        ("version: 2", "this trainer reads version 1 of the recipe language, got 2"),
        ("recipe: tinny.yaml", "sweep.yaml:3:9: there is no file 'tinny.yaml' (did you mean 'tiny.yaml'?) [R001]"),
        ("sampler: {type: NSGAIISampler, population_size: 0}", "sampler NSGAIISampler: "),
    ],
)
def test_a_mistake_is_refused_where_it_stands(written, section, problem):
    found = said(written(section))
    assert len(found) == 1, found
    assert problem in found[0]


@pytest.mark.parametrize(("path", "choices"), [("data.limit", "[8, 16]"), ("data.dataset.val_size", "[8, 16]")])
def test_trials_on_other_pictures_are_warned_of_where_they_are_drawn(written, path, choices):
    loaded = load_sweep(written(f"search:\n  {path}: {{type: CategoricalDistribution, choices: {choices}}}"))
    assert loaded.problems == ()
    (warning,) = (warning for warning in loaded.warnings if warning.rule == "W160")
    assert str(warning).startswith(f"sweep.yaml:5:3: warning: search '{path}': trials are measured on other pictures")


def test_a_search_that_draws_no_picture_is_not_warned_of(written):
    search = "search:\n  data.batch_size: {type: CategoricalDistribution, choices: [8, 16]}"
    assert [warning.rule for warning in load_sweep(written(search)).warnings] == []


def test_a_recipe_is_told_to_be_none(written, capsys):
    assert main(["sweep", "tiny.yaml"]) == 2
    said = capsys.readouterr().err
    assert "tiny.yaml is a recipe, not a sweep" in said
    assert said.rstrip().endswith(" tiny.yaml")


def test_a_whole_number_is_shown_as_it_is(written):
    search = """search:
  data.batch_size: {type: IntDistribution, low: 1, high: 20000}
  optimizer.lr: {type: FloatDistribution, low: 0.1, high: 1.0}"""
    assert load_sweep(written(search), built=False).usable().shown(["10940", "0.123456"]) == ["10940", "0.1235"]


def test_what_must_be_there_is_asked_for(written):
    assert "a sweep needs 'objective': what trials are measured by" in said(written(without=("objective",)))[0]
    assert "a sweep needs 'trials' or 'minutes'" in said(written(without=("trials",)))[0]
    assert said(written("minutes: 5", without=("trials",))) == []


def test_a_choice_that_only_building_refutes_is_refused_at_its_place(written):
    freeze = "search:\n  train.freeze: {type: CategoricalDistribution, choices: [[], [nothing.here]]}"
    found = said(written(freeze))
    assert len(found) == 1
    assert found[0].startswith("sweep.yaml:5:63: ") or found[0].startswith("sweep.yaml:5:64: "), found
    assert load_sweep(written(freeze), built=False).problems == ()


def test_every_choice_meets_every_other_and_both_ends_of_the_ranges(written):
    search = """search:
  optimizer.lr: {type: FloatDistribution, low: 0.1, high: 1.0}
  model.dropout: {type: CategoricalDistribution, choices: [0, 0.1, 0.2]}
  model.width: {type: CategoricalDistribution, choices: [4, 8]}"""
    points, notes = points_of(load_sweep(written(search), built=False).usable())
    assert sorted(points) == sorted((end, a, b) for end in (0, 1) for a in range(3) for b in range(2))
    assert notes == ()


def test_of_a_space_too_large_every_choice_is_tried_and_that_is_said(written):
    choices = ", ".join(str(number / 100) for number in range(40))
    search = f"""search:
  model.dropout: {{type: CategoricalDistribution, choices: [{choices}]}}
  model.width: {{type: CategoricalDistribution, choices: [4, 8]}}"""
    points, notes = points_of(load_sweep(written(search), built=False).usable())
    assert {dropout for dropout, _ in points} == set(range(40))
    assert {width for _, width in points} == {0, 1}
    assert notes == ("80 combinations of choices are too many to try: each choice was tried in one of them at least",)


def test_references_are_the_recipes_in_what_it_is_given_and_the_sweeps_elsewhere(written):
    loaded = load_sweep(
        written(
            "set: {lr_finder: {steps: 20}}",
            "search:\n  optimizer.lr: {type: CategoricalDistribution, choices: [0.1, $lr_finder.lr]}",
            "trials: 7",
            "sampler: {type: TPESampler, seed: $trials}",
        )
    )
    assert loaded.problems == ()
    assert loaded.sweep.sampler.arguments == {"seed": 7}
    assert loaded.sweep.choices[0].texts == ("0.1", "$lr_finder.lr")


def test_test_may_choose_where_the_sweep_says_so(written):
    assert said(written("objective: {metric: test/accuracy}", "selects_on_test: true")) == []


@pytest.mark.parametrize("metric", ["val/accuracy", "seconds", "parameters"])
def test_the_direction_follows_from_the_metric(written, metric):
    sweep = load_sweep(written(f"objective: {{metric: {metric}}}")).usable()
    assert sweep.goals[0].mode == ("max" if metric == "val/accuracy" else "min")


def test_several_objectives_take_no_pruner_that_judges(written):
    objective = "objective: [{metric: val/accuracy}, {metric: parameters}]"
    assert said(written(objective)) == []
    assert (
        "pruner MedianPruner judges by one number, and there are 2 objectives"
        in said(written(objective, "pruner: MedianPruner"))[0]
    )


def test_validate_takes_sweeps_and_train_says_what_to_type(written, capsys):
    path = written()
    assert main(["validate", path]) == 0
    assert "no problems" in capsys.readouterr().out
    assert main(["validate", written("trails: 3"), "--format", "json"]) == 2
    assert [problem["rule"] for problem in json.loads(capsys.readouterr().out)] == ["R010"]
    assert main([written()]) == 2
    assert "is a sweep, not a recipe\n  python -m trainer sweep sweep.yaml" in capsys.readouterr().err


def test_without_optuna_a_sweep_says_what_to_install(written, monkeypatch, capsys):
    monkeypatch.setattr("registry.search.is_installed", lambda: False)
    assert main(["sweep", written()]) == 2
    assert 'pip install "recipe-trainer[search]"' in capsys.readouterr().err


def test_describe_knows_distributions_samplers_pruners_and_the_sweep(capsys):
    for name in ("FloatDistribution", "TPESampler", "HyperbandPruner"):
        assert main(["describe", name]) == 0
    assert "max_resource" in capsys.readouterr().out


def test_every_part_of_a_sweep_is_documented():
    for name, field in section_type(Sweep)["fields"].items():
        assert field["doc"], name


def test_a_sweep_is_a_plain_yaml_file(written, here):
    assert yaml.safe_load((here / written()).read_text())["sweep"] == "mine"


# ------------------------------------------------------------------------------------------------ docs, schema, shipped
PAGE = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")


def test_the_page_on_sweeps_names_every_key_and_its_example_is_right(here):
    table = PAGE.partition("| key |")[2].partition("\n## ")[0]
    named = re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.splitlines() if line.count("|") > 2))
    assert sorted(named) == sorted(section_type(Sweep)["fields"])
    (here / "page.yaml").write_text(PAGE.partition("```yaml\n")[2].partition("```")[0])
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        shutil.copy(recipe, here)
    assert [str(problem) for problem in load_sweep("page.yaml", built=False).problems] == []


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_sweep_is_right_and_passes_the_schema(path):
    assert [str(problem) for problem in load_sweep(path).problems] == []
    jsonschema.validate(yaml12(path), schema())


def test_the_schema_takes_what_the_check_takes(written, here):
    for section in ("confirm: null", "set: null", "pruner: null"):
        path = written(section)
        assert said(path) == []
        jsonschema.validate(yaml12(here / path), schema())


def test_the_schema_refuses_what_the_check_refuses(written, here):
    for section in ("trails: 3", "trials: 0", "pruner: MedianPrunner", "objective: {metric: val/loss, at: last}"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(yaml12(here / written(section)), schema())


def yaml12(path):
    """Return a file as our reader has it: YAML 1.1 takes 1e-3 for text."""
    return plain(read_file(path, str(path), Collector()))


def test_describe_and_schema_know_the_sweep(capsys):
    assert main(["describe", "sweep"]) == 0
    assert "selects_on_test: true or false; default false" in capsys.readouterr().out
    assert main(["describe", "sweep.confirm"]) == 0
    assert "best: integer >= 2; default 3" in capsys.readouterr().out
    assert main(["schema", "sweep"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Sweep over an image-classification recipe"
    assert main(["schema", "swep"]) == 2
