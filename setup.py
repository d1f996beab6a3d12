"""Packaging of the declarative image-classification trainer."""

import re
from pathlib import Path

from setuptools import find_packages, setup

PROGRAM = Path(__file__).with_name("registry") / "program.py"  # what the program calls itself, too
VERSION = re.findall(r'^VERSION = "(.+)"$', PROGRAM.read_text(encoding="utf-8"), re.MULTILINE)[0]
RECIPES = "trainer.cli.templates.recipes"  # where a wheel has the shipped recipes, for `new`

setup(
    name="recipe-trainer",
    version=VERSION,
    description="A declarative trainer for image classifiers: one YAML recipe, the whole experiment.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=[*find_packages(include=["trainer", "trainer.*", "registry", "registry.*"]), RECIPES],
    package_dir={RECIPES: "recipes"},
    package_data={
        "trainer": ["py.typed", "**/*.html", "**/*.css", "**/*.js", "**/*.md", "**/*.yaml", "**/*.sh", "**/*.txt"],
        "registry": ["py.typed"],
        RECIPES: ["*.yaml"],
    },
    # A floor is the oldest release with which the tests pass: .ci/run installs them by tests/constraints-lowest.txt.
    install_requires=[
        "torch>=2.11",
        "torchvision>=0.26",
        "albumentations>=2.0.8,<3",
        "pyyaml>=6.0",
        "matplotlib>=3.8.4",
        "tensorboard>=2.21.0",  # before, it needs pkg_resources, which setuptools no longer has
        "opencv-python-headless>=5.0.0.93",  # before, affine maps round positions to 1/32 px
        "safetensors>=0.4.0",
        "jinja2>=3.1.0",
        "markupsafe>=2.1.0",
        "pillow>=11.3.0",
        "typing-extensions>=4.10.0",
        "rich>=13.0.0",
        "click>=8.1.7",
        "numpy>=2.0.0",
        "scipy>=1.13.0",
    ],
    extras_require={
        "test": [
            "recipe-trainer[torchmetrics,timm,search,parquet,export,serve]",
            "pytest>=8.0.0",
            "pytest-xdist>=3.6.1",
            "ruff>=0.13.0",
            "mypy>=2.4",
            "hypothesis>=6.0.0",
            "captum>=0.7.0",
            "jsonschema>=4.20.0",
            "axe-core-python>=0.1.0",
            "nbclient>=0.10.0",  # runs the notebook, in a kernel of its own
            "ipykernel>=6.29.0",
            "pandas>=2.2.2",  # which the notebook shows a run's history with
            "setuptools>=77.0.3",  # makes the wheel that is tested; torch 2.14 asks for it
        ],
        "bench": ["lightning>=2.4", "pytorch-ignite>=0.5", "grad-cam>=1.5"],
        "serve": [
            "starlette>=0.41.0",
            "uvicorn>=0.30.0",
            "python-multipart>=0.0.18",  # reads forms for Starlette
            "prometheus-client>=0.20.0",
            "anyio>=4.0.0",
        ],
        "torchmetrics": ["torchmetrics>=1.4.0"],
        "mlflow": ["mlflow>=3.0.0"],
        "wandb": ["wandb>=0.20.0"],
        "search": ["optuna>=5.0.0"],
        "parquet": ["pyarrow>=17.0.0"],
        "export": ["onnx>=1.20.0", "onnxscript>=0.7.0", "onnxruntime>=1.23.0"],
        "timm": ["timm>=1.0.21"],  # before, its models cannot be built without memory, as a trial does
    },
    entry_points={"console_scripts": ["recipe-trainer = trainer.cli.main:main"]},
)
