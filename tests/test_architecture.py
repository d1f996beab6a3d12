"""The shape of the code: arrows, file sizes, what the light commands may load."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path for package in ("registry", "trainer") for path in (ROOT / package).rglob("*.py"))
HEAVY = ("torch", "torchvision", "albumentations", "cv2", "matplotlib", "numpy", "tensorboard", "rich")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imports(path: Path, *, lazy: bool) -> set[str]:
    """Our modules that a file imports; those inside functions or for type checkers only where `lazy`."""
    found = set()

    def visit(nodes) -> None:
        for node in nodes:
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not lazy:
                visit(node.orelse)
            elif lazy or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                visit(ast.iter_child_nodes(node))

    visit(ast.parse(path.read_text(encoding="utf-8")).body)
    return {name for name in found if name in MODULES}


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


def test_what_is_imported_is_declared():
    call = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body[-1].value
    declared = {item.arg: item.value for item in call.keywords}
    needed = {re.match(r"[\w-]+", text)[0] for text in ast.literal_eval(declared["install_requires"])}
    extras = set(ast.literal_eval(declared["extras_require"]))
    imported = set().union(*(packages_of(path) for path in FILES))
    assert imported - needed - extras == set()


def test_registry_never_imports_trainer():
    wrong = {
        f"{module} -> {each}"
        for module, path in MODULES.items()
        for each in imports(path, lazy=True)
        if module.startswith("registry") and each.startswith("trainer")
    }
    assert wrong == set()


def test_there_is_no_import_cycle():
    arrows = {module: imports(path, lazy=False) - {module} for module, path in MODULES.items()}
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for each in sorted(arrows[module]):
                walk(each, (*trail, module))
            done.add(module)

    for module in arrows:
        walk(module, ())


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
