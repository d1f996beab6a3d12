"""An ONNX file in whole numbers: ONNX Runtime's static quantisation, ranges taken from training pictures.

Convolutions and products of matrices of the network compute in 8 bits, weights per channel; what happens to a picture
before the network stays as it is.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.datasets.source import MissingSplit
from registry.errors import DataError, RecipeError
from trainer.data.fitting import Fitting
from trainer.experiment.dataset import split_opener
from trainer.experiment.trained import Trained

PICTURES = 256  # that the ranges are taken from
_AT_ONCE = 32
_OPERATIONS = ["Conv", "Gemm", "MatMul"]
_OUTSIDE = "steps."  # begins the names of modules before the network


def quantise(file: Path, trained: Trained, log: Callable[[str], None]) -> None:
    """Replace an ONNX file by one that computes in whole numbers; what it says of itself stays.

    Args:
        file: in fp32.
        trained: of the run, whose recipe names the training pictures.
        log: takes one line.

    Raises:
        DataError: there is no training picture.
        RecipeError: ONNX Runtime cannot quantise the network.
    """
    onnx = importlib.import_module("onnx")
    tools = importlib.import_module("onnxruntime.quantization")
    prepared = file.with_name("prepared.onnx")
    before = onnx.load(str(file))
    pictures = list(_batches(_training_pictures(trained)))
    log(f"quantising by {sum(map(len, pictures)):,} training pictures ...")
    logging.getLogger().setLevel(logging.ERROR)  # it advises to prepare the model, which is done
    try:
        tools.shape_inference.quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
        tools.quantize_static(
            str(prepared),
            str(file),
            _Reader(pictures, before.graph.input[0].name),
            quant_format=tools.QuantFormat.QDQ,
            op_types_to_quantize=_OPERATIONS,
            per_channel=True,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
            calibrate_method=tools.CalibrationMethod.MinMax,
            nodes_to_exclude=_outside(before, onnx.load(str(prepared))),
        )
    except Exception as error:  # it raises as each of its parts does
        said = " ".join(str(error).split())[:300]
        raise RecipeError(f"ONNX Runtime cannot quantise this network: {said}", "export it without --int8") from error
    made = onnx.load(str(file))
    del made.metadata_props[:]
    made.metadata_props.extend(before.metadata_props)
    onnx.save(made, str(file))


class _Reader:
    """Hands pictures to ONNX Runtime's calibration, which asks for them by this name."""

    def __init__(self, pictures: list[NDArray[np.uint8]], name: str) -> None:
        self._left, self._name = iter(pictures), name

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Return the next pictures by the input's name; None where there are no more."""
        some = next(self._left, None)
        return None if some is None else {self._name: some}


def _training_pictures(trained: Trained) -> Iterator[NDArray[np.uint8]]:
    """Yield pictures from all over the training split, as the network was given them."""
    try:
        source = split_opener(trained.recipe, trained.catalogue)("train")
    except MissingSplit as error:
        raise DataError(
            "there is no training split to take ranges from", "name the run's data: data.dataset.root=..."
        ) from error
    fitting = Fitting(trained.channels, trained.stored_size)
    count = len(source.targets)
    for index in np.linspace(0, count - 1, min(PICTURES, count)).astype(int):
        try:
            image = source.image(int(index))
        except DataError:
            if trained.recipe.data.on_bad_image == "fail":
                raise
            continue  # as the run did
        yield fitting.apply(image)


def _batches(pictures: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Yield pictures of one size together."""
    by_size: dict[tuple[int, ...], list[NDArray[np.uint8]]] = {}
    for picture in pictures:
        some = by_size.setdefault(picture.shape, [])
        some.append(picture)
        if len(some) == _AT_ONCE:
            yield np.stack(by_size.pop(picture.shape))
    yield from (np.stack(some) for some in by_size.values())


def _outside(model: Any, prepared: Any) -> list[str]:
    """Return the names of the nodes of a prepared model that stand before the network.

    Args:
        model: whose nodes say which module they are of.
        prepared: made of it; its nodes do not say so any more, but what they compute has kept its name.
    """
    before: set[str] = set()  # what is computed before the network
    for node in model.graph.node:
        scopes = " ".join(each.value for each in node.metadata_props)
        if _OUTSIDE in scopes or _OUTSIDE in node.name:
            before.update(node.output)
    found = []
    for node in reversed(prepared.graph.node):  # in the order of computation, so what a node takes comes after it here
        if before.intersection(node.output):
            before.update(node.input)
            found.append(node.name)
    return found
