"""Pictures of the run folder as data URIs, so that the page is one file; as WebP where that is smaller."""

from __future__ import annotations

import base64
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

_QUALITY = 84


@lru_cache(maxsize=512)
def data_uri(path: Path) -> tuple[str, int, int]:
    """Return the PNG at `path` as a data URI, with its width and height in pixels."""
    png = path.read_bytes()
    image = np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR))
    webp = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])[1].tobytes()
    kind, data = ("webp", webp) if len(webp) < len(png) else ("png", png)
    height, width = image.shape[:2]
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}", width, height
