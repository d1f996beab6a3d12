"""`serve`: a trained network that answers over HTTP, from the command line."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from registry.errors import RecipeError
from registry.printing import one_line
from trainer.cli.answerers import answerer_of
from trainer.cli.console import Console
from trainer.cli.inputs import say
from trainer.export.formats import is_exported
from trainer.run.folder import RunFolder
from trainer.run.loading import LoadedRun
from trainer.serving.limits import Limits
from trainer.serving.served import Served
from trainer.serving.server import Address, serve, url_of

TOKEN = "RECIPE_TRAINER_TOKEN"  # of the environment: the token, where it must stay the same
_SHORTEST = 16  # letters of such a token


def serve_network(
    path: Path, address: Address, limits: Limits, calibrated: bool | None = None, abstain_below: float | None = None
) -> int:
    """Serve a run or an exported file until a signal comes.

    Args:
        path: of its folder, or of the file.
        address: where.
        limits: within which it answers.
        calibrated: as `trainer.load` takes it.
        abstain_below: as `trainer.load` takes it.

    Raises:
        CheckpointError: it is no run, or has no weights.
        RecipeError: nothing can listen there, or the token is no good one.
    """
    if not is_exported(path):
        RunFolder.open(path)  # what is no run is said before anything listens
    token = "" if address.is_local else _token()
    with address.opened() as listening:
        network = answerer_of(path, calibrated, abstain_below)
        title = network.recipe.name if isinstance(network, LoadedRun) else path.stem
        served = Served(network, title, path.name)
        served.warm_up()
        if token:
            say(
                f"warning: {address.host} can be reached from other machines, without encryption: who has the token "
                "may ask, and who listens on the way sees it; put a proxy with TLS before it"
            )
        answered = serve(served, listening, limits, token, lambda _: _say_where(served, url_of(listening), token))
    Console().line(f"stopped; {answered:,} requests for predictions were answered")
    return 0


def _say_where(served: Served, url: str, token: str) -> None:
    """Say what is where."""
    bearer = f" -H 'Authorization: Bearer {token}'" if token else ""
    Console().table(
        {
            "serving": f"{one_line(served.name)} ({len(served.class_names):,} classes)",
            "page": f"{url}/{f'?token={token}' if token else ''}",
            "program": f"curl --data-binary @picture.jpg -H 'Content-Type: image/jpeg'{bearer} {url}/predict",
            "numbers": f"{url}/metrics for Prometheus; {url}/health",
            "to stop": "Ctrl+C, or SIGTERM: what has come is answered",
        }
    )


def _token() -> str:
    """Return the token: the environment's, or a new one.

    Raises:
        RecipeError: the environment's could be guessed.
    """
    given = os.environ.get(TOKEN, "")
    if given and (len(given) < _SHORTEST or not given.isascii() or any(letter in ' ";,\\' for letter in given)):
        raise RecipeError(
            f"{TOKEN} is no good token", f'{_SHORTEST} letters or more without spaces and ";,\\\\; unset, one is made'
        )
    return given or secrets.token_urlsafe(24)
