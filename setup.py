"""Packaging of the declarative image-classification trainer."""

from pathlib import Path

from setuptools import find_packages, setup

RECIPES = "trainer.cli.templates.recipes"  # where a wheel has the shipped recipes, for `new`

setup(
    name="recipe-trainer",
    version="0.1.0",
    description="A declarative trainer for image classifiers: one YAML recipe, the whole experiment.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=[*find_packages(include=["trainer", "trainer.*", "registry", "registry.*"]), RECIPES],
    package_dir={RECIPES: "recipes"},
    package_data={
        "trainer": ["py.typed", "**/*.html", "**/*.css", "**/*.js", "**/*.md", "**/*.yaml"],
        "registry": ["py.typed"],
        RECIPES: ["*.yaml"],
    },
    install_requires=[
        "torch>=2.11",
        "torchvision",
        "albumentations>=2.0.8,<3",
        "pyyaml>=6",
        "matplotlib>=3.8",
        "tensorboard>=2.21",  # before, it needs pkg_resources, which setuptools no longer has
        "opencv-python-headless>=4.9",
        "safetensors>=0.4",
        "jinja2>=3.1",
        "markupsafe>=2.1",
        "pillow>=10",
        "typing-extensions>=4.5",
        "rich>=13",
        "click>=8.1.7",
        "numpy>=1.26",
    ],
    extras_require={
        "test": [
            "pytest>=8",
            "ruff>=0.6",
            "mypy>=1.11",
            "hypothesis>=6",
            "captum>=0.7",
            "jsonschema>=4.20",
            "axe-core-python>=0.1",
            "setuptools>=70.1",  # makes the wheel that is tested, without a second environment
        ],
        "bench": ["lightning>=2.4", "pytorch-ignite>=0.5", "grad-cam>=1.5"],
        "torchmetrics": ["torchmetrics>=1.4"],
        "timm": ["timm>=1.0"],
    },
    entry_points={"console_scripts": ["recipe-trainer = trainer.cli.main:main"]},
)
