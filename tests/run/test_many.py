"""Many pictures answered: in order, in bounded groups, each fault told of its own picture."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from small_run import picture, put, train_small

import trainer
from trainer.run import many
from trainer.run.asked import Asked
from trainer.run.loading import LoadedRun


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> LoadedRun:
    return trainer.load(train_small(tmp_path_factory.mktemp("small")))


def asked(paths: list[Path]) -> list[Asked]:
    return [Asked(path, path.name) for path in paths]


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Pictures of several sizes, with one that is damaged and one that is too small for the crop among them."""
    paths = [put(tmp_path / f"{seed}.png", picture("red", seed, 18 + seed % 3, 20)) for seed in range(9)]
    paths[3].write_bytes(paths[3].read_bytes()[:60])
    put(paths[6], picture("red", 6, 8, 8))
    return paths


@pytest.mark.parametrize("workers", [1, 3])
def test_answers_keep_their_order_and_are_those_of_each_picture_alone(run, pictures, workers):
    found = list(many.answers(run, asked(pictures), workers=workers))
    assert [each.asked.path for each in found] == pictures
    for each in found:
        if each.asked.path not in (pictures[3], pictures[6]):
            alone = run.probabilities(each.asked.path).numpy()[0]
            assert each.problem == ""
            assert each.probabilities == pytest.approx(alone, abs=1e-6)


def test_what_cannot_be_read_and_what_suits_no_transform_are_told_by_their_own_name(run, pictures):
    found = list(many.answers(run, asked(pictures), workers=2))
    assert [place for place, each in enumerate(found) if each.problem] == [3, 6]
    assert found[3].problem.startswith(f"{pictures[3]} is damaged, cut short, or not an image")
    assert found[6].problem.startswith(f"{pictures[6]}: CenterCrop cannot transform an image of shape (8, 8, 3)")
    assert found[3].probabilities is None


def test_groups_are_bounded_in_length_and_in_memory(run, pictures, monkeypatch):
    lengths = []
    whole = LoadedRun.probabilities
    monkeypatch.setattr(LoadedRun, "probabilities", lambda self, some: lengths.append(len(some)) or whole(self, some))
    good = [path for path in pictures if path not in (pictures[3], pictures[6])]
    monkeypatch.setattr(many, "GROUP", 3)
    assert len(list(many.answers(run, asked(good), workers=1))) == 7
    assert lengths == [3, 3, 1]
    lengths.clear()
    monkeypatch.setattr(many, "DECODED_AT_ONCE", 2 * 20 * 20)
    list(many.answers(run, asked(good), workers=1))
    assert max(lengths) == 2


def test_no_more_pictures_are_read_than_soon_wanted(run, pictures):
    begun: list[Path] = []

    def endless() -> Iterator[Asked]:
        while True:
            begun.append(pictures[0])
            yield Asked(pictures[0], "again")

    found = many.answers(run, endless(), workers=2)
    next(found)
    found.close()
    assert len(begun) <= many.GROUP + 2 * many.AHEAD + 2


def test_an_answer_that_is_not_finite_is_none_and_told(run, pictures, monkeypatch):
    whole = LoadedRun.probabilities

    def spoilt(self, some):
        found = whole(self, some)
        found[0] = float("nan")
        return found

    monkeypatch.setattr(LoadedRun, "probabilities", spoilt)
    found = list(many.answers(run, asked(pictures[:3]), workers=1))
    assert [each.problem for each in found] == [f"{pictures[0]}: the network's answer to it is not finite", "", ""]


def test_features_are_what_the_last_layer_was_given(run, pictures):
    (found,) = many.answers(run, asked(pictures[:1]), workers=1, features=True)
    head = run.model.fc
    assert found.features is not None
    assert found.features.shape == (head.in_features,)
    logits = found.features @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    assert logits == pytest.approx(run.logits(pictures[0]).numpy()[0], abs=1e-5)


def test_pictures_of_many_sizes_pass_together_where_the_transforms_give_them_one(run):
    each = [picture("red", seed, 18 + seed, 20) for seed in range(6)]
    assert [len(inputs) for inputs in run._batches(each)] == [6]
    alone = np.concatenate([run.logits(one).numpy() for one in each])
    assert run.logits(each).numpy() == pytest.approx(alone, abs=1e-6)
