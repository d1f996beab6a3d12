"""The shape of the code: arrows, file sizes, what the light commands may load."""

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path for package in ("registry", "trainer") for path in (ROOT / package).rglob("*.py"))
HEAVY = ("torch", "torchvision", "albumentations", "cv2", "matplotlib", "numpy", "tensorboard", "rich")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


# Which folder may know which: the house on one page. A folder may always use itself; `registry` alone means its
# contracts, errors and the like; "registry.*" any folder of it. Imports inside functions and for type checkers count.
MAY_KNOW = {
    "registry": {"registry.catalogue"},
    "registry.catalogue": {"registry", *(f"registry.{one}" for one in ("datasets", "models", "transforms"))},
    "registry.callbacks": {"registry", "registry.catalogue"},
    "registry.datasets": {"registry", "registry.catalogue"},
    "registry.metrics": {"registry", "registry.catalogue"},
    "registry.models": {"registry", "registry.catalogue"},
    "registry.optimizers": {"registry.catalogue"},
    "registry.reports": {"registry", "registry.catalogue"},
    "registry.transforms": {"registry", "registry.catalogue"},
    "trainer": {"registry", "trainer.cli", "trainer.run", "trainer.experiment", "trainer.recipe"},
    "trainer.cli": {
        "registry.*",
        "trainer.comparison",
        "trainer.data",  # the command `cache` lists what it keeps
        "trainer.export",
        "trainer.run",
        "trainer.stages",
        "trainer.experiment",
        "trainer.engine",
        "trainer.report",
        "trainer.recipe",
        "trainer.search",
        "trainer.serving",
    },
    "trainer.export": {
        "registry.*",
        "trainer.run",
        "trainer.experiment",
        "trainer.engine",
        "trainer.data",
        "trainer.recipe",
    },
    "trainer.comparison": {"registry.*", "trainer.run", "trainer.engine", "trainer.report", "trainer.recipe"},
    "trainer.serving": {"registry.*", "trainer.run", "trainer.report"},
    "trainer.search": {
        "registry.*",
        "trainer.comparison",
        "trainer.run",
        "trainer.experiment",
        "trainer.engine",
        "trainer.report",
        "trainer.recipe",
    },
    "trainer.run": {
        "registry.*",
        "trainer.stages",
        "trainer.experiment",
        "trainer.engine",
        "trainer.data",
        "trainer.report",
        "trainer.recipe",
    },
    "trainer.stages": {
        "registry.*",
        "trainer.audit",
        "trainer.experiment",
        "trainer.engine",
        "trainer.data",
        "trainer.recipe",
    },
    "trainer.audit": {"registry.*", "trainer.data"},
    "trainer.experiment": {"registry.*", "trainer.engine", "trainer.data", "trainer.recipe"},
    "trainer.engine": {"registry", "trainer.data"},
    "trainer.data": {"registry.*", "trainer.recipe"},
    "trainer.report": {"registry.*"},
    "trainer.recipe": {"registry", "registry.catalogue"},
}
# Imports inside functions, by who makes them, with the reason; every other import stands at the top of its file.
LAZY = {
    "trainer": "a door that imports torch only when something is asked for",
    "trainer.cli.main": "light commands answer without torch: a command loads what it needs",
    "trainer.cli.options": "a run of one process knows nothing of several",
    "trainer.cli.inputs": "reading the text of a recipe needs no torch",
    "trainer.cli.syntax": "most mistakes are named without the language of recipes",
}


@dataclass(frozen=True)
class Import:
    """One module of ours that another names."""

    source: str
    target: str
    inside: bool  # a function
    typing: bool  # for type checkers only


def imports_of(module: str) -> set[Import]:
    found: set[Import] = set()

    def visit(nodes, inside: bool, typing: bool) -> None:
        for node in nodes:
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [_module(f"{node.module}.{alias.name}", node.module) for alias in node.names]
            found.update(Import(module, name, inside, typing) for name in names if name in MODULES)
            checks = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            visit(ast.iter_child_nodes(node), inside or function, typing or checks)

    visit(ast.parse(MODULES[module].read_text(encoding="utf-8")).body, False, False)
    return {each for each in found if each.target != module}


def _module(longer: str, shorter: str) -> str:
    return longer if longer in MODULES else shorter


def folder_of(module: str) -> str:
    """The room a module lies in; the rooms within `recipe` are one, and so are files beside a package's folders."""
    parts = module.split(".")
    if MODULES[module].name != "__init__.py":
        parts = parts[:-1]
    return ".".join(parts[:2])


IMPORTS = {each for module in MODULES for each in imports_of(module)}


def packages_of(path: Path) -> set[str]:
    """The packages of other people that a file imports, as pip knows them."""
    known_otherwise = {"PIL": "pillow", "cv2": "opencv-python-headless", "yaml": "pyyaml"}
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
        found.update(name.partition(".")[0] for name in names)
    foreign = found - set(sys.stdlib_module_names) - {"registry", "trainer"}
    return {known_otherwise.get(name, name).replace("_", "-") for name in foreign}


