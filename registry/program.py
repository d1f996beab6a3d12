"""What the program is called and how it was called this time, for what it says of itself and what it records."""

from __future__ import annotations

import sys
from pathlib import Path

PROGRAM, MODULE = "recipe-trainer", "python -m trainer"
VERSION = "0.1.0"


def typed_as() -> str:
    """Return how the program was called: by its own name, or as a module."""
    return PROGRAM if Path(sys.argv[0]).stem == PROGRAM else MODULE
