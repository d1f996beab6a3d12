"""The catalogue: what it lists, that it is cheap, that it is never stale, and what plug-ins may do."""

import functools
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry.catalogue import cache
from registry.catalogue.catalog import Catalogue, Entry, catalogue
from registry.catalogue.grammar import mismatch
from registry.catalogue.slots import SLOTS
from registry.errors import RecipeError

ROOT = Path(__file__).parents[2]
ALL = [(slot, name) for slot in SLOTS for name in catalogue().names(slot, refused=True)]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "recipe-trainer"


@pytest.fixture
def made(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count how often the records are made; upstream is left out so that it takes no time."""
    from registry.catalogue import catalog

    counted: list[int] = []
    make_plugin = catalog._make_plugin

    def make(*plugin: object) -> list:
        counted.append(1)
        return make_plugin(*plugin) if plugin else []

    monkeypatch.setattr(catalog, "_make", make)
    monkeypatch.setattr(catalog, "_make_plugin", make)
    return counted


@pytest.mark.parametrize(("slot", "name"), ALL, ids=lambda value: str(value))
def test_every_default_is_of_its_own_type(slot: str, name: str) -> None:
    for parameter in catalogue_entry(slot, name).parameters:
        if not parameter.required and parameter.default_plain and parameter.type["kind"] != "opaque":
            assert mismatch(parameter.type, parameter.default) is None, parameter.name


@functools.cache
def known() -> Catalogue:
    return catalogue()


def catalogue_entry(slot: str, name: str) -> Entry:
    return known().entry(slot, name)


def test_every_own_component_documents_every_parameter() -> None:
    bare = [
        (name, parameter.name)
        for slot, name in ALL
        for parameter in catalogue_entry(slot, name).parameters
        if catalogue_entry(slot, name).own and not parameter.doc and parameter.role != "engine"
    ]
    assert bare == []


def test_every_own_component_says_what_it_is() -> None:
    assert [name for slot, name in ALL if catalogue_entry(slot, name).own and not catalogue_entry(slot, name).doc] == []


def test_every_settable_parameter_has_a_known_type_or_a_listed_reason() -> None:
    """New upstream releases may bring a type the grammar does not know; it is looked at, then listed here."""
    functions = {"a function", "a ndarray", "a ConvStemConfig"}
    unknown = {
        (name, parameter.name, parameter.type["reason"])
        for slot, name in ALL
        for parameter in catalogue_entry(slot, name).parameters
        if parameter.type["kind"] == "opaque" and parameter.role == "user" and parameter.type["reason"] not in functions
    }
    assert unknown == set()


@pytest.mark.parametrize(
    ("slot", "least", "among"),
    [
        ("model", 84, ("cifar_resnet18", "resnet50", "vit_b_16")),
        ("transform", 100, ("HorizontalFlip", "OneOf", "SomeOf", "Sequential", "Normalize")),
        ("loss", 2, ("CrossEntropyLoss",)),
        ("regularizer", 3, ("L1", "L2", "L2Norm")),
        ("optimizer", 13, ("SGD", "AdamW", "Muon")),
        ("scheduler", 13, ("ReduceLROnPlateau", "SequentialLR", "ChainedScheduler")),
        ("metric", 8, ("Accuracy", "CrossEntropy", "TopKAccuracy", "BalancedAccuracy", "F1", "AUROC")),
        ("mix", 2, ("MixUp", "CutMix")),
        ("dataset", 5, ("CIFAR10", "CIFAR100", "ImageFolder", "Shapes", "Table")),
        ("callback", 5, ("TensorBoard", "ParameterNorms", "EarlyStopping")),
        ("report", 4, ("Curves", "GradCAM", "Misclassified", "ConfusionMatrix")),
    ],
)
def test_a_slot_lists_what_its_rules_adopt(slot: str, least: int, among: tuple[str, ...]) -> None:
    names = catalogue().names(slot)
    assert len(names) >= least
    assert set(among) <= set(names)


def test_ours_come_first() -> None:
    for slot in SLOTS:
        own = [known().entry(slot, name).own for name in known().names(slot)]
        assert own == sorted(own, reverse=True)


def test_no_two_names_of_a_slot_differ_by_case_alone() -> None:
    for slot in SLOTS:
        names = [name.lower() for name in catalogue().names(slot)]
        assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("slot", "name", "why"),
    [
        ("optimizer", "LBFGS", "closure"),
        ("optimizer", "SparseAdam", "sparse"),
        ("scheduler", "LambdaLR", "function"),
        ("transform", "ToTensorV2", "leave it out"),
        ("transform", "Compose", "in its order already"),
        ("transform", "MaskDropout", "no masks"),
    ],
)
def test_what_cannot_be_used_says_why(slot: str, name: str, why: str) -> None:
    entry = catalogue().entry(slot, name)
    assert why in entry.refused
    assert name not in catalogue().names(slot)
    assert name in catalogue().names(slot, refused=True)


def test_roles_follow_the_table_of_slots() -> None:
    sgd, resnet = known().entry("optimizer", "SGD"), known().entry("model", "resnet18")
    roles = {parameter.name: parameter.role for parameter in (*sgd.parameters, *resnet.parameters)}
    assert roles["params"] == roles["progress"] == "engine"
    assert roles["fused"] == roles["num_classes"] == roles["in_channels"] == "supplied"
    assert roles["lr"] == roles["weights"] == "user"
    assert "params" not in sgd.settable()


def test_renamed_arguments_have_a_hint() -> None:
    entry = catalogue().entry("transform", "CoarseDropout")
    assert entry.renamed["max_height"] == "hole_height_range"
    assert entry.renamed["always_apply"] == "p: 1.0"


def test_renamed_arguments_are_not_arguments_and_their_successors_are() -> None:
    for slot, name in ALL:
        entry = catalogue_entry(slot, name)
        for old, new in entry.renamed.items():
            parameter = entry.parameter(old)
            assert parameter is None or parameter.role == "engine" or slot == "transform", (name, old)
            if new.isidentifier() and old in entry.renamed and name in ("CoarseDropout", "GaussNoise", "Downscale"):
                assert new in entry.settable() or new == "fill", (name, new)


def test_a_dataset_declares_its_facts_without_being_read() -> None:
    facts = catalogue().entry("dataset", "CIFAR10").data_facts()
    assert dict(facts.splits) == {"train": 50000, "test": 10000}
    assert facts.class_names is not None
    assert len(facts.class_names) == 10
    assert facts.image_size == (32, 32)


def test_a_metric_declares_its_key_and_its_direction() -> None:
    assert catalogue().entry("metric", "TopKAccuracy").facts == {
        "key": "top_k_accuracy",
        "mode": "max",
        "range": [0.0, 1.0],
    }


def test_a_warm_catalogue_imports_nothing_heavy() -> None:
    code = (
        "import sys; from registry.catalogue.catalog import catalogue; catalogue().entry('optimizer', 'SGD');"
        "print([name for name in ('torch', 'numpy', 'pydantic', 'albumentations', 'cv2') if name in sys.modules])"
    )
    catalogue()
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout.strip() == "[]"


def test_an_import_path_of_an_adopted_component_is_that_component() -> None:
    assert known().entry("optimizer", "torch.optim:SGD").name == "SGD"
    assert known().entry("model", "torchvision.models:resnet18").name == "resnet18"


@pytest.mark.parametrize(
    "path", ["os:system", "subprocess:Popen", "a:b:c", ":x", "torch:load", "registry.catalogue.cache:folder"]
)
@pytest.mark.parametrize("slot", ["model", "transform", "optimizer"])
def test_an_import_path_from_elsewhere_is_refused_without_an_import(slot: str, path: str) -> None:
    before = set(sys.modules)
    with pytest.raises(RecipeError, match=r"import path|neither"):
        catalogue().entry(slot, path)
    assert {name for name in set(sys.modules) - before if not name.startswith("registry")} == set()


# ---------------------------------------------------------------------------------------------------------- the cache
PLUGIN = '''
from registry import component
from torch import nn


@component("model")
class Tiny(nn.Module):
    """A tiny model.

    Args:
        num_classes: classes.
        width: {doc}
    """

    def __init__(self, num_classes: int, width: int = 4) -> None:
        super().__init__()
'''


def test_a_changed_plugin_file_makes_the_catalogue_anew(tmp_path: Path, made: list[int]) -> None:
    file = tmp_path / "ops.py"
    file.write_text(PLUGIN.replace("{doc}", "how wide."))
    assert catalogue([file]).entry("model", "Tiny").own is False
    catalogue([file])
    assert len(made) == 2  # everything else, and the plug-in
    file.write_text(PLUGIN.replace("{doc}", "how wide it is, in channels."))
    catalogue([file])
    assert len(made) == 3  # the plug-in alone


HELPED = """
from registry import component
from torch import nn
from {helper} import WIDTHS


@component("model")
class Tiny(nn.Module):
    def __init__(self, num_classes: int, width: int = WIDTHS[0]) -> None:
        super().__init__()
"""


@pytest.fixture
def fresh_import(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Forget what was imported since the test began: what follows is as in another process."""
    before = set(sys.modules)

    def forget() -> None:
        importlib.invalidate_caches()
        for name in set(sys.modules) - before:
            del sys.modules[name]

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield forget
    forget()


@pytest.mark.parametrize(
    "between", ["", "import json\n\nfrom tiny_constants import WIDTHS\n"], ids=["a file beside it", "what that imports"]
)
def test_a_change_of_what_a_plugin_imports_is_seen(
    between: str,
    tmp_path: Path,
    made: list[int],
    fresh_import: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin, changed = tmp_path / "ops.py", tmp_path / "tiny_widths.py"
    plugin.write_text(HELPED.format(helper="tiny_widths"))
    if between:
        changed.write_text(between)
        changed = tmp_path / "tiny_constants.py"
    changed.write_text("WIDTHS = [4]\n")
    assert catalogue([plugin]).entry("model", "Tiny").parameter("width").default == 4  # type: ignore[union-attr]
    catalogue([plugin])
    assert len(made) == 2, "everything else, and the plug-in"

    fresh_import()
    changed.write_text("WIDTHS = [16]\n")
    assert catalogue([plugin]).entry("model", "Tiny").parameter("width").default == 16  # type: ignore[union-attr]
    assert len(made) == 3, "the plug-in alone"


def test_a_helper_that_two_plugins_share_counts_for_both(
    tmp_path: Path, made: list[int], fresh_import: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "shared_widths.py").write_text("WIDTHS = [4]\n")
    plugins = [tmp_path / "one.py", tmp_path / "two.py"]
    for plugin in plugins:
        plugin.write_text(HELPED.format(helper="shared_widths").replace("Tiny", plugin.stem.title()))
    catalogue(plugins)
    fresh_import()
    (tmp_path / "shared_widths.py").write_text("WIDTHS = [16]\n")
    listed = catalogue(plugins)
    assert [listed.entry("model", name).parameter("width").default for name in ("One", "Two")] == [16, 16]  # type: ignore[union-attr]


def test_a_package_counts_with_what_it_imports_by_relative_names(
    tmp_path: Path, made: list[int], fresh_import: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for folder in ("nets_of_mine", "sizes_of_mine"):
        (tmp_path / folder).mkdir()
    (tmp_path / "nets_of_mine" / "__init__.py").write_text(HELPED.format(helper=".relay"))
    (tmp_path / "nets_of_mine" / "relay.py").write_text("from sizes_of_mine.small import WIDTHS\n")
    (tmp_path / "sizes_of_mine" / "__init__.py").write_text("from . import small\n")
    (tmp_path / "sizes_of_mine" / "small.py").write_text("WIDTHS = [4]\n")
    catalogue(["nets_of_mine"])
    fresh_import()
    (tmp_path / "sizes_of_mine" / "small.py").write_text("WIDTHS = [16]\n")
    entry = catalogue(["nets_of_mine"]).entry("model", "Tiny")
    assert entry.parameter("width").default == 16  # type: ignore[union-attr]


def test_a_plugin_in_the_place_of_another_is_seen_whatever_its_size_and_date(tmp_path: Path, made: list[int]) -> None:
    file, other = tmp_path / "ops.py", tmp_path / "other.py"
    file.write_text(PLUGIN.replace("{doc}", "how wide."))
    other.write_text(PLUGIN.replace("{doc}", "how deep."))
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    catalogue([file])
    other.replace(file)
    catalogue([file])
    assert len(made) == 3


def test_a_damaged_cache_is_made_anew(own_cache: Path, made: list[int]) -> None:
    catalogue()
    (file,) = own_cache.glob("*.json")
    for damage in ("", "{", "[]", '{"key": 1, "records": 3}'):
        file.write_text(damage)
        cache._held.clear()  # as another process finds it
        catalogue()
    assert len(made) == 5
    assert json.loads(file.read_text())["records"] == []


def test_a_process_reads_it_once(own_cache: Path, made: list[int]) -> None:
    catalogue()
    (file,) = own_cache.glob("*.json")
    file.unlink()
    catalogue()
    assert made == [1]
    assert not file.exists()


def test_a_changed_version_makes_the_catalogue_anew(made: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue()
    monkeypatch.setattr(cache, "_version", lambda name: f"{name} 99")
    catalogue()
    assert len(made) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_means_no_cache_and_one_line_by_permission(
    tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "locked"))
    catalogue()
    assert made == [1]


def test_an_unwritable_folder_means_no_cache_and_one_line(
    tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(4):
        catalogue()
    assert made == [1], "kept in the process at least"
    (said,) = caplog.records
    assert "every start builds it anew" in said.message


def test_a_written_cache_leaves_no_part_behind(own_cache: Path, made: list[int]) -> None:
    catalogue()
    assert [path.suffix for path in own_cache.iterdir()] == [".json"]


def test_files_of_plugins_that_are_gone_do_not_pile_up(own_cache: Path, made: list[int], tmp_path: Path) -> None:
    for number in range(cache.KEPT + 3):
        (tmp_path / f"ops{number}.py").write_text("")
        catalogue([tmp_path / f"ops{number}.py"])
    assert len(list(own_cache.iterdir())) == cache.KEPT


def test_what_is_used_all_the_time_is_not_what_goes(own_cache: Path, made: list[int], tmp_path: Path) -> None:
    catalogue()
    (everything,) = own_cache.iterdir()
    for number in range(cache.KEPT + 3):
        (tmp_path / f"ops{number}.py").write_text("")
        catalogue([tmp_path / f"ops{number}.py"])
    assert everything.exists()


# ----------------------------------------------------------------------------------------------------------- plug-ins
def test_a_plugin_file_is_described_and_loaded(tmp_path: Path, made: list[int]) -> None:
    file = tmp_path / "ops.py"
    file.write_text(PLUGIN.replace("{doc}", "how wide."))
    entry = catalogue([str(file)]).entry("model", "Tiny")
    assert entry.target == f"{file}:Tiny"
    assert entry.parameter("width").doc == "how wide."  # type: ignore[union-attr]
    assert entry.parameter("num_classes").role == "supplied"  # type: ignore[union-attr]
    assert entry.load().__name__ == "Tiny"
    assert catalogue([str(file)]).entry("model", "ops:Tiny").name == "ops:Tiny"


def test_a_plugin_package_is_described_with_its_submodules(
    tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "shapes_plugin"
    package.mkdir()
    (package / "__init__.py").write_text("from shapes_plugin import nets\n")
    (package / "nets.py").write_text(PLUGIN.replace("{doc}", "how wide."))
    monkeypatch.syspath_prepend(str(tmp_path))
    listed = catalogue(["shapes_plugin"])
    assert listed.entry("model", "Tiny").target == "shapes_plugin.nets:Tiny"
    assert listed.entry("model", "shapes_plugin.nets:Tiny").slot == "model"
    with pytest.raises(RecipeError, match=r"is no optimizer"):
        listed.entry("optimizer", "shapes_plugin.nets:Tiny")
    with pytest.raises(RecipeError, match=r"shapes_plugin.nets has no 'Huge'"):
        listed.entry("model", "shapes_plugin.nets:Huge")


def test_a_plugin_that_cannot_be_imported_says_what_happened_and_where(tmp_path: Path, made: list[int]) -> None:
    file = tmp_path / "ops.py"
    file.write_text("import math\n\nimport no_such_package\n")
    with pytest.raises(RecipeError) as caught:
        catalogue([file])
    assert str(caught.value) == (
        f"the plug-in {file} cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"
        f" ({file}, line 3)"
    )


def test_a_plugin_that_wants_the_file_beside_it_is_told_how(
    tmp_path: Path, made: list[int], fresh_import: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "widths_beside.py").write_text("WIDTHS = [4]\n")
    (tmp_path / "ops.py").write_text(HELPED.format(helper="widths_beside"))
    with pytest.raises(RecipeError) as caught:
        catalogue([tmp_path / "ops.py"])
    assert caught.value.hint == f"widths_beside lies beside it, where Python does not look: set PYTHONPATH={tmp_path}"
    monkeypatch.syspath_prepend(str(tmp_path))
    assert catalogue([tmp_path / "ops.py"]).entry("model", "Tiny")


@pytest.mark.parametrize(
    ("name", "text"), [("./missing.py", "does not exist"), ("no_such_package", "is not installed")]
)
def test_a_plugin_that_is_not_there_says_so(name: str, text: str) -> None:
    with pytest.raises(RecipeError, match=text):
        catalogue([name])


def test_a_component_of_the_wrong_base_is_refused(tmp_path: Path, made: list[int]) -> None:
    file = tmp_path / "ops.py"
    file.write_text('from registry import component\n\n@component("optimizer")\nclass NoOptimizer:\n    pass\n')
    with pytest.raises(RecipeError, match=r"NoOptimizer is no optimizer\n.*torch.optim"):
        catalogue([file])


def test_an_unknown_slot_is_refused_where_it_is_written(tmp_path: Path, made: list[int]) -> None:
    file = tmp_path / "ops.py"
    file.write_text('from registry import component\n\n@component("modell")\nclass Net:\n    pass\n')
    with pytest.raises(RecipeError, match=r"there is no slot 'modell'.*ops.py, line 3"):
        catalogue([file])


def test_a_name_defined_twice_names_both_origins(tmp_path: Path, made: list[int]) -> None:
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text(PLUGIN.replace("{doc}", "how wide."))
    with pytest.raises(RecipeError) as caught:
        catalogue([tmp_path / "one.py", tmp_path / "two.py"])
    assert "one.py:Tiny" in str(caught.value)
    assert "two.py:Tiny" in str(caught.value)


def test_the_same_plugin_twice_is_fine(tmp_path: Path, made: list[int]) -> None:
    file = tmp_path / "ops.py"
    file.write_text(PLUGIN.replace("{doc}", "how wide."))
    assert catalogue([file, str(file)]).names("model") == ["Tiny"]


def test_an_installed_entry_point_comes_in_by_itself(
    tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "entry_plugin.py").write_text(PLUGIN.replace("{doc}", "how wide."))
    info = tmp_path / "entry_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: entry-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[recipe_trainer]\nany = entry_plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = catalogue().entry("model", "Tiny")
    assert entry.origin == "entry-plugin 1.0"
    assert entry.target == "entry_plugin:Tiny"


@pytest.mark.slow  # imports torch, torchvision and albumentations twice
def test_two_processes_may_build_the_cache_at_once(own_cache: Path) -> None:
    code = "from registry.catalogue.catalog import catalogue; print(len(catalogue().names('optimizer')))"
    runs = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert {run.communicate(timeout=120)[0].strip() for run in runs} == {str(len(catalogue().names("optimizer")))}
    assert len(list(own_cache.iterdir())) == 1


def test_what_a_renamed_argument_is_answered_with_exists():
    known = catalogue()
    names = {name for slot in SLOTS for name in known.names(slot)}
    for slot in SLOTS:
        for name in known.names(slot):
            entry = known.entry(slot, name)
            for old, now in entry.renamed.items():
                components = set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+", now))
                assert components <= names, f"{name}.{old} is answered with {now}"
