"""A page looked at in a real Chromium: what axe-core, the console and the boxes on it tell."""

import base64
import importlib.util
import json
import re
import subprocess
from html import escape
from pathlib import Path

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
    cut: [...document.querySelectorAll(".table")].filter(each => each.scrollWidth > each.clientWidth + 1)
      .map(each => each.getAttribute("aria-label")),
    letters: Math.min(...labels().map(([label]) => label.getBoundingClientRect().height)),
  };
  parent.postMessage("PROBED" + btoa(JSON.stringify(said)) + "END", "*");
});
</script>
</body>"""
FRAME = """<script>addEventListener("message", said => document.body.append(said.data))</script>
<body><iframe width="{width}" height="2000" style="border: 0" srcdoc="{page}"></iframe>"""


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
