"""The page of a real run in a real Chromium: accessible, silent, fitting, in order, legible, printable."""

import base64
import importlib.util
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest
from made_evidence import made_evidence, with_data

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
ROOT = Path(__file__).parent.parent.parent
PROBE = """
<script>
const shown = () => [...document.querySelectorAll("svg.chart")].filter(chart => chart.getBoundingClientRect().width);
const level = chart => [...chart.querySelectorAll("text")].filter(each => !each.closest("[transform]"));
const labels = () => shown().flatMap(chart => level(chart).map(each => [each, chart]));
const overlaps = () => {
  const found = [], all = labels().map(([label, chart]) => [label.textContent, chart, label.getBoundingClientRect()]);
  all.forEach(([words, chart, box], i) => {
    for (const [others, where, other] of all.slice(i + 1)) {
      if (where !== chart) continue;
      const wide = Math.min(box.right, other.right) - Math.max(box.left, other.left);
      const tall = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top);
      const line = Math.min(box.height, other.height);
      if (wide > 1 && tall > 0.35 * line) found.push([chart.getAttribute("aria-label"), words, others]);
    }
  });
  return found;
};
addEventListener("load", async () => {
  const found = await axe.run(document);
  const said = {
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    width: innerWidth,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    violations: found.violations.map(each => [each.impact, each.id, each.nodes.map(node => node.html.slice(0, 200))]),
    checked: found.passes.length,
    order: [...document.querySelectorAll("main > section")].map(each => [each.id, each.getBoundingClientRect().top]),
    folded: [...document.querySelectorAll("main > section > .fold")].map(each => [each.parentNode.id, each.open]),
    overlaps: overlaps(),
    letters: Math.min(...labels().map(([label]) => label.getBoundingClientRect().height)),
  };
  parent.postMessage("PROBED" + btoa(JSON.stringify(said)) + "END", "*");
});
</script>
</body>"""
FRAME = """<script>addEventListener("message", said => document.body.append(said.data))</script>
<body><iframe width="{width}" height="2000" style="border: 0" srcdoc="{page}"></iframe>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium here; Debian's package is named chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """The text of the page that a small quickstart writes, with every part that recipe asks for."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([str(ROOT / "recipes/quickstart.yaml"), "--fast"]) == 0
    (path,) = folder.glob("runs/*/*/report.html")
    return path.read_text(encoding="utf-8")


def probed(chromium: str, page: str, folder: Path, *, width: int, dark: bool) -> tuple[dict, list[str]]:
    """Open the page with axe-core in it; return what the probe found and what the console was told."""
    package = importlib.util.find_spec("axe_core_python")
    axe = (Path(package.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")
    script = f"<script>{axe.replace('</script>', '<' + chr(92) + '/script>')}</script>"
    path = folder / "probed.html"
    framed = escape(page.replace("</body>", script + PROBE))  # in a frame: no window is as narrow as a phone
    path.write_text(FRAME.format(width=width, page=framed), encoding="utf-8")
    ended = subprocess.run(
        [
            chromium,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=2600,2100",
            *("--virtual-time-budget=60000", "--enable-logging=stderr", "--v=0", "--dump-dom"),
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search("PROBED([A-Za-z0-9+/=]+)END", ended.stdout)
    assert found is not None, ended.stderr[-2000:]
    return json.loads(base64.b64decode(found[1])), [line for line in ended.stderr.splitlines() if "CONSOLE" in line]


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


def test_the_quickstart_prints_on_ten_pages_and_its_short_version_on_three(chromium, page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    whole, short = print_pdf(path), print_pdf(path, short=True)
    assert (whole.name, short.name) == ("report.pdf", "report-short.pdf")
    assert 6 <= pages_of(whole) <= 10
    assert 2 <= pages_of(short) <= 3


def test_a_run_of_fifty_epochs_with_25_mistakes_explained_at_four_layers_prints_on_fourteen_pages(chromium, tmp_path):
    """What the report "S10" asks for, of a network of that size."""
    model = cifar_resnet18(10).eval()
    evidence = with_data(made_evidence(tmp_path, classes=10, epochs=50, count=80, size=32, model=model, right=0.5))
    layers = ["layer1", "layer2", "layer3", "layer4"]
    recipe = (ROOT / "recipes/cifar10_resnet18.yaml").read_text(encoding="utf-8")
    parts = [Curves(), ConfusionMatrix(), Misclassified(), GradCAM(layers=layers, count=25)]
    result = write_report(replace(evidence, recipe=recipe), parts, log=pytest.fail)
    assert 8 <= pages_of(print_pdf(result.html)) <= 14
