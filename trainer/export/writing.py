"""A module as a file: ONNX by torch's exporter, or the format of torch.export.

Owns how each is made and what is refused. Both hold everything in one file and take any number of pictures of any size
that the graph's own transforms take.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from registry.errors import RecipeError
from trainer.export.about import About
from trainer.export.formats import Format
from trainer.export.standalone import ABOUT
from trainer.export.whole import Whole

_MOST = 2**31 - 2**20  # bytes of an ONNX file, which a protocol buffer cannot exceed


def traced(whole: Whole, pictures: Tensor) -> ExportedProgram:
    """Return a module as a graph of any batch size, height and width.

    Args:
        whole: the module.
        pictures: two to trace it by, uint8 (2, H, W, C).

    Raises:
        RecipeError: the network cannot be traced.
    """
    free = {0: Dim("batch"), 1: Dim.DYNAMIC, 2: Dim.DYNAMIC}
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(whole, (pictures,), dynamic_shapes=(free,), strict=False)
    except Exception as error:  # it raises as the network's code does
        said = " ".join(str(error).split())[:400]
        raise RecipeError(
            f"the network cannot be traced into a graph: {type(error).__name__}: {said}",
            "its forward must not depend on the values of its input, nor on one size of it where data.eval leaves "
            "pictures of several",
        ) from error


def written(program: ExportedProgram, to: Format, about: About) -> bytes:
    """Return the file.

    Raises:
        RecipeError: the format has no form of an operation, or cannot hold so much.
    """
    return _as_onnx(program, about) if to == "onnx" else _as_torch(program, about)


def _as_torch(program: ExportedProgram, about: About) -> bytes:
    content = io.BytesIO()
    with _quiet():
        torch.export.save(program, content, extra_files={ABOUT: json.dumps(dict(about.texts))})
    return content.getvalue()


def _as_onnx(program: ExportedProgram, about: About) -> bytes:
    try:
        with _quiet():
            made = torch.onnx.export(
                program, dynamo=True, input_names=["pictures"], output_names=["probabilities"], verbose=False
            )
    except Exception as error:
        said = " ".join(str(error).split())[:400]
        raise RecipeError(f"ONNX has no form of this network: {said}", "--to torch keeps it as it is") from error
    assert made is not None
    model: Any = made.model_proto
    for name, text in about.texts.items():
        model.metadata_props.add(key=name, value=text)
    if (size := model.ByteSize()) > _MOST:
        raise RecipeError(f"the network has {size / 2**30:.1f} GiB, more than one ONNX file holds", "take --to torch")
    content: bytes = model.SerializeToString()
    return content


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep exporters from speaking of their own insides."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
