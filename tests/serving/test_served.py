"""What is served: a run and an exported file answer alike, and only a run says where it looked."""

from pathlib import Path

import pytest
from small_run import content, picture, train_small

from trainer.cli.main import main
from trainer.export.exported import load_exported
from trainer.run.loading import load

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
from trainer.serving.served import Asked, Served


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("small"))


@pytest.mark.slow  # an export proves itself in a process of its own
def test_an_exported_file_is_served_as_its_run_is_but_for_the_map(run, tmp_path):
    path = tmp_path / "small.pt2"
    assert main(["export", str(run), "--to", "torch", "--out", str(path)]) == 0
    asked = [
        Asked(content(picture("red", 1)), explained=True),
        Asked(b"no picture"),
        Asked(content(picture("blue", 2))),
    ]
    of_run, of_file = (Served(network, "small").answer(asked) for network in (load(run), load_exported(path)))
    for one, other in zip(of_run[::2], of_file[::2], strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
    assert (bool(of_run[0].map), bool(of_file[0].map), bool(of_run[2].map)) == (True, False, False)
    assert of_run[1].problem == of_file[1].problem == "the picture is damaged, cut short, or not an image (10 bytes)"


def test_one_that_suits_no_transform_is_told_alone(run):
    asked = [Asked(content(picture("red", 1))), Asked(content(picture("red", 2, 9, 9)))]
    good, small = Served(load(run), "small").answer(asked)
    assert good.problem == ""
    assert small.problem.startswith("the picture: CenterCrop cannot transform an image of shape (9, 9, 3)")
    assert small.probabilities is None
