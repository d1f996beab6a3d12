"""The page of a comparison: what stands on it, and that a browser shows, sorts and finds nothing wrong with it."""

import re
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from made_runs import run
from page_probe import probed

from trainer.comparison.page import write_page
from trainer.comparison.rows import compared
from trainer.run.folder import RunFolder
from trainer.run.predictions import Answers

LR = "optimizer.lr"
SORT = """<script>addEventListener("load", () => {
  const heads = [...document.querySelectorAll("#results thead")][0].querySelectorAll("button");
  [...heads].find(each => each.textContent.trim() === "lr").click();
});</script></body>"""


def curve(end: float, epochs: int = 8):
    """Rows of a training that comes to `end` on val."""
    return tuple(
        {"epoch": n, "lr": 0.1, "train/loss": 2 / n, "val/loss": 2.2 / n, "val/accuracy": end * n / epochs}
        for n in range(1, epochs + 1)
    )


def known(count: int) -> Answers:
    zeros = np.zeros(1000, np.int64)
    return Answers(
        "test", "pixels", ("cat", "dog"), np.arange(1000), zeros, (np.arange(1000) >= count).astype(np.int64)
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """Nine runs: three rates over two seeds, one with another decay, one that was cut down, one that goes on."""
    runs = [
        run(f"{lr}-{seed}", share + 0.001 * seed, {LR: lr}, seed=seed, answers=known(int(1000 * share) + seed))
        for lr, share in ((0.01, 0.6), (0.1, 0.8), (1.0, 0.7))
        for seed in (1, 2)
    ]
    runs.append(run("decay", 0.75, {LR: 0.1, "optimizer.weight_decay": 5e-4}, answers=known(750)))
    runs.append(run("fast", 0.1, {LR: 0.1, "train.epochs": 2}, summary={"fast": True}))
    runs.append(run("<b>going</b>", 0.5, {LR: 0.5}, summary={"status": "running"}))
    runs = [replace(each, history=curve(each.numbers["best/val_accuracy"])) for each in runs]
    folder = RunFolder.create(tmp_path_factory.mktemp("runs"), "compare", {})
    write_page(compared(runs), folder, ["runs/a-preview is an augmentation sheet: skipped"])
    return folder.report.read_text(encoding="utf-8")


def sections(page: str) -> list[str]:
    return re.findall(r'<section id="([^"]+)"', page)


def test_the_answer_comes_first_then_results_worth_curves_differences_and_runs(page):
    assert sections(page) == ["answer", "results", "worth", "curves", "settings", "runs"]


def test_the_answer_names_the_best_row_and_what_to_beware_of(page):
    answer = page.partition('<section id="answer"')[2].partition("</section>")[0]
    assert "<strong>lr 0.1</strong> has the best val accuracy" in answer
    assert "ran with --fast" in answer
    assert "did not come to the end" in answer
    assert "runs/a-preview is an augmentation sheet: skipped." in answer


def test_every_row_has_a_curve_of_its_own_colour_with_its_name_beside_it(page):
    charts = re.findall(r"<svg.*?</svg>", page.partition('<section id="curves"')[2], re.DOTALL)
    assert len(charts) == 4
    for chart in charts:
        bold = re.findall(r'<path class="line(?: dashed)?" [^>]*stroke="([^"]+)"', chart)
        assert len(bold) == len(set(bold)) == 6
        assert [f"#{rank} " in chart for rank in range(1, 7)] == [True] * 6
        assert len(re.findall(r'class="line faint"', chart)) == 6, "a thin line per seed"


def test_names_from_elsewhere_are_escaped(page):
    assert "&lt;b&gt;going" in page
    assert "<b>going" not in page


def test_what_a_difference_is_worth_stands_in_a_sentence_and_in_numbers(page):
    worth = page.partition('<section id="worth"')[2].partition("</section>")[0]
    assert "is better than" in worth
    assert "Welch&#39;s test over seeds" in worth


@pytest.mark.parametrize(("width", "dark"), [(390, False), (1280, True), (2560, False)])
def test_a_browser_finds_nothing_wrong(chromium, page, tmp_path, width, dark):
    found, console = probed(chromium, page, tmp_path, width=width, dark=dark)
    assert found["violations"] == []
    assert found["checked"] > 15
    assert console == []
    assert found["overflow"] <= 0
    assert found["overlaps"] == [], "labels of a chart lie on one another"
    assert found["letters"] > 9, "px of the smallest label's line"


def test_a_click_on_a_heading_sorts_by_the_number_not_by_its_letters(chromium, page, tmp_path):
    path = tmp_path / "sorted.html"
    path.write_text(page.replace("</body>", SORT), encoding="utf-8")
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom")
    shown = subprocess.run([chromium, *options, path.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    results = shown.stdout.partition('<section id="results"')[2].partition("</table>")[0]
    assert 'aria-sort="descending"' in results
    names = re.findall(r'<th scope="row"[^>]*>(?:<a[^>]*>)?#\d ([^<]+)', results)
    assert names[0] == "lr 1"
    assert names[-1] == "lr 0.01"
