"""A model card: README.md of a run in the form of the Hugging Face Hub, from what the run has recorded.

Owns what it says and the metadata above it. It looks at the run's files alone, not at its data, and tells nothing of
the machine's folders: of a path in the recipe only the name stays. How blocks become Markdown is report/markdown.py's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import yaml

from registry import files
from registry.contracts import Block, Code, Paragraph, Section, Table
from registry.datasets.decoding import FULL
from registry.errors import StorageError
from registry.printing import duration, few, literal, metric_text, metric_words, printable, sentence_case
from registry.program import PROGRAM
from registry.reports import scores
from trainer.experiment.trained import Trained
from trainer.recipe.recipe import Recipe, Reference, Spec
from trainer.report.answer import Answer, Tile
from trainer.report.audited import also_learnt
from trainer.report.cautions import of_few_images
from trainer.report.markdown import markdown
from trainer.run.environment import of_training
from trainer.run.folder import RunFolder
from trainer.run.loading import decoding_of
from trainer.run.predictions import read_answers
from trainer.run.summary import chosen, is_number

FILE = "README.md"  # what the Hub shows of a model
EXPORTED = "export/model.onnx"  # where `export` writes in a run
_HUB_DATASETS = {  # names there of data sets that are known by another one here
    "CIFAR10": "uoft-cs/cifar10",
    "CIFAR100": "uoft-cs/cifar100",
    "MNIST": "ylecun/mnist",
    "FashionMNIST": "zalando-datasets/fashion_mnist",
    "Food101": "ethz/food101",
    "ImageNet": "ILSVRC/imagenet-1k",
}
_HUB_METRICS = {"accuracy": "accuracy", "f1": "f1", "recall": "recall", "precision": "precision", "auroc": "roc_auc"}
_OWN_PICTURES = "imagefolder"  # the Hub's word for pictures that are no public data set
_NAMED = 100  # classes that are named without being folded away


def _so_far(history: Sequence[Mapping[str, float]], recipe: Recipe) -> dict[str, Any]:
    """Return what a summary says of epochs, from their rows: that of a run that was broken off lacks it."""
    best = chosen(history, recipe.train.best.metric, recipe.train.best.mode)
    rows = {"final": history[-1] if history else None, "best": best}
    return {name: row for name, row in rows.items() if row is not None}


@dataclass(frozen=True)
class Card:
    """What a run knows of its network.

    Attributes:
        folder: of the run.
        trained: what it was trained with.
        summary: what can be relied on in summary.json.
        environment: environment.json.
    """

    folder: RunFolder
    trained: Trained
    summary: Mapping[str, Any]
    environment: Mapping[str, Any]

    @classmethod
    def of(cls, folder: RunFolder) -> Card:
        """Read a run.

        Raises:
            CheckpointError: it has no whole checkpoint, or one of its files is damaged.
            RecipeError: its recipe no longer fits this version.
        """
        summary, trained = folder.read_summary(), Trained.read(folder.path)
        environment = of_training(folder.read_json("environment.json"), summary.get("epochs", 0))
        return cls(folder, trained, {**_so_far(folder.read_history(), trained.recipe), **summary}, environment)

    def text(self) -> str:
        """Return the card: YAML metadata between dashes, then Markdown."""
        recipe = self._recipe
        answer = Answer(recipe.description, tuple(self._tiles()), self._verdict(), tuple(self._cautions()))
        sections = (self._classes(), self._results(), self._use(), self._training())
        head = yaml.safe_dump(self.metadata(), sort_keys=False, allow_unicode=True, width=100)
        return f"---\n{head}# license: mit   # the licence is yours to choose\n---\n\n" + markdown(
            printable(recipe.name), answer, sections
        )

    # ------------------------------------------------------------------------------------------------- what was reached
    @property
    def _recipe(self) -> Recipe:
        return self.trained.recipe

    @property
    def _dataset(self) -> str:
        return self._recipe.data.dataset.type

    @property
    def _which(self) -> str:
        """Whose numbers count: those of the best weights where there are some."""
        return "best" if self.summary.get("best") else "final"

    @cached_property
    def _measured(self) -> dict[str, dict[str, float]]:
        """Return the metrics by split, the one that says most first."""
        found = {}
        tested = self.summary.get("test", {}).get(self._which)
        if isinstance(tested, Mapping) and tested:
            found["test"] = dict(tested)
        row = self.summary.get(self._which, {})
        chosen = {key.removeprefix("val/"): value for key, value in row.items() if key.startswith("val/")}
        if chosen:
            found[self._selected_on] = chosen
        return found

    @property
    def _selected_on(self) -> str:
        return str(self.summary.get("selected_on", "val"))

    def _images(self, split: str) -> int | None:
        count = self.summary.get("images", {}).get("val" if split == self._selected_on else split)
        return None if count is None else int(count)

    @property
    def _metric(self) -> str:
        """The metric that chose the best epoch, without its part: "accuracy"."""
        return self._recipe.train.best.metric.partition("/")[2]

    def _tiles(self) -> Iterator[Tile]:
        for split, values in self._measured.items():
            if self._metric in values:
                epoch = self.summary.get("best", {}).get("epoch")
                chosen = "chose the best epoch" if epoch is None else f"chose the best epoch, {epoch:g}"
                note = "held out, chose nothing" if split != self._selected_on else chosen
                value = values[self._metric]
                tile = Tile(f"{split} {metric_words(self._metric)}", metric_text(self._metric, value), note)
                yield Tile(tile.label, tile.value, tile.note, self._interval(split, self._metric, value))
        yield Tile("Classes", f"{len(self.trained.class_names):,}")
        if "parameters" in self.summary:
            yield Tile("Parameters", f"{self.summary['parameters']:,}")
        yield Tile("Pictures", _shape_words(self.trained))

    def _interval(self, split: str, metric: str, value: float) -> str:
        images = self._images(split)
        if images is None or images < 1 or not scores.is_share_of_images(metric):
            return ""
        low, high = scores.interval(value, images)
        return f"95 % interval {100 * low:.1f} to {100 * high:.1f} %, {images:,} images"

    def _verdict(self) -> str:
        words = f"**{literal(self._recipe.model.type)}** trained on **{literal(self._dataset)}**"
        origin = self._weights_words()
        return f"{words}{origin}. It tells which of {len(self.trained.class_names):,} classes a picture is of."

    def _weights_words(self) -> str:
        given = {**self._recipe.model.arguments}
        if self._recipe.train.start_from is not None or given.get("weights") or given.get("pretrained"):
            return ", from pretrained weights"
        return ", from random weights"

    def _cautions(self) -> Iterator[str]:
        """Say what to beware of, the gravest first."""
        if self.summary.get("fast"):
            yield "This was a fast run (`--fast`): its numbers say nothing of the network."
        status = str(self.summary.get("status", "not finished"))
        if status != "completed":
            yield f"The training is not complete ({literal(status)})."
        expect = self.summary.get("expect", {})
        for line in () if expect.get("not_judged") else expect.get("lines", ()):
            if not line["ok"]:
                yield f"The recipe expects {literal(line['text'])}, which was not reached."
        if self._selected_on == "test":
            yield "The best epoch was chosen on the test split: its numbers are somewhat too good for new pictures."
        elif "test" not in self._measured:
            images = self.summary.get("images")  # not told of a training that was broken off before its end
            spared = "test" in images if images else status != "completed"
            lacking = "The test split was not measured" if spared else "There is no held-out test"
            yield (
                f"{lacking}: the numbers are of {self._selected_on}, which chose the best epoch, and "
                "so somewhat too good for new pictures."
            )
        yield from self._audited()
        yield from self._of_few_images()
        warnings = self.summary.get("warnings")
        yield from (str(each) for each in warnings) if isinstance(warnings, list) else ()
        yield (
            "Every picture is answered with one of the classes, one of none of them too, and pictures of another kind "
            "than those of the training are answered worse than these numbers say."
        )

    def _audited(self) -> Iterator[str]:
        """Say what an audit found that makes the numbers other than they seem."""
        page = self.summary.get("report")
        found = page.get("audit") if isinstance(page, Mapping) else None
        if not isinstance(found, Mapping):
            return
        for part in self._measured:
            leaked, others = (found.get(name) for name in (f"leaked_{part}", f"{part}_accuracy_without_leaked"))
            if is_number(leaked) and leaked:
                instead = ""
                if isinstance(others, float) and is_number(others):
                    instead = f": without them its accuracy is **{metric_text('accuracy', others)}**"
                yield f"{int(leaked):,} of the {literal(part)} pictures {also_learnt(int(leaked))}{instead}."

    def _of_few_images(self) -> Iterator[str]:
        kept = read_answers(self.folder.path)
        if kept is not None:
            counts = np.bincount(kept.targets, minlength=len(kept.class_names)).tolist()
            yield from of_few_images(kept.class_names, counts, kept.split)

    # ---------------------------------------------------------------------------------------------------- its chapters
    def _classes(self) -> Section:
        names = [literal(printable(name)) for name in self.trained.class_names]
        said = ", ".join(names) if len(names) <= _NAMED else f"{few(names, _NAMED)} ({len(names):,} in all)"
        return Section("Classes", (Paragraph(said),), "classes")

    def _results(self) -> Section:
        blocks: list[Block] = []
        measured = self._measured
        keys = list(dict.fromkeys(key for values in measured.values() for key in values))
        if measured:
            headers = ("metric", *(f"{split}{self._counted(split)}" for split in measured))
            cells = ([metric_text(key, of[key]) if key in of else "" for of in measured.values()] for key in keys)
            rows = tuple((sentence_case(metric_words(key)), *texts) for key, texts in zip(keys, cells, strict=True))
            blocks.append(Table(f"Of the {self._which} weights", headers, rows, "l" + "r" * len(measured)))
        else:
            blocks.append(Paragraph("No epoch was finished."))
        page = self.summary.get("report")
        measured_there = page.get("calibration") if isinstance(page, Mapping) else None
        if isinstance(measured_there, Mapping) and is_number(measured_there.get("ece")):
            blocks.append(Paragraph(_calibration_words(measured_there)))
        blocks += self._by_class()
        return Section("Results", tuple(blocks), "results")

    def _counted(self, split: str) -> str:
        images = self._images(split)
        return "" if images is None else f", {images:,} images"

    def _by_class(self) -> Iterator[Block]:
        kept = read_answers(self.folder.path)
        if kept is None or len(kept.class_names) > _NAMED or kept.class_names != tuple(map(printable, self._names)):
            return
        classes = len(kept.class_names)
        counts = np.bincount(kept.targets * classes + kept.answers, minlength=classes * classes)
        each = scores.class_scores(counts.reshape(classes, classes))
        rows = tuple(
            (literal(name), f"{int(images):,}", *(("" if np.isnan(one) else f"{100 * one:.1f} %") for one in shares))
            for name, images, *shares in zip(
                kept.class_names, each.support, each.recall, each.precision, each.f1, strict=True
            )
        )
        yield Table(f"By class, on {kept.split}", ("class", "images", "recall", "precision", "F1"), rows, "lrrrr")

    @property
    def _names(self) -> Sequence[str]:
        return self.trained.class_names

    def _use(self) -> Section:
        loaded = (
            "import trainer\n\n"
            'run = trainer.load("FOLDER")  # where this card lies\n'
            'run.predict("picture.jpg")  # [[(class, probability), ...]]\n'
            'run.explain("picture.jpg").savefig("where_it_looked.png")'
        )
        colours = "L" if self.trained.channels == 1 else "RGB"
        decoding = decoding_of(self._recipe)
        file = EXPORTED if (self.folder.path / EXPORTED).exists() else PurePosixPath(EXPORTED).name
        exported = (
            "import json\n\n"
            "import numpy as np\n"
            "import onnxruntime\n"
            "from PIL import Image, ImageOps\n\n"
            f'session = onnxruntime.InferenceSession("{file}")\n'
            'names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])\n'
            'picture = ImageOps.exif_transpose(Image.open("picture.jpg")).convert("RGBA")  # upright\n'
            f'on_ground = Image.alpha_composite(Image.new("RGBA", picture.size, {decoding.ground_in_code}), picture)\n'
            f'pixels = np.asarray(on_ground.convert("{colours}"))\n'
            'answer = session.run(None, {"pictures": pixels.reshape(1, *pixels.shape[:2], -1)})[0][0]\n'
            "print(names[answer.argmax()], answer.max())"
        )
        blocks: list[Block] = [
            Paragraph(f"With {PROGRAM}, from this folder (it reads `resolved.yaml` and `checkpoints/best.pt`):"),
            Code(loaded, "python"),
            Paragraph(f"With ONNX Runtime alone, from the file that `{PROGRAM} export` writes:"),
            Code(exported, "python"),
        ]
        if self._recipe.data.store is not None:
            side = self._recipe.data.store.side
            blocks.append(
                Paragraph(
                    f"The run has seen pictures shrunk to a short side of {side}, which {PROGRAM} does by itself. "
                    "Before ONNX Runtime is asked, shrink what is larger in its proportions: "
                    "`pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)`."
                )
            )
        if decoding.white_level != FULL:
            blocks.append(Paragraph(decoding.deep_in_words))
        return Section("How to use it", tuple(blocks), "use")

    def _training(self) -> Section:
        rows = tuple((label, text) for label, text in self._facts() if text)
        plain = yaml.safe_load(self.folder.resolved.read_text(encoding="utf-8"))
        recipe = yaml.safe_dump(_public(plain), sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
        return Section("Training", (Table("", ("", ""), rows), Code(recipe, "yaml")), "training")

    def _facts(self) -> Iterator[tuple[str, str]]:
        recipe, about = self._recipe, self.summary
        counts = about.get("images", {})
        yield "Data", f"{literal(self._dataset)}" + "".join(f", {int(n):,} {part}" for part, n in counts.items())
        yield "Augmentation", ", ".join(self._spec_words(spec) for spec in recipe.data.augment) or "none"
        yield (
            "Preprocessing",
            ", ".join(self._spec_words(spec) for spec in (*recipe.data.eval, *recipe.data.preprocess)),
        )
        yield "Loss", self._spec_words(recipe.loss)
        yield "Optimizer", self._spec_words(recipe.optimizer)
        yield "Schedule", "" if recipe.scheduler is None else self._spec_words(recipe.scheduler)
        yield "Epochs", f"{about.get('epochs', recipe.train.epochs):,}, batches of {recipe.data.batch_size:,}"
        yield "Seed", str(about.get("seed", recipe.seed))
        yield "Precision", literal(str(about.get("precision", "")))
        yield "Machine", literal(str(about.get("device", "")))
        yield "Time", duration(about["seconds"]) if "seconds" in about else ""
        packages = self.environment.get("packages")
        named = packages if isinstance(packages, Mapping) else {}
        yield "Versions", literal(", ".join(f"{name} {version}" for name, version in named.items()))

    def _spec_words(self, spec: Spec) -> str:
        given = ", ".join(f"{name} {self._value_words(value)}" for name, value in spec.arguments.items())
        return literal(f"{spec.type} ({given})" if given else spec.type)

    def _value_words(self, value: Any) -> str:
        """Return an argument as it was in the training: of a run-time value what it stood for."""
        if isinstance(value, Spec):
            return value.type
        if isinstance(value, Reference):
            return self._value_words(self.trained.facts.get(value.path, f"${value.path}"))
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(map(self._value_words, value))}]"
        return f"{value:.4g}" if isinstance(value, float) else str(_public(value))

    # ---------------------------------------------------------------------------------------------- for the Hub's index
    def metadata(self) -> dict[str, Any]:
        """Return what the Hub indexes a model by."""
        hub = _HUB_DATASETS.get(self._dataset)
        base = self._base_model()
        metrics = [_HUB_METRICS[key] for key in next(iter(self._measured.values()), {}) if key in _HUB_METRICS]
        tags = ["image-classification", "pytorch", printable(self._recipe.model.type)]
        return {
            "library_name": PROGRAM,
            "pipeline_tag": "image-classification",
            "tags": tags,
            **({"datasets": [hub]} if hub else {}),
            **({"metrics": metrics} if metrics else {}),
            **({"base_model": base} if base else {}),
            **({"model-index": [self._index(hub)]} if metrics else {}),
        }

    def _base_model(self) -> str:
        """Return the model of the Hub that the weights come from; "" where they come from elsewhere."""
        spec = self._recipe.model
        tagged = spec.type.startswith("timm:") and "." in spec.type
        return f"timm/{spec.type.removeprefix('timm:')}" if tagged and spec.arguments.get("pretrained") else ""

    def _plain_dataset(self) -> str:
        own = self._dataset in ("ImageFolder", "Table")
        return _OWN_PICTURES if own else printable(self._dataset).lower()

    def _index(self, hub: str | None) -> dict[str, Any]:
        results = []
        for split, values in self._measured.items():
            measured = [
                {"type": _HUB_METRICS[key], "name": sentence_case(metric_words(key)), "value": round(float(value), 6)}
                for key, value in values.items()
                if key in _HUB_METRICS
            ]
            results.append(
                {
                    "task": {"type": "image-classification"},
                    "dataset": {"type": hub or self._plain_dataset(), "name": printable(self._dataset), "split": split},
                    "metrics": measured,
                }
            )
        return {"name": printable(self._recipe.name), "results": [each for each in results if each["metrics"]]}


def write_card(folder: RunFolder, file: Path | None = None) -> Path:
    """Write the card of a run, and return where it lies.

    Args:
        folder: of the run.
        file: where to write it; README.md of the run, which is written anew, where omitted.

    Raises:
        CheckpointError: the run has no whole checkpoint, or one of its files is damaged.
        RecipeError: its recipe no longer fits this version.
        StorageError: it cannot be written, or `file` is there already.
    """
    text = Card.of(folder).text()
    path = folder.path / FILE if file is None else file
    if file is not None and file.exists():
        raise StorageError(f"{file}: is there already", "name another file, or remove it")
    try:
        files.write(path, text.encode("utf-8"), below=path.parent if file else folder.path, lasting=False)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path


def _calibration_words(measured: Mapping[str, float]) -> str:
    """Say how far probabilities can be believed."""
    said = f"Expected calibration error: {measured['ece']:.4f}"
    if is_number(measured.get("ece_calibrated")) and is_number(measured.get("temperature")):
        said += (
            f", {measured['ece_calibrated']:.4f} where answers are `calibrated` by the temperature "
            f"{measured['temperature']:.3g}, fitted on validation"
        )
    return f"{said}. It says how far the answers' probabilities lie from the share that is right, on average."


def _shape_words(trained: Trained) -> str:
    channels, height, width = trained.input_shape
    colours = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
    return f"{width} x {height} pixels, {colours}"


_BEFORE_A_PATH = ("local-dir:", "file:")  # words that say a path follows


def _public(value: Any) -> Any:
    """Return a value of a recipe without the folders that lead to what it names."""
    if isinstance(value, Mapping):
        return {key: _public(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_public(item) for item in value]
    if isinstance(value, str) and value.startswith(_BEFORE_A_PATH):
        word, _, path = value.partition(":")
        return f"{word}:{_public(path)}"
    if isinstance(value, str):
        kinds = (PurePosixPath(value), PureWindowsPath(value))
        found = next((path for path in kinds if path.is_absolute() or value.startswith("~")), None)
        return value if found is None else f".../{found.name}"
    return value
