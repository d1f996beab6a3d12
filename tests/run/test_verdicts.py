"""The last lines of a run."""

from __future__ import annotations

from trainer.run.verdicts import ending


def test_a_number_that_is_not_defined_is_called_so(tmp_path):
    undefined = float("nan")
    summary = {
        "best": {"epoch": 1, "val/auroc": undefined, "val/tta/auroc": undefined},
        "test": {"best": {"auroc": undefined, "loss": 0.25}},
        "seconds": 1,
    }

    rows = ending(summary, "val/auroc", tmp_path)

    assert rows["best"] == "val/auroc undefined in epoch 1, val/tta/auroc undefined"
    assert rows["test, best weights"] == "auroc undefined, loss 0.2500"
