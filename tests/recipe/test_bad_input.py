"""Files that are no recipes: each is answered with a place and a remedy, with bounded work and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import FrameType

import pytest

from registry.catalogue.catalog import catalogue
from trainer.recipe.load import Loaded, load_recipe
from trainer.recipe.problems import LIMIT, render

GOOD = """\
version: 1
data: {dataset: Shapes}
model: SmallCNN
optimizer: {type: SGD, lr: 0.1}
train: {epochs: 1}
"""
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
REFERENCE_BOMB = "x-0: [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"x-{n}: [{', '.join([f'$x-{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
BOMB_IN_USE = GOOD + REFERENCE_BOMB + "description: $x-11\n"


@pytest.fixture(autouse=True)
def _inside_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("section", "rule"),
    [
        ("optimizer: {type: SGD, lr: 0.1, groups: {match: ['@bias'], weight_decay: 0}}", "R016"),
        ("optimizer: {type: SGD, lr: 0.1, groups: ['@bias']}", "R016"),
        ("optimizer: {type: SGD, lr: 0.1, groups: null}", "R016"),
        ("optimizer: {type: Adam, lr: $lr_finder.lr, betas: [$lr_finder.lr, 0.99]}", "R"),
        ("seeds: [7, 8]\nmodel: {type: SmallCNN, width: '$seed'}", "R015"),
        ("train: {epochs: 1, device: 'cuda:\u0663'}", "R056"),
        ("description: a\u0085 b", "R003"),
        ("# one\u2028line\ndescription: a", "R003"),
    ],
)
def test_a_wrong_recipe_is_refused_with_a_rule_and_never_breaks_a_check(section: str, rule: str) -> None:
    own = section.partition(":")[0]
    lines = [
        line for line in GOOD.splitlines() if not line.startswith((f"{own}:", "model:" if "model:" in section else "?"))
    ]
    Path("wrong.yaml").write_text("\n".join([*lines, section, ""]), encoding="utf-8")
    loaded = load_recipe("wrong.yaml")
    assert any(problem.rule.startswith(rule) for problem in loaded.problems), render(loaded.problems)


def test_sides_that_only_the_data_tell_are_compared_with_nothing() -> None:
    holes = "{type: CoarseDropout, hole_height_range: $data.image_size, hole_width_range: $data.image_size}"
    Path("holes.yaml").write_text(GOOD.replace("{dataset: Shapes}", f"{{dataset: Shapes, augment: [{holes}]}}"))
    load_recipe("holes.yaml")


@pytest.mark.parametrize("stem", ["con", "a" * 200, "nul.v2", "-", "\u65e5" * 70])
def test_a_name_from_the_files_own_is_one_that_reads_back(stem: str) -> None:
    Path(f"{stem}.yaml").write_text(GOOD)
    name = load_recipe(f"{stem}.yaml").usable().name
    Path("again.yaml").write_text(GOOD + f"name: '{name}'\n")
    assert load_recipe("again.yaml").usable().name == name


MOST_CALLS = 5_000_000  # of functions, ours and built-in ones, while a file is read and refused


def loaded_at_once(path: str) -> Loaded:
    """Load, and hold the promise: bounded work, under 100 MiB, no exception."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    profiler = sys.getprofile()
    sys.setprofile(count)
    try:
        loaded = load_recipe(path)
    finally:
        sys.setprofile(profiler)
    assert calls < MOST_CALLS
    tracemalloc.start()
    load_recipe(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 << 20
    assert loaded.recipe is None
    return loaded


CASES: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "recipe.yaml:1:1: the file is empty (begin with 'version: 1') [R009]"),
    "nothing but comments": (
        b"# soon\n\n# more\n",
        "recipe.yaml:1:1: the file is empty (begin with 'version: 1') [R009]",
    ),
    "a list at top level": (
        b"- version: 1\n",
        "recipe.yaml:1:1: a recipe is a mapping of sections, this is a list of 1 (begin with 'version: 1') [R009]",
    ),
    "a single word": (
        b"recipe\n",
        "recipe.yaml:1:1: a recipe is a mapping of sections, this is text 'recipe' (begin with 'version: 1') [R009]",
    ),
    "a binary file": (
        b"\x89PNG\r\n\x1a\n\x00\x00",
        "recipe.yaml:1:1: this file is not UTF-8 (byte 0x89) (save it as UTF-8) [R003]",
    ),
    "zero bytes": (b"a: 1\nb: \x00\n", "recipe.yaml:2:4: this is no text file: control character U+0000 [R003]"),
    "Latin-1": (
        "version: 1\nname: café\n".encode("latin-1"),
        "recipe.yaml:2:10: this file is not UTF-8 (byte 0xe9) (save it as UTF-8) [R003]",
    ),
    "UTF-16": ("version: 1\n".encode("utf-16"), "recipe.yaml:1:1: this file is UTF-16 (save it as UTF-8) [R003]"),
    "tabs": (b"train:\n\tepochs: 5\n", "recipe.yaml:2:1: a tab cannot indent (use spaces) [R004]"),
    "deep nesting": (b"a: " + b"[" * 3000, "recipe.yaml:1:35: nested more than 32 deep [R002]"),
    "nesting beyond the parser's own bound, closed": (
        b"a: [" + b"[" * 1100 + b"]" * 1101,
        "recipe.yaml:1:35: nested more than 32 deep [R002]",
    ),
    "a key given twice before nesting beyond the parser's bound": (
        b"a: 1\na: " + b"[" * 1100,
        "recipe.yaml:2:1: key 'a' is given twice (first at line 1) [R005]",
    ),
    "deep blocks": (
        "".join("  " * n + "a:\n" for n in range(200)).encode(),
        "recipe.yaml:33:65: nested more than 32 deep [R002]",
    ),
    "an alias bomb": (BOMB.encode(), "recipe.yaml:5:45: more than 100,000 values once aliases are expanded [R002]"),
    "an alias of itself": (b"a: &a [*a]\n", "recipe.yaml:1:8: alias '*a' refers to itself [R007]"),
    "a python object": (
        b"name: !!python/object/apply:os.system [id]\n",
        "recipe.yaml:1:7: tag '!!python/object/apply:os.system' is not accepted "
        "(a recipe holds values, not objects) [R006]",
    ),
    "an unknown tag": (b"name: !Ref x\n", "recipe.yaml:1:7: tag '!Ref' is not accepted (leave it out) [R006]"),
    "a file of 50 MB": (
        b"# " + b"x" * 50_000_000,
        "recipe.yaml:1:1: a recipe may have 1 MiB at most, this file has more [R002]",
    ),
    "a million brackets": (b"a: [" + b"[]," * 120_000, "recipe.yaml:1:299996: more than 100,000 values"),
    "a windows path in quotes": (
        b'data: {dataset: {type: ImageFolder, root: "C:\\data"}}\n',
        "recipe.yaml:1:46: a backslash in double quotes begins an escape, and this is none "
        "(use single quotes, or double it) [R004]",
    ),
    "a number of 5000 digits": (
        GOOD.encode() + b"seed: " + b"9" * 5000,
        "recipe.yaml:6:7: seed: expected integer >= 0",
    ),
    "references that expand without end": (
        BOMB_IN_USE.encode(),
        "more than 100,000 values once references are resolved",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_no_recipe_is_refused_with_its_place(case: str) -> None:
    data, said = CASES[case]
    Path("recipe.yaml").write_bytes(data)
    problems = loaded_at_once("recipe.yaml").problems
    assert any(said in str(problem) for problem in problems), render(problems)


def test_a_folder_is_no_recipe() -> None:
    Path("folder").mkdir()
    said = render(loaded_at_once("folder").problems)
    assert said == "folder:1:1: 'folder' is a folder, not a recipe (name the .yaml file in it) [R001]"


def test_a_missing_file_is_answered_with_a_near_one() -> None:
    Path("quickstart.yaml").write_text(GOOD)
    said = render(loaded_at_once("quikstart.yaml").problems)
    assert said == "quikstart.yaml:1:1: there is no file 'quikstart.yaml' (did you mean 'quickstart.yaml'?) [R001]"


def test_a_name_with_a_zero_byte_is_no_file() -> None:
    assert [problem.rule for problem in loaded_at_once("a\0b.yaml").problems] == ["R001"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_said_to_be_so() -> None:
    Path("recipe.yaml").write_text(GOOD)
    Path("recipe.yaml").chmod(0)
    assert "cannot be read: Permission denied" in render(loaded_at_once("recipe.yaml").problems)


def test_a_wrong_file_everywhere_does_not_flood_the_terminal() -> None:
    Path("recipe.yaml").write_text("".join(f"section{n}: 1\n" for n in range(5000)))
    problems = loaded_at_once("recipe.yaml").problems
    assert len(problems) == LIMIT
    assert render(problems).endswith(f"... only the first {LIMIT} problems are shown")


def test_sixty_four_files_that_extend_one_another_are_enough() -> None:
    for number in range(80):
        Path(f"r{number}.yaml").write_text(f"extends: r{number + 1}.yaml\n")
    Path("r80.yaml").write_text(GOOD)
    assert [problem.rule for problem in loaded_at_once("r0.yaml").problems] == ["R002"]


# ------------------------------------------------------------------------------------------------ unusual, but accepted
def test_windows_line_ends_are_read_and_counted() -> None:
    Path("recipe.yaml").write_bytes(GOOD.replace("\n", "\r\n").encode())
    assert load_recipe("recipe.yaml").recipe is not None
    Path("recipe.yaml").write_bytes(GOOD.replace("epochs", "epocs").replace("\n", "\r\n").encode())
    problem = load_recipe("recipe.yaml").problems[0]
    assert (problem.origin.line, problem.origin.column) == (5, 9)
    assert problem.source_line == "train: {epocs: 1}"


def test_a_byte_order_mark_shifts_nothing() -> None:
    Path("recipe.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_recipe("recipe.yaml").recipe is not None
    Path("recipe.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("version", "vversion").encode())
    problem = load_recipe("recipe.yaml").problems[0]
    assert (problem.origin.line, problem.origin.column) == (1, 1)


def test_names_and_paths_need_not_be_ascii() -> None:
    folder = Path("Rezepte für Żółw")
    folder.mkdir()
    path = folder / "größe 1.yaml"
    path.write_text(GOOD + "description: 日本語\n", encoding="utf-8")
    recipe = load_recipe(path).recipe
    assert recipe is not None
    assert (recipe.name, recipe.description) == ("größe 1", "日本語")


def test_a_stem_that_is_no_folder_name_is_made_one() -> None:
    Path("a:b*c.yaml").write_text(GOOD)
    recipe = load_recipe("a:b*c.yaml").recipe
    assert recipe is not None
    assert recipe.name == "a_b_c"


UNSAFE = ["../x", "/abs", "a/b", "''", ".", "..", "CON", "a:b", "'a '", "x" * 300, '"a\\nb"', "-x"]


@pytest.mark.parametrize("name", UNSAFE)
def test_an_unsafe_name_is_refused(name: str) -> None:
    Path("recipe.yaml").write_text(GOOD + f"name: {name}\n")
    assert [problem.rule for problem in load_recipe("recipe.yaml").problems] == ["R014"]


def test_anchors_aliases_and_merge_keys_are_read() -> None:
    Path("recipe.yaml").write_text(
        "x-sgd: &sgd {type: SGD, lr: 0.1, momentum: 0.9}\n"
        + GOOD.replace("{type: SGD, lr: 0.1}", "{<<: *sgd, lr: 0.2}")
    )
    recipe = load_recipe("recipe.yaml").recipe
    assert recipe is not None
    assert recipe.optimizer.arguments == {"lr": 0.2, "momentum": 0.9}


def test_a_mistake_in_an_anchored_value_is_reported_once_where_it_stands() -> None:
    Path("recipe.yaml").write_text(
        "x-p: &p {type: HorizontalFlip, p: 3}\n" + GOOD.replace("Shapes}", "Shapes, augment: [*p], eval: [*p]}")
    )
    problems = load_recipe("recipe.yaml").problems
    assert [(problem.rule, problem.origin.line, problem.origin.column) for problem in problems] == [("R017", 1, 35)]


# -------------------------------------------------------------------------------------------------------- whole process
INSTALLED = """
import sys
before = set(sys.modules)
from trainer.recipe.load import load_recipe
loaded = load_recipe("recipe.yaml", ["seed=2"])
assert loaded.recipe is not None
loaded = load_recipe("recipe.yaml", ["sed=2"])
assert loaded.recipe is None
new = {name.partition(".")[0] for name in set(sys.modules) - before}
origins = {name: getattr(sys.modules[name], "__file__", None) or "" for name in new}
print(sorted(name for name, file in origins.items() if "site-packages" in file))
"""


def test_the_first_tier_needs_no_package_but_yaml(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(GOOD)
    catalogue()  # stored, so that the process below reads it
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", INSTALLED], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("['_yaml', 'yaml']", "['yaml']")


@pytest.mark.parametrize(
    "warmup", ["3", "{epochs: 0}", "{epochs: 0.5}", "{start_factor: 0.1}", "[1]", "{epochs: x, start_factor: 2}"]
)
@pytest.mark.parametrize("scheduler", ["CosineAnnealingLR", "OneCycleLR, max_lr: 0.1", "StepLR, step_size: 3"])
def test_a_warm_up_that_means_nothing_is_a_problem_at_its_place(warmup: str, scheduler: str) -> None:
    Path("recipe.yaml").write_text(GOOD + f"scheduler: {{type: {scheduler}, warmup: {warmup}}}\n")
    problems = load_recipe("recipe.yaml").problems
    assert problems
    assert all(problem.path.startswith("scheduler.warmup") for problem in problems), render(problems)


@pytest.mark.parametrize("plugin", ["raises.py", "missing.py"])
@pytest.mark.parametrize(
    "where",
    [
        *("loss=Foo", "model=Foo", "data.dataset=Foo", "optimizer={type: Foo, lr: 1}", "scheduler=Foo", "report=[Foo]"),
        *("data.preprocess=[Foo]", "data.augment=[Foo]", "data.eval=[{type: OneOf, p: 1, transforms: [Foo]}]"),
        *("train.metrics=[Foo]", "callbacks=[Foo]", "regularizers=[Foo]", "train.mix=Foo"),
        "scheduler={type: ChainedScheduler, schedulers: [{type: Foo}, {type: StepLR, step_size: 2}]}",
        "scheduler={type: SequentialLR, milestones: [2], schedulers: [Foo, {type: CosineAnnealingLR, T_max: 2}]}",
    ],
)
def test_what_a_lost_plugin_may_have_had_is_no_reason_to_fall_over(plugin: str, where: str) -> None:
    Path("raises.py").write_text('raise ImportError("no such thing")\n')
    Path("recipe.yaml").write_text(GOOD)
    problems = load_recipe("recipe.yaml", [f"plugins=[./{plugin}]", where]).problems
    assert [problem for problem in problems if problem.path.startswith("plugins")], render(problems)


FULL = """\
version: 1
data: {dataset: {type: ImageFolder, root: pictures}, sampler: balanced}
model: SmallCNN
loss: {type: CrossEntropyLoss, weight: [1, 2], ignore_index: 1}
optimizer: {type: SGD, lr: 0.1}
scheduler: {type: CosineAnnealingLR}
lr_finder: {start: 1e-4, end: 1}
regularizers: [{type: L2, strength: 1e-4}]
train: {epochs: 1, mix: {type: MixUp, alpha: 0.2}, metrics: [Accuracy, {type: TopKAccuracy, k: 2}]}
answers: {abstain_below: 0.4}
callbacks: [TensorBoard]
report: [Curves]
expect: {best val/accuracy: ">= 0.5"}
"""


@pytest.mark.parametrize("section", [line.partition(":")[0] for line in FULL.splitlines()[1:]])
def test_a_section_that_is_a_number_is_reported_and_the_others_are_looked_at_without_it(section: str) -> None:
    Path("full.yaml").write_text(FULL)
    assert load_recipe("full.yaml").recipe is not None
    lines = (f"{section}: 7" if line.startswith(f"{section}:") else line for line in FULL.splitlines())
    Path("wrong.yaml").write_text("\n".join(lines))

    loaded = load_recipe("wrong.yaml")

    assert any(problem.path.partition(".")[0] == section for problem in loaded.problems), render(loaded.problems)
