"""The page of a real run in a real Chromium: accessible, silent, fitting, in order, legible, printable."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from made_evidence import history, made_evidence, with_data
from page_probe import probed

from registry.models.cifar_resnet import cifar_resnet18
from registry.reports.classes import ConfusionMatrix
from registry.reports.curves import Curves
from registry.reports.gradcam import GradCAM
from registry.reports.mistakes import Misclassified
from trainer.cli.main import main
from trainer.report.page import write_report
from trainer.run.reporting import print_pdf

ORDER = (
    *("answer", "data", "curves", "failures", "gradcam", "lr_finder", "calibration"),
    *("recipe", "model", "epochs", "augmentation", "environment"),
)
PAPER = 688  # px between the margins of A4
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """The text of the page that a small quickstart writes, with every part that recipe asks for."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([str(ROOT / "recipes/quickstart.yaml"), "--fast"]) == 0
    (path,) = folder.glob("runs/*/*/report.html")
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("width", "dark"), [(390, False), (1280, False), (1280, True), (2560, True)])
def test_the_page_has_no_accessibility_finding_says_nothing_to_the_console_and_fits(
    chromium, page, tmp_path, width, dark
):
    found, console = probed(chromium, page, tmp_path, width=width, dark=dark)
    assert (found["width"], found["dark"]) == (width, dark)
    assert found["violations"] == []
    assert found["checked"] > 20
    assert console == []
    assert found["overflow"] <= 0
    assert found["overlaps"] == [], "labels of a chart lie on one another"
    assert found["letters"] > 9, "px of the smallest label's line"
    names, tops = zip(*found["order"], strict=True)
    assert names == ORDER
    assert list(tops) == sorted(tops)
    assert found["folded"] == [[name, False] for name in ORDER[7:]]


def test_overlapping_labels_would_be_found(chromium, page, tmp_path):
    moved = re.sub(r'(<text class="tick" x=")[\d.]+(" y=")[\d.]+', r"\g<1>100\g<2>100", page)
    found, _ = probed(chromium, moved, tmp_path, width=390, dark=False)
    assert len(found["overlaps"]) > 20


def test_the_probe_finds_what_is_wrong(chromium, page, tmp_path):
    broken = page.replace("<main", '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw="><main', 1).replace(
        "</body>", "<script>missing()</script></body>"
    )
    found, console = probed(chromium, broken, tmp_path, width=1280, dark=False)
    assert ["critical", "image-alt"] in [each[:2] for each in found["violations"]]
    assert any("missing is not defined" in line for line in console)


# ---------------------------------------------------------------------------------------------------------------- print
def pages_of(pdf: Path) -> int:
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf.read_bytes()))


METRICS = ("loss", "accuracy", "balanced_accuracy", "f1_micro", "auroc")


def test_no_column_of_a_table_is_cut_off_on_paper_and_what_the_recipe_expects_fits_the_screen(chromium, tmp_path):
    rows = [{**row, **{f"{part}/{key}": 0.5 for part in ("train", "val") for key in METRICS}} for row in history(3)]
    names = ("n" * 80, "u" * 24, "v" * 24, "w" * 80)
    lines = [{"text": "best val/balanced_accuracy: 0.9175 +- 0.0025", "value": 0.15, "ok": False}]
    summary = {"expect": {"not_judged": "", "lines": lines}}
    made = made_evidence(tmp_path, history=rows, best=rows[1], class_names=names, summary=summary)
    page = write_report(with_data(made), [ConfusionMatrix()], log=pytest.fail).html.read_text(encoding="utf-8")
    on_paper = page.replace("@media print {", "@media all {").replace(
        '<details class="fold"', '<details open class="fold"'
    )
    assert probed(chromium, on_paper, tmp_path, width=PAPER, dark=False)[0]["cut"] == []
    assert "One row per epoch; the best epoch is bold: 2 of 2" in page
    cut = probed(chromium, page, tmp_path, width=1280, dark=False)[0]["cut"]
    assert [caption for caption in cut if "per epoch" not in caption] == []


def test_the_quickstart_prints_on_ten_pages_and_its_short_version_on_three(chromium, page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    whole, short = print_pdf(path), print_pdf(path, short=True)
    assert (whole.name, short.name) == ("report.pdf", "report-short.pdf")
    assert 6 <= pages_of(whole) <= 10
    assert 2 <= pages_of(short) <= 3


@pytest.mark.slow  # a run of its own, explained at four layers and printed
def test_a_run_of_fifty_epochs_with_25_mistakes_explained_at_four_layers_prints_on_fourteen_pages(chromium, tmp_path):
    """What the report "S10" asks for, of a network of that size."""
    model = cifar_resnet18(10).eval()
    evidence = with_data(made_evidence(tmp_path, classes=10, epochs=50, count=80, size=32, model=model, right=0.5))
    layers = ["layer1", "layer2", "layer3", "layer4"]
    recipe = (ROOT / "recipes/cifar10_resnet18.yaml").read_text(encoding="utf-8")
    parts = [Curves(), ConfusionMatrix(), Misclassified(), GradCAM(layers=layers, count=25)]
    result = write_report(replace(evidence, recipe=recipe), parts, log=pytest.fail)
    assert 8 <= pages_of(print_pdf(result.html)) <= 14
