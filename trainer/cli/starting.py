"""`new`: a template written where the user wants it, with the schema beside it from which editors complete."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

from registry.catalogue.suggest import nearest
from registry.errors import RecipeError, StorageError
from registry.program import MODULE, typed_as
from trainer.cli.templates import FOLDERS, SCRIPTS, SPACE, SPACE_FILES, TEMPLATES, space_text, template_text
from trainer.recipe.schema import schema
from trainer.recipe.schema_text import schema_text

SCHEMA = "recipe.schema.json"


def write_template(template: str = "", file: str = "") -> int:
    """Write a template to `file`, by default <template>.yaml, and the schema beside it; without a name list them.

    Raises:
        RecipeError: there is no such template, or the file exists.
        StorageError: a file cannot be written.
    """
    if not template:
        width = max(map(len, TEMPLATES))
        others = {name: words for name, (_, words) in {**TEMPLATES, **SCRIPTS}.items()} | FOLDERS
        print("\n".join(f"{name:<{width}}  {words}" for name, words in others.items()))
        print(f"\nwrite one: {typed_as()} new quickstart my_recipe.yaml")
        return 0
    if template in SCRIPTS:
        return _write_script(template, Path(file or SCRIPTS[template][0]))
    if template == SPACE:
        return _write_space(Path(file or SPACE))
    if template not in TEMPLATES:
        known = [*TEMPLATES, *SCRIPTS, *FOLDERS]
        near = nearest(template, known)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise RecipeError(f"there is no template {template!r}", hint)
    path = Path(file or f"{template}.yaml")
    if not _written(path, _adapted(template, path)):
        raise RecipeError(f"{path} exists", f"name another file: {typed_as()} new {template} other.yaml")
    beside = path.with_name(SCHEMA)
    if _written(beside, f"{schema_text(schema())}\n"):
        print(f"{beside} written, from which editors complete and check it")
    else:
        print(f"{beside} is there already and left as it is; anew: {typed_as()} schema > {_quoted(beside)}")
    print(f"{path} written; next: {typed_as()} validate {_quoted(path)}")
    print(f"then train it: {typed_as()} {_quoted(path)}")
    return 0


def _write_script(template: str, path: Path) -> int:
    """Write a script, which names itself and the program as it was called.

    Raises:
        RecipeError: the file exists.
        StorageError: it cannot be written.
    """
    text = template_text(template).replace(MODULE, typed_as()).replace(SCRIPTS[template][0], _quoted(path))
    if not _written(path, text):
        raise RecipeError(f"{path} exists", f"name another file: {typed_as()} new {template} other.sh")
    print(f"{path} written; set nodes, GPUs and time in it, then: sbatch {_quoted(path)} recipe.yaml")
    return 0


def _write_space(path: Path) -> int:
    """Write the files of a Space into a folder, or beside an app.py that is named.

    Raises:
        RecipeError: its app.py exists.
        StorageError: a file cannot be written.
    """
    app = path if path.suffix == ".py" else path / "app.py"
    try:
        app.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{app.parent}: cannot be made ({error.strerror})") from error
    for name in SPACE_FILES:
        file = app if name == "app.py" else app.with_name(name)
        if _written(file, space_text(name).replace(MODULE, typed_as())):
            print(f"{file} written")
        elif file == app:
            raise RecipeError(f"{app} exists", f"name another folder: {typed_as()} new {SPACE} other")
        else:
            print(f"{file} is there already and left as it is")
    model = _quoted(app.with_name("model.onnx"))
    print(f"put the network beside it: {typed_as()} export RUN --out {model}")
    print(f"try it: pip install -r {_quoted(app.with_name('requirements.txt'))}; python {_quoted(app)}")
    return 0


def _adapted(template: str, path: Path) -> str:
    """Return a template as it stands in `path`: its comments name that file and the program as it was called."""
    file, _ = TEMPLATES[template]
    text = re.sub(r"\$schema=\S+", f"$schema={SCHEMA}", template_text(template), count=1)
    return text.replace(MODULE, typed_as()).replace(file, _quoted(path))


def _quoted(path: Path) -> str:
    """Return the path as a shell takes it, on one line whatever its letters are."""
    return shlex.quote("".join(letter if letter.isprintable() else "?" for letter in str(path)))


def _written(path: Path, text: str) -> bool:
    """Write a file and return True, or return False where there is one.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        target = path.open("x", encoding="utf-8")
    except FileExistsError:
        return False
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        with target:
            target.write(text)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()  # a part of it would be in the way of the next try
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from error
    return True
