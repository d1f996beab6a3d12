"""One experiment on any number of processes: the images, the rates, the weights and the numbers are those of one."""

import json
from pathlib import Path

import pytest
import torch
from processes_kit import apart, folder_in, last_of, place, run
from torch import nn

from trainer.engine.group import _may_leave_parameters_out

HARD = [
    "data.batch_size=6",  # does not divide by 4, and the last batch has 5 images
    "data.sampler=balanced",
    "train.accumulate=2",
    "train.clip_norm=0.5",
    "train.ema.decay=0.9",
    "train.mix={type: MixUp, alpha: 0.4}",
    "regularizers=[{type: L1, strength: 0.001}, {type: L2, strength: 0.01}]",
    "loss={type: CrossEntropyLoss, weight: balanced, label_smoothing: 0.1}",
    "scheduler={type: OneCycleLR, max_lr: 0.1}",
    "lr_finder={steps: 12}",
    "train.tta=flip_translate",
    "train.epochs=7",
    "train.log_every=1",
    "model.tells=true",
    "callbacks=[{type: Rates}]",
]
LENT = [
    *("data.batch_size=4", "data.eval_batch_size=3", "train.epochs=3", "train.mix={type: CutMix}"),
    "loss={type: CrossEntropyLoss, weight: balanced}",
]


def trained(folder: Path, count: int, overrides: list[str]) -> Path:
    run(place(folder), ["recipe.yaml", *overrides], count)
    return folder


def seen(folder: Path, ranks: int) -> list[list[str]]:
    """Digests of the images of every training batch, all processes together.

    Several begin with a pass over zeros, which tells whether all parameters are used.
    """
    lines = [(folder / f"seen-{rank}.txt").read_text().splitlines()[ranks > 1 :] for rank in range(ranks)]
    return [sorted(" ".join(shares).split()) for shares in zip(*lines, strict=True)]


@pytest.fixture(scope="module")
def hard(tmp_path_factory) -> dict[int, Path]:
    """The hardest recipe, on one to four processes."""
    root = tmp_path_factory.mktemp("hard")
    return {count: trained(root / str(count), count, HARD) for count in (1, 2, 3, 4)}


@pytest.mark.parametrize("count", [2, 3, 4])
def test_weights_are_those_of_one_process(hard, count):
    """56 steps with all that acts on gradients; weights and their average."""
    one, several = last_of(hard[1]), last_of(hard[count])
    assert one["progress"]["step"] == several["progress"]["step"] == 56
    assert apart(several["model"], one["model"]) < 1e-5
    assert apart(several["averaging"]["average"], one["averaging"]["average"]) < 1e-5


@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_batch_has_the_same_mixed_and_augmented_images(hard, count):
    assert seen(hard[count], count) == seen(hard[1], 1)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_step_has_the_same_rate(hard, count):
    assert (hard[count] / "rates.txt").read_text() == (hard[1] / "rates.txt").read_text()


@pytest.mark.parametrize("count", [2, 3, 4])
def test_losses_metrics_and_the_finders_curve_are_over_all_images(hard, count):
    """Shares are counts over counts, so they are equal; losses are sums in another order."""
    rows = [read_rows(hard[each]) for each in (1, count)]
    for one, several in zip(*rows, strict=True):
        assert one.keys() == several.keys()
        for key in one.keys() - {"seconds", "weights", "link"}:  # the last two are digests, of every bit
            assert several[key] == (one[key] if "accuracy" in key else pytest.approx(one[key], rel=1e-4)), key
    tests = [summary_of(hard[each])["test"]["final"] for each in (1, count)]
    assert tests[1] == pytest.approx(tests[0], rel=1e-4)
    curves = [json.loads((folder_in(hard[each]) / "lr_finder.json").read_text())["losses"] for each in (1, count)]
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)


def read_rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder_in(folder) / "metrics.jsonl").read_text().splitlines()]


def summary_of(folder: Path) -> dict:
    return json.loads((folder_in(folder) / "summary.json").read_text())


def test_only_the_first_process_writes_and_speaks(hard):
    """Same files as one process leaves; nobody else had anything to say."""
    assert {path.name for path in folder_in(hard[4]).iterdir()} == {path.name for path in folder_in(hard[1]).iterdir()}
    logs = [path.read_text() for path in hard[4].glob("process-*.log")]
    assert sorted("run folder" in text for text in logs) == [False, False, False, True]


def test_the_log_and_the_environment_say_how_the_work_is_shared(hard):
    log = (folder_in(hard[4]) / "log.txt").read_text()
    assert "4 processes by gloo; each takes 1 or 2 images of a batch" in log
    about = json.loads((folder_in(hard[4]) / "environment.json").read_text())["processes"]
    assert about == {"count": 4, "machines": 1, "backend": "gloo", "share": "1 or 2"}
    assert "processes" not in json.loads((folder_in(hard[1]) / "environment.json").read_text())


def test_a_batch_of_fewer_images_than_processes_is_learnt_from_as_on_one(tmp_path):
    """95 images in batches of 4 end with 3, which the fourth process has no share of; so do those of validation."""
    one, four = (trained(tmp_path / str(count), count, LENT) for count in (1, 4))
    assert apart(last_of(four)["model"], last_of(one)["model"]) < 1e-5
    assert [row["val/accuracy"] for row in read_rows(four)] == [row["val/accuracy"] for row in read_rows(one)]


def test_a_parameter_that_no_forward_pass_uses_is_left_as_it_is(tmp_path):
    one, two = (trained(tmp_path / str(count), count, ["model={type: PartlyIdle}"]) for count in (1, 2))
    assert apart(last_of(two)["model"], last_of(one)["model"]) < 1e-5


def test_a_layer_that_is_left_out_by_chance_is_left_as_it_is(tmp_path):
    """By the one draw of any look beforehand it may be there."""
    net = ["model={type: SkipsByChance}", "train.epochs=2"]
    one, two = (trained(tmp_path / str(count), count, net) for count in (1, 2))
    assert len(read_rows(two)) == len(read_rows(one)) == 2


def test_statistics_of_a_norm_are_means_over_the_processes_and_alike_in_all(tmp_path):
    """BatchNorm normalises by each process's share, so weights are not those of one process, but of any two again."""
    net = ["model={type: SmallCNN, width: 4}", "train.epochs=1"]
    first, again = (trained(tmp_path / name, 2, net) for name in ("first", "again"))
    assert apart(last_of(first)["model"], last_of(again)["model"]) == 0.0
    one = trained(tmp_path / "one", 1, net)
    assert 1e-4 < apart(last_of(first)["model"], last_of(one)["model"]) < 0.5


def test_what_a_loss_learns_is_that_of_one_process(tmp_path):
    """Its gradients are no part of the network's, which torch sums."""
    learnt = ["loss=Tempered", "train.epochs=2", "optimizer.lr=0.5", "data.batch_size=6"]
    one, three = (last_of(trained(tmp_path / str(count), count, learnt)) for count in (1, 3))
    factors = [float(each["modules"]["loss"]["state"]["log_factor"]) for each in (one, three)]
    assert factors[1] == pytest.approx(factors[0], rel=1e-4)
    assert abs(factors[0]) > 1e-3
    assert apart(three["model"], one["model"]) < 1e-5


def test_only_what_may_leave_parameters_out_is_looked_at_in_every_step():
    class Skips(nn.Linear):
        def forward(self, images):
            return super().forward(images) if torch.rand(()) < 2 else images

    plain = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 3))
    may = [_may_leave_parameters_out(net, (2, 12), torch.device("cpu")) for net in (plain, Skips(12, 3))]
    assert may == [False, True]
