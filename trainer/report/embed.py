"""Pictures of the run folder as data URIs, so that the page is one file; as WebP where that is smaller."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

from PIL import Image

_QUALITY = 84
_EFFORT = 2  # of the encoder, 0 to 6: half the time of 4 for 4 % more bytes


def data_uri(path: Path) -> tuple[str, int, int]:
    """Return the PNG at `path` as a data URI, with its width and height in pixels."""
    png = path.read_bytes()
    picture = Image.open(BytesIO(png)).convert("RGB")
    webp = BytesIO()
    picture.save(webp, "webp", quality=_QUALITY, method=_EFFORT)
    kind, data = min(("png", png), ("webp", webp.getvalue()), key=lambda found: len(found[1]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}", picture.width, picture.height
