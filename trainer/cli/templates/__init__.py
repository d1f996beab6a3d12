"""Recipes to start from, and what else `new` writes: which there are, and the text of each.

One was written to start from and lies beside this file; the others are the shipped recipes that stand alone, without
`extends`. A checkout has those in `recipes/` at its root, an installed package beside this file. Writes nothing.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
TEMPLATES = {  # name -> file, what it is
    "quickstart": ("recipes/quickstart.yaml", "drawn shapes, no download, a minute on two cores"),
    "cifar": ("cifar.yaml", "ResNet18 on CIFAR-10, learning rate found first"),
    "own_images": ("recipes/own_images.yaml", "a folder of your own pictures, trained from scratch"),
    "transfer": ("recipes/transfer.yaml", "your own pictures, a network that knows ImageNet"),
    "mnist": ("recipes/mnist.yaml", "handwritten digits, a small network"),
    "cifar10_resnet18": ("recipes/cifar10_resnet18.yaml", 'the course report "Session 10" as it declares itself'),
    "cifar10_resnet18_original": ("recipes/cifar10_resnet18_original.yaml", "what that report's code really did"),
    "cifar10_resnet18_fast": ("recipes/cifar10_resnet18_fast.yaml", "ResNet18 on CIFAR-10 in eight epochs"),
    "cifar10_speed": ("recipes/cifar10_speed.yaml", "94 % on CIFAR-10 in eleven minutes on two cores"),
    "cifar100_resnet18": ("recipes/cifar100_resnet18.yaml", "ResNet18 on CIFAR-100"),
}

SCRIPTS = {"slurm": ("slurm.sh", "a script for sbatch: a recipe on the nodes and GPUs of a Slurm cluster")}

SPACE = "space"
SPACE_FILES = {"app.py": "app.txt", "requirements.txt": "requirements.txt", "README.md": "README.md"}  # as kept here
FOLDERS = {
    SPACE: "a page to try a network on, for a Hugging Face Space: app.py with Gradio, and what belongs beside it"
}
EVERY_TEMPLATE = (*TEMPLATES, *SCRIPTS, *FOLDERS)  # names of all


def space_text(file: str) -> str:
    """Return one of the files of a Space as it is kept."""
    return (FOLDER / SPACE / SPACE_FILES[file]).read_text(encoding="utf-8")


def template_text(template: str) -> str:
    """Return a template as it is kept."""
    file, _ = {**TEMPLATES, **SCRIPTS}[template]
    checkout = FOLDER.parents[2]
    path = next(path for path in (FOLDER / file, checkout / file) if path.exists())
    return path.read_text(encoding="utf-8")
