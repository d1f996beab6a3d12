"""Metrics and mixers: what they compute, that parts add up to the whole, and that draws are repeatable."""

import pytest
import torch

from registry.metrics.counting import Accuracy, CrossEntropy, TopKAccuracy
from registry.mixes import CutMix, MixUp, _beta

LOGITS = torch.tensor([[3.0, 2, 1, 0], [0, 3, 2, 1], [1, 0, 3, 2], [2, 1, 0, 3]])
TARGETS = torch.tensor([0, 2, 0, 2])


def test_accuracy_is_the_share_of_right_answers() -> None:
    metric = Accuracy()
    metric.update(LOGITS, TARGETS)
    assert metric.compute() == 0.25
    assert metric.compute().dtype == torch.float32


@pytest.mark.parametrize(("k", "share"), [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0), (9, 1.0)])
def test_top_k_accuracy_counts_the_k_greatest(k: int, share: float) -> None:
    metric = TopKAccuracy(k)
    metric.update(LOGITS, TARGETS)
    assert metric.compute() == share


def test_a_metric_over_parts_is_that_over_the_whole_and_survives_its_state() -> None:
    metric, resumed = TopKAccuracy(2), TopKAccuracy(2)
    metric.update(LOGITS[:1], TARGETS[:1])
    resumed.load(metric.state())
    resumed.update(LOGITS[1:], TARGETS[1:])
    assert resumed.compute() == 0.5
    resumed.reset()
    assert resumed.compute().isnan()


def test_cross_entropy_is_torchs_over_all_images_and_survives_its_state() -> None:
    metric, resumed = CrossEntropy(), CrossEntropy()
    assert metric.compute().isnan()
    metric.update(LOGITS[:1], TARGETS[:1])
    resumed.load(metric.state())
    resumed.update(LOGITS[1:], TARGETS[1:])
    assert resumed.compute() == pytest.approx(float(torch.nn.functional.cross_entropy(LOGITS, TARGETS)))


def drawn(mixer: MixUp | CutMix, seed: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 1, 16, 16).contiguous()
    return mixer(images, torch.arange(6) % 3, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mixer", [MixUp(0.5, num_classes=3), CutMix(1.0, num_classes=3)])
def test_targets_are_mixed_as_the_images_are(mixer: MixUp | CutMix) -> None:
    """Each image is its index everywhere, so that its mean tells the shares; the class is the index modulo 3."""
    for seed in range(20):
        mixed, targets = drawn(mixer, seed)
        assert torch.allclose(targets.sum(dim=1), torch.ones(6))
        for row in range(6):
            values = mixed[row].unique()
            if len(values) == 1 and values[0] == row:
                assert targets[row, row % 3] == 1
        keep = targets.gather(1, (torch.arange(6) % 3)[:, None])[:, 0]
        partners = [
            (mixed[row].mean() - keep[row] * row) / (1 - keep[row]) for row in range(6) if 0.05 < keep[row] < 0.95
        ]
        assert all(abs(partner - partner.round()) < 1e-3 for partner in partners)


@pytest.mark.parametrize("mixer", [MixUp(0.5, num_classes=3), CutMix(1.0, num_classes=3)])
def test_the_same_key_mixes_the_same_and_leaves_the_batch_alone(mixer: MixUp | CutMix) -> None:
    images = torch.rand(6, 3, 8, 8)
    before, state = images.clone(), torch.get_rng_state()
    first, second = (mixer(images, torch.arange(6) % 3, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", [MixUp, CutMix])
def test_p_is_the_share_of_batches_that_are_mixed(kind: type[MixUp] | type[CutMix]) -> None:
    mixer = kind(1.0, 0.25, num_classes=3)
    hard = sum(bool((drawn(mixer, seed)[1].amax(dim=1) == 1).all()) for seed in range(400))
    assert 0.68 < hard / 400 < 0.82


def test_mixup_shares_follow_the_beta_distribution() -> None:
    """Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1))."""
    mixer = MixUp(0.4, num_classes=6)
    generator = torch.Generator().manual_seed(1)
    shares = []
    for _ in range(3000):
        _, targets = mixer(torch.zeros(2, 1, 1, 1), torch.tensor([0, 1]), generator)
        if targets[0, 0] < 1:
            shares.append(float(targets[0, 0]))
    found = torch.tensor(shares)
    assert found.mean() == pytest.approx(0.5, abs=0.03)
    assert found.var() == pytest.approx(1 / (4 * 1.8), abs=0.02)


def test_cutmix_keeps_the_share_of_the_area() -> None:
    mixer = CutMix(1.0, num_classes=6)
    for seed in range(30):
        images = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 1, 16, 16).contiguous()
        mixed, targets = mixer(images, torch.arange(6), torch.Generator().manual_seed(seed))
        for row in range(6):
            assert targets[row, row] == pytest.approx(float((mixed[row] == row).float().mean()), abs=1e-6)


def test_torchmetrics_come_in_by_their_names() -> None:
    pytest.importorskip("torchmetrics")
    from registry.catalogue.catalog import catalogue

    entry = catalogue().entry("metric", "torchmetrics:MulticlassF1Score")
    assert entry.facts["key"] == "multiclass_f1_score"
    metric = entry.load()(num_classes=4, average="macro")
    resumed = entry.load()(num_classes=4, average="macro")
    metric.update(LOGITS, TARGETS)
    resumed.load(metric.state())
    assert resumed.compute() == metric.compute()
    assert "no single value" in catalogue().entry("metric", "torchmetrics:ROC").refused


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *((name, "min") for name in ("CalibrationError", "HammingDistance", "HingeLoss", "MulticlassHingeLoss")),
        *((name, "max") for name in ("Accuracy", "F1Score", "MulticlassAUROC")),
    ],
)
def test_which_way_a_metric_of_torchmetrics_is_better_is_known_by_either_of_its_names(name: str, mode: str) -> None:
    pytest.importorskip("torchmetrics")
    from registry.catalogue.catalog import catalogue

    assert catalogue().entry("metric", f"torchmetrics:{name}").facts["mode"] == mode


