"""What docs/report.md promises in code is run."""

import re
from pathlib import Path

from made_evidence import made_evidence

from trainer.report.page import write_report

TEXT = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")


def test_the_part_in_the_documentation_renders(tmp_path):
    (source,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    names: dict[str, type] = {"__name__": "docs"}
    exec(source, names)
    result = write_report(made_evidence(tmp_path), [names["SlowestEpochs"](2)], log=lambda words: None)
    assert result.failed == ()
    assert "Slowest epochs" in result.html.read_text()
