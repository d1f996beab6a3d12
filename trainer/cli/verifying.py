"""`verify` of a run: do its files agree, and does repeating some of its epochs give the same?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.recipe.checks.expect import Verdict
from trainer.run.display import Display
from trainer.run.folder import RunFolder
from trainer.run.proving import broken, prove
from trainer.run.replaying import Replay
from trainer.run.verdicts import recorded


def verify_run(
    run: Path, overrides: Sequence[str], replays: int, seed: int | None, display: Display
) -> tuple[Sequence[Verdict], str, bool]:
    """Judge a run by what it recorded, and say whether its files agree and what repeating some epochs shows.

    Args:
        run: its folder.
        overrides: `key=value`: what is expected, and for a replay where the data lie.
        replays: epochs to repeat; 0 for none.
        seed: draws the same epochs again; None for others each time.
        display: shows what is found.

    Returns:
        Its verdicts, why they do not count ("" where they do), and whether all that was looked at holds.

    Raises:
        RecipeError: an override is of something that has been done.
        CheckpointError: the run has not been completed, or cannot be repeated.
    """
    expected = [each for each in overrides if each.partition("=")[0].partition(".")[0] == "expect"]
    places = [each for each in overrides if each not in expected]
    verdicts, not_judged = recorded(run, expected if replays else overrides)
    folder = RunFolder.open(run)
    checks = prove(folder)
    for check in checks:
        display.line(f"{check.name}: {check.outcome}, {check.text}")
    sound = not broken(checks)
    if replays and sound:
        replay = Replay(folder, places, display)
        drawn, kept = replay.draw(replays, seed), len(replay.epochs)
        display.line(
            f"repeating epoch {', '.join(map(str, drawn))}: {len(drawn)} of the {kept} that can be repeated "
            "(train.checkpoint.keep says how many are kept)"
        )
        for found in (*map(replay.repeat, drawn), replay.measure()):
            sound &= found.verdict != "other"
            display.line(f"{found.what}: {found.verdict}, {found.text}")
    return verdicts, not_judged, sound
