"""The page of a real run in a real Chromium: no accessibility finding, nothing on the console, nothing too wide."""

import base64
import importlib.util
import json
import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest

from trainer.cli.main import main

ROOT = Path(__file__).parent.parent.parent
PROBE = """
<script>
addEventListener("load", async () => {
  const found = await axe.run(document);
  const said = {
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    width: innerWidth,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    violations: found.violations.map(each => [each.impact, each.id, each.nodes.map(node => node.html.slice(0, 200))]),
    checked: found.passes.length,
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


def test_the_probe_finds_what_is_wrong(chromium, page, tmp_path):
    broken = page.replace("<main", '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw="><main', 1).replace(
        "</body>", "<script>missing()</script></body>"
    )
    found, console = probed(chromium, broken, tmp_path, width=1280, dark=False)
    assert ["critical", "image-alt"] in [each[:2] for each in found["violations"]]
    assert any("missing is not defined" in line for line in console)