def test_models_of_timm_come_in_by_their_names() -> None:
    pytest.importorskip("timm")
    from registry.catalogue.catalog import catalogue

    entry = catalogue().entry("model", "timm:resnet18")
    assert entry.parameter("name") is None
    assert entry.load()(num_classes=3, in_channels=1)(torch.zeros(1, 1, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize("name", ["MulticlassCalibrationError", "MulticlassAUROC", "MulticlassHingeLoss"])
def test_logits_that_look_like_probabilities_are_none_to_torchmetrics(name: str) -> None:
    classification = pytest.importorskip("torchmetrics.classification")
    from registry.metrics.torchmetrics import TorchMetric

    generator = torch.Generator().manual_seed(1)
    logits, targets = torch.rand(64, 3, generator=generator), torch.randint(3, (64,), generator=generator)
    ours, theirs = TorchMetric(name, num_classes=3), getattr(classification, name)(num_classes=3)
    ours.update(logits, targets)
    theirs.update(logits.softmax(1), targets)
    assert ours.compute() == pytest.approx(theirs.compute().item(), abs=1e-6)


def test_the_greatest_logits_are_told_apart_however_far_they_lie_from_the_first() -> None:
    pytest.importorskip("torchmetrics")
    from registry.metrics.torchmetrics import TorchMetric

    logits = torch.tensor([[50.0, 45, 300, 49, 42, 48, 44, 47, 43, 46]]).expand(10, -1)
    metric = TorchMetric("MulticlassAccuracy", num_classes=10, top_k=5, average="micro")
    metric.update(logits, torch.arange(10))
    assert metric.compute() == 0.5
    metric.reset()
    metric.update(logits[:5], torch.tensor([0, 2, 3, 5, 7]))
    assert metric.compute() == 1.0


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 3.0])
def test_shares_are_of_the_beta_distribution(alpha: float) -> None:
    generator = torch.Generator().manual_seed(1)
    shares = torch.tensor([_beta(alpha, generator) for _ in range(4000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.01)


@pytest.mark.parametrize(("slot", "name"), [("model", "timm:resnet18"), ("metric", "torchmetrics:F1Score")])
def test_an_extra_that_is_not_installed_says_how_to_get_it(
    slot: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from registry.catalogue.catalog import catalogue
    from registry.errors import RecipeError

    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    package = name.partition(":")[0]
    with pytest.raises(RecipeError) as caught:
        catalogue().entry(slot, name)
    assert caught.value.hint == f'install it: pip install "recipe-trainer[{package}]"'