BY_NAME = {"albumentations"}  # adopted: imported where a recipe names one of its transforms


def test_what_is_declared_is_what_is_imported():
    call = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body[-1].value
    declared = {item.arg: item.value for item in call.keywords}
    needed = {re.match(r"[\w-]+", text)[0] for text in ast.literal_eval(declared["install_requires"])}
    extras = {
        re.match(r"[\w-]+", text)[0]
        for texts in ast.literal_eval(declared["extras_require"]).values()
        for text in texts
    }
    imported = set().union(*(packages_of(path) for path in FILES))
    assert imported - extras == needed - BY_NAME


def test_a_folder_knows_only_those_that_the_table_allows():
    wrong = sorted(
        f"{each.source} -> {each.target}"
        for each in IMPORTS
        if (here := folder_of(each.source)) != (there := folder_of(each.target))
        and there not in MAY_KNOW[here]
        and not (there.startswith("registry") and "registry.*" in MAY_KNOW[here])
    )
    assert wrong == []


def test_the_table_allows_nothing_that_nobody_uses():
    used = {(folder_of(each.source), folder_of(each.target)) for each in IMPORTS}
    idle = [
        f"{here} -> {there}"
        for here, known in MAY_KNOW.items()
        for there in known
        if not any(a == here and (b == there or (there == "registry.*" and b.startswith("registry"))) for a, b in used)
    ]
    assert idle == []


def test_no_folder_of_the_trainer_knows_in_a_circle_and_no_file_does():
    """Imports inside functions count: a circle that hides in one is a circle. Those for type checkers run never."""
    files = {
        module: {each.target for each in IMPORTS if each.source == module and not each.typing} for module in MODULES
    }
    folders: dict[str, set[str]] = {}
    for each in IMPORTS:
        here, there = folder_of(each.source), folder_of(each.target)
        if here.startswith("trainer.") and here != there:
            folders.setdefault(here, set()).add(there)
    for arrows in (files, folders):
        assert circle(arrows) == ()


def circle(arrows) -> tuple[str, ...]:
    """Return one way from a name back to itself; () where there is none."""
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> tuple[str, ...]:
        if name in trail:
            return (*trail[trail.index(name) :], name)
        if name in done:
            return ()
        for each in sorted(arrows.get(name, ())):
            if found := walk(each, (*trail, name)):
                return found
        done.add(name)
        return ()

    return next((found for name in sorted(arrows) if (found := walk(name, ()))), ())


def test_a_circle_would_be_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ("b", "c", "b")
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == ()


def test_imports_inside_functions_have_a_reason():
    inside = {each.source for each in IMPORTS if each.inside and each.source.startswith("trainer")}
    assert inside == set(LAZY)


SEVERAL = {"trainer.engine.group", "trainer.run.joining", "trainer.cli.launching"}


def test_a_run_of_one_process_imports_nothing_of_several():
    outside = {(each.source, each.target) for each in IMPORTS if each.target in SEVERAL and each.source not in SEVERAL}
    assert outside == {("trainer.cli.main", "trainer.run.joining"), ("trainer.cli.options", "trainer.cli.launching")}
    assert all(
        each.inside
        for each in IMPORTS
        if each.source in {"trainer.cli.main", "trainer.cli.options"} and each.target in SEVERAL
    )


@pytest.mark.parametrize("name", ["loop", "step", "guard", "meters", "evaluation", "precision", "averaging"])
def test_the_engine_does_not_ask_how_many_processes_there_are(name):
    text = (ROOT / "trainer" / "engine" / f"{name}.py").read_text(encoding="utf-8")
    assert re.findall(r"rocesses\.(?:count|rank|is_first|sharing)\b", text) == []


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_file_says_what_it_owns(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} says nothing of itself"


@pytest.mark.parametrize(
    "code",
    [
        "import registry, trainer",
        "from trainer.cli.main import main; main(['list', 'optimizer'])",
        "from trainer.cli.main import main; main(['describe', 'SGD'])",
        "from trainer.cli.main import main; main(['validate', '--quick', 'recipes/cifar10_resnet18.yaml'])",
        "from trainer.cli.main import main; main(['show', 'recipes/cifar10_resnet18.yaml'])",
    ],
)
def test_light_commands_load_nothing_heavy(code):
    from registry.catalogue.catalog import catalogue

    catalogue()  # warm the cache, which is what makes them light
    script = f"import sys\n{code}\nprint('LOADED', sorted({HEAVY!r} & sys.modules.keys()))".replace(
        f"{HEAVY!r} &", f"set({HEAVY!r}) &"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_the_page_on_the_house_names_files_and_folders_that_are_there():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:trainer|registry|tests)/[\w/.]*)`", text))
    assert len(named) > 40
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    tree = text.partition("```\n")[2].partition("```")[0]
    rooms = set(re.findall(r"^  (\w+)/ ", tree, re.MULTILINE))
    assert rooms >= {folder.partition(".")[2] for folder in MAY_KNOW if folder.startswith("trainer.")}
