"""What an audit has found, on the page of a run and on its own."""

from dataclasses import replace

import numpy as np
import pytest
from made_evidence import made_evidence, with_data
from page_probe import probed

from registry.audited import Alike, Audit, Odd, PartFacts, Picture, Shared
from registry.contracts import UsedData
from trainer.report.answer import answer_of
from trainer.report.audit_page import write_page
from trainer.report.audited import without_leaks
from trainer.report.cautions import cautions_of
from trainer.report.page import write_report

NAMES = tuple(f"class {number}" for number in range(4))
MODE = (("RGB", 60),)


def picture(part, index, label=0, file=None):
    return Picture(part, part, index, label, f"{part}/{index}.png" if file is None else file)


def alike(first, second, likeness=0.9, *, exact=False, mirrored=False):
    return Alike(first, second, 1.0 if exact else likeness, exact, mirrored, 1)


def part(name, *counts):
    return PartFacts(name, counts, ((24, 24, sum(counts)),), 1, (24, 24), (24, 24), (0, 0, sum(counts)), MODE, 0)


def pixels(_):
    return np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)


def audit(**found):
    """An audit of 160 training and 60 validation pictures, which found nothing but what is said."""
    parts = (part("train", 40, 40, 40, 40), part("val", 15, 15, 15, 15))
    nothing = {"leaks": (), "duplicates": (), "contradictions": (), "odd": (), "shared": ()}
    told = {"grouped": False, "near": True, "why_not_near": "", "seconds": 1.0, "pixels": pixels}
    return Audit(**{"class_names": NAMES, "parts": parts, **nothing, **told, **found})


LEAKS = tuple(alike(picture("val", 1000 + at), picture("train", at), exact=at < 2) for at in range(6))
EVERYTHING = {
    "leaks": LEAKS,
    "duplicates": (alike(picture("train", 9), picture("train", 3), mirrored=True),),
    "contradictions": (alike(picture("train", 5, 1), picture("train", 4, 2)),),
    "odd": (Odd(picture("", 7, 3, "train/<b>odd</b>.png"), "broken", "is empty (0 bytes)"),),
    "shared": (Shared("patient 7", (("train", 3), ("val", 2)), picture("val", 3)),),
    "grouped": True,
}


@pytest.fixture
def evidence(tmp_path):
    return with_data(made_evidence(tmp_path, right=0.5))


def test_accuracy_is_given_with_and_without_what_was_learnt_from(evidence):
    right = np.arange(60) < 36  # the six leaked ones are right
    indices = np.arange(60) + 1000
    leak = without_leaks(audit(leaks=LEAKS), "val", indices, right)
    assert (leak.images, leak.leaked) == (60, 6)
    assert (leak.accuracy, leak.without, leak.on_leaked) == (0.6, pytest.approx(30 / 54), 1.0)
    assert without_leaks(audit(), "val", indices, right) is None


def test_a_page_says_what_leaks_do_to_its_accuracy(evidence):
    result = write_report(replace(evidence, audit=audit(leaks=LEAKS)), (), log=pytest.fail)
    text = result.markdown.read_text(encoding="utf-8")
    right = evidence.predictions.logits.argmax(1) == evidence.predictions.targets
    without = f"{100 * right[6:].mean():.2f} %"
    assert f"6 of the 60 val pictures are like training pictures: without them the accuracy is **{without}**" in text
    assert result.facts["audit"]["leaked_val"] == 6
    assert result.facts["audit"]["val_accuracy_without_leaked"] == pytest.approx(right[6:].mean())
    tile = next(tile for tile in answer_of(replace(evidence, audit=audit(leaks=LEAKS))).tiles if "leaks" in tile.label)
    assert tile.value == without
    assert "(10.0 %) are like training pictures: 2 pixel for pixel, 4 nearly." in text


def test_leaks_into_what_chose_the_best_epoch_are_told_where_another_part_is_reported(evidence):
    leaking = replace(evidence, audit=audit(leaks=LEAKS), split="test", selected_on="val")
    said = " ".join(cautions_of(leaking))
    assert "6 of the 60 val pictures are like training pictures, and val chose the best epoch" in said


def test_a_run_without_findings_says_so_and_nothing_more(evidence):
    text = write_report(replace(evidence, audit=audit()), (), log=pytest.fail).markdown.read_text(encoding="utf-8")
    assert "Nothing was found" in text
    assert "leak" not in text.lower()
    assert "audit.csv" not in text


def test_a_page_without_an_audit_has_no_section_of_it(evidence):
    assert "## Audit" not in write_report(evidence, (), log=pytest.fail).markdown.read_text(encoding="utf-8")


def test_every_finding_stands_in_the_list_beside_the_page(evidence):
    write_report(replace(evidence, audit=audit(**EVERYTHING)), (), log=pytest.fail)
    lines = (evidence.folder / "audit.csv").read_text(encoding="utf-8").splitlines()
    kinds = [line.partition(",")[0] for line in lines[1:]]
    assert kinds == [*["leak"] * 6, "contradiction", "duplicate", "group on both sides", "broken"]


def test_of_many_pairs_some_are_shown_evenly_spread_and_their_number_is_told(evidence):
    many = tuple(alike(picture("val", 1000 + at), picture("train", at), 0.99 - at / 500) for at in range(50))
    text = write_report(replace(evidence, audit=audit(leaks=many)), (), log=pytest.fail).markdown.read_text("utf-8")
    assert "; 10 of 50" in text
    assert "correlation 0.99" in text
    assert "correlation 0.89" in text


def test_what_was_not_looked_for_is_said(evidence):
    found = audit(near=False, why_not_near="70,000 pictures are more than 50,000")
    text = write_report(replace(evidence, audit=found), (), log=pytest.fail).markdown.read_text(encoding="utf-8")
    assert "Only exact copies were looked for: 70,000 pictures are more than 50,000." in text


USED = UsedData("ImageFolder", "my_images", "RGB, 24 x 24 px", (), ("There is no held-out test split.",))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    write_page(audit(**EVERYTHING), folder, name="flowers", used=USED, dated="2026-01-31")
    return folder / "report.html"


def test_the_page_of_an_audit_leads_with_leaks_and_has_every_finding(page):
    text = page.read_text(encoding="utf-8")
    titles = ["Leaks", "Contradicting labels", "Groups on both sides", "Duplicates within a part"]
    titles += ["Broken, tiny and blank pictures", "Classes, sizes and files", "How this was found"]
    places = [text.index(f">{title}</h2>") for title in titles]
    assert places == sorted(places)
    assert "Audit of the pictures" in text
    assert "&lt;b&gt;odd&lt;/b&gt;" in text
    assert "<b>odd" not in text


@pytest.mark.parametrize(("width", "dark"), [(390, True)])
def test_the_page_of_an_audit_is_accessible_and_fits(chromium, page, tmp_path, width, dark):
    found, console = probed(chromium, page.read_text(encoding="utf-8"), tmp_path, width=width, dark=dark)
    assert found["violations"] == []
    assert console == []
    assert found["overflow"] <= 0
