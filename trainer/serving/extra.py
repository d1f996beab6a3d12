"""Whether what a server needs is installed; imports none of it."""

from __future__ import annotations

import importlib.util

from registry.errors import RecipeError

PACKAGES = ("starlette", "uvicorn", "python_multipart", "prometheus_client")


def require_server() -> None:
    """Refuse to go on without the packages of the extra `serve`.

    Raises:
        RecipeError: one is not installed; it names the extra.
    """
    missing = [name.replace("_", "-") for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise RecipeError(f"serve needs {' and '.join(missing)}", 'install it: pip install "recipe-trainer[serve]"')
