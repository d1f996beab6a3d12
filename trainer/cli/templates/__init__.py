"""`new`: recipes to start from, and writing one where the user wants it. The recipes lie beside this file."""

from __future__ import annotations

from pathlib import Path

from registry.catalogue.suggest import nearest
from registry.errors import RecipeError, StorageError

FOLDER = Path(__file__).parent
WHAT = {
    "cifar": "ResNet18 on CIFAR-10, learning rate found first",
    "own_images": "a folder of your own pictures, trained from scratch",
    "transfer": "a folder of your own pictures, adapting a network that knows ImageNet",
}


def write_template(template: str = "", file: str = "") -> int:
    """Write a template to `file`, by default <template>.yaml; without a name list what there is.

    Raises:
        RecipeError: there is no such template, or the file exists.
        StorageError: the file cannot be written.
    """
    if not template:
        width = max(map(len, WHAT))
        print("\n".join(f"{name:<{width}}  {words}" for name, words in WHAT.items()))
        print("write one: python -m trainer new cifar my_recipe.yaml")
        return 0
    if template not in WHAT:
        near = nearest(template, WHAT)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(WHAT)}"
        raise RecipeError(f"there is no template {template!r}", hint)
    path = Path(file or f"{template}.yaml")
    text = (FOLDER / f"{template}.yaml").read_text(encoding="utf-8")
    try:
        with path.open("x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError:
        raise RecipeError(f"{path} exists", "name another file: python -m trainer new cifar other.yaml") from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from error
    print(f"{path} written; next: python -m trainer validate {path}")
    return 0
