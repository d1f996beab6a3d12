"""Answers from an exported file, without the program that made it: NumPy, and ONNX Runtime or torch.

    answer, about = opened("model.onnx")
    answer(pictures)                          # uint8 (N, H, W, C) -> float32 (N, classes)

Run as a program with a file's path it answers the arrays that come through its standard input, each behind its length
in bytes; so an exported file is proved in a process that has imported nothing else. It imports nothing of ours.
"""

import io
import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

ABOUT = "about.json"  # in a file of torch.export
NO_PICKLES = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # has torch.load refuse whatever is not tensors
PICKLES = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"  # the opposite, which torch refuses beside it
Answer = Callable[[np.ndarray], np.ndarray]


def opened(path: str | Path) -> tuple[Answer, dict[str, str]]:
    """Open a file; return what answers pictures, and what the file says of itself."""
    return _onnx(str(path)) if str(path).endswith(".onnx") else _torch(str(path))


def _onnx(path: str) -> tuple[Answer, dict[str, str]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait leave others the cores
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def answer(pictures: np.ndarray) -> np.ndarray:
        (found,) = session.run(None, {name: pictures})
        return np.asarray(found)

    return answer, dict(session.get_modelmeta().custom_metadata_map)


def _torch(path: str) -> tuple[Answer, dict[str, str]]:
    import torch

    extra = {ABOUT: ""}
    before = {name: os.environ.pop(name, None) for name in (NO_PICKLES, PICKLES)}
    os.environ[NO_PICKLES] = "1"
    try:
        network = torch.export.load(path, extra_files=extra).module()
    finally:
        os.environ.pop(NO_PICKLES)
        os.environ.update({name: value for name, value in before.items() if value is not None})

    def answer(pictures: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(np.ascontiguousarray(pictures))))

    return answer, json.loads(extra[ABOUT] or "{}")


# ------------------------------------------------------------------------------------------------------------ a process
def send(stream: IO[bytes], array: np.ndarray) -> None:
    """Write an array behind its length in bytes."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    stream.write(struct.pack("<Q", content.tell()))
    stream.write(content.getbuffer())
    stream.flush()


def receive(stream: IO[bytes]) -> np.ndarray | None:
    """Read the next array; None where there is no more."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    content = stream.read(struct.unpack("<Q", head)[0])
    return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))


def main() -> None:
    """Answer arrays from standard input until it ends."""
    out = sys.stdout.buffer
    sys.stdout = sys.stderr  # what a library prints is no answer
    answer, _ = opened(sys.argv[1])
    while (pictures := receive(sys.stdin.buffer)) is not None:
        send(out, answer(pictures))


if __name__ == "__main__":
    main()
