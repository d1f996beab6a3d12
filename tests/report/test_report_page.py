"""The page as a browser and a reader get it: complete, self-contained, escaped, accessible."""

import itertools
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from made_evidence import made_evidence, with_data

from registry.contracts import Figure, Gallery, Paragraph, Section, Table
from registry.reports.classes import ConfusionMatrix
from registry.reports.curves import Curves
from registry.reports.diagram_svg import word_on_cell
from registry.reports.gradcam import GradCAM
from registry.reports.mistakes import Misclassified
from trainer.report.page import write_report

PARTS = (Curves(), ConfusionMatrix(), Misclassified(count=6), GradCAM(count=8))
NASTY = ("<script>alert(1)</script>", "a | b `code` **bold**", "🐱 & \"quotes\" 'too'", "x](http://evil) <img src=x>")
VOID = {"meta", "link", "img", "br", "input", "hr", "wbr"}


class Page(HTMLParser):
    """Collects elements, checks that they nest, and keeps the visible text."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice: {names}"
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    def all(self, *tags):
        return [(tag, attributes) for tag, attributes in self.elements if tag in tags]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def write(evidence, parts=PARTS):
    said = []
    result = write_report(evidence, parts, log=said.append)
    return result, Page(result.html.read_text(encoding="utf-8")), result.markdown.read_text(encoding="utf-8"), said


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    evidence = made_evidence(tmp_path_factory.mktemp("run"), warnings=("The best epoch was chosen on **test**.",))
    return write(with_data(evidence, val=(40,) * 4))


def test_the_page_opens_with_the_answer(written):
    _, page, markdown, _ = written
    start = page.text[: page.text.index("Most confused on val")]
    expected = [
        *(
            "made",
            "A run that never was.",
            "83.24 %",
            "epoch 5 of 6, chosen on val",
            "0.015",
            "minimum_over_10",
            "15 s",
        ),
        *("a processor with 2 cores", "The best epoch was chosen on", "Read the 2 cautions below"),
    ]
    assert [words for words in expected if words not in start] == []
    assert markdown.startswith("# made\n")
    assert (
        "| Best accuracy | **83.24 %** epoch 5 of 6, chosen on val; 95 % interval 76.7 to 88.2 %, 160 images |"
        in markdown
    )


def test_what_the_recipe_expected_stands_beside_what_came(tmp_path):
    lines = [
        {"text": "best val/accuracy: >= 0.8", "value": 0.8324, "ok": True},
        {"text": "final val/loss: <= 0.1", "value": 0.6, "ok": False},
        {"text": "final val/none: >= 1", "value": None, "ok": False},
        {"text": "best val/accuracy: >= 0.93", "value": 0.92996, "ok": False, "low": 0.93, "high": None},
        {"text": "val/loss: 0.48 +- 0.03", "value": 0.51004, "ok": False, "low": 0.45, "high": 0.51},
    ]
    for why in ("", "train.epochs is overridden"):
        evidence = replace(made_evidence(tmp_path), summary={"expect": {"not_judged": why, "lines": lines}})
        _, page, markdown, _ = write(evidence)
        assert page.text.index("What the recipe expects of a run") < page.text.index("Loss by epoch")
        first, second = ("not judged",) * 2 if why else ("reached", "**missed**")
        assert f"| best val/accuracy | &gt;= 0.8 | 0.8324 | {first} |" in markdown
        assert f"| final val/loss | &lt;= 0.1 | 0.6 | {second} |" in markdown
        assert "| final val/none | &gt;= 1 | not measured |" in markdown
        assert f"| best val/accuracy | &gt;= 0.93 | 0.92996 | {second} |" in markdown, "no digit hides the side"
        assert f"| 0.51004 | {second} |" in markdown
        assert ("the recipe did not run as written: train.epochs is overridden" in page.text) == bool(why)


@pytest.mark.parametrize(
    "summary", [{"best": {"val/tta/accuracy": 0.9435}}, {"best": {}, "test": {"best": {"tta/accuracy": 0.9435}}}]
)
def test_the_figure_with_test_time_augmentation_stands_beside_the_one_without(tmp_path, summary):
    _, page, _, _ = write(replace(made_evidence(tmp_path), summary=summary))
    assert "Accuracy with TTA 94.35 % test-time augmentation, best weights, on" in page.text
    assert "83.24 %" in page.text


ORDER = [
    "Data", "Curves", "Where it fails", "Where it looked", "Learning-rate finder", "How sure it is", "Recipe", "Model",
    "Epochs", "Augmentation", "Environment and how to repeat this",
]  # fmt: skip


def test_the_page_leads_with_evidence_and_ends_with_what_is_looked_up(written):
    _, page, markdown, _ = written
    assert [a["id"] for _, a in page.all("section") if "level-2" in a.get("class", "")] == [
        *("data", "curves", "failures", "gradcam", "lr_finder", "calibration"),
        *("recipe", "model", "epochs", "augmentation", "environment"),
    ]
    assert re.findall(r"^## (.*)$", markdown, re.M) == ORDER
    assert re.findall(r"^### (.*)$", markdown, re.M) == [
        *("Confusion matrix", "Per class", "Mistakes"),
        "All settings",
    ]


def test_what_is_looked_up_is_folded_on_the_screen_and_all_settings_on_paper_as_well(written):
    _, page, _, _ = written
    folded = [a["class"] for _, a in page.all("details")]
    assert folded.count("fold") == 6
    on_screen = [a["id"] for _, a in page.all("section") if "on-screen" in a.get("class", "").split()]
    assert on_screen == ["settings"]


def test_the_page_is_one_file_that_asks_the_network_for_nothing(written):
    result, page, _, _ = written
    source = result.html.read_text()
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "srcset", "data"):
            value = attributes.get(name) or ""
            assert value.startswith(("data:", "#")) or not value, (tag, value[:80])
    assert "@import" not in source
    assert not re.search(r"url\((?!data:)", source)
    assert len(source) < 4_000_000


def test_the_page_is_accessible_as_far_as_a_parser_can_tell(written):
    _, page, _, _ = written
    assert page.all("html")[0][1]["lang"] == "en"
    assert page.all("title")
    assert all(attributes.get("alt", "").strip() for _, attributes in page.all("img"))
    assert all(a["role"] == "img" and a["aria-label"].strip() for tag, a in page.all("svg"))
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert max(ids.values()) == 1
    links = [attributes["href"][1:] for _, attributes in page.all("a")]
    assert set(links) <= set(ids)
    assert len(links) > 12
    assert all(attributes["aria-labelledby"] in ids for _, attributes in page.all("section"))
    levels = [int(tag[1]) for tag, _ in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(attributes.get("scope") in ("col", "row") for _, attributes in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    scrollable = [a for _, a in page.elements if a.get("class", "").split()[:1] in (["table"], ["scroll"])]
    assert all(a["tabindex"] == "0" and a["aria-label"].strip() for a in scrollable)


def luminance(color):
    values = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_every_colour_pair_has_enough_contrast(scheme):
    css = (Path(__file__).parents[2] / "trainer/report/templates/page.css").read_text()
    colors = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", re.findall(r":root \{(.*?)\}", css, re.S)[scheme]))
    for ground in ("paper", "ground"):
        for ink in ("ink", "soft", "link"):
            assert contrast(colors[ink], colors[ground]) >= 4.5, (ink, ground)
        for line in ("train", "val", "accent", "quiet"):
            assert contrast(colors[line], colors[ground]) >= 4.5, (line, ground)  # they also colour words
    assert contrast(colors["warn-ink"], colors["warn-ground"]) >= 4.5
    assert contrast(colors["ink"], colors["code"]) >= 4.5


def blended(color, ground, opacity):
    values = [int(color[i : i + 2], 16) * opacity + int(ground[i : i + 2], 16) * (1 - opacity) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(value):02x}" for value in values)


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_numbers_in_a_matrix_can_be_read_on_cells_of_any_shade(scheme):
    css = (Path(__file__).parents[2] / "trainer/report/templates/page.css").read_text()
    colors = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", re.findall(r":root \{(.*?)\}", css, re.S)[scheme]))
    for role in ("val", "train"):
        for percent in range(1, 101):
            opacity = percent / 100
            kind = word_on_cell(role == "val", opacity).removesuffix("-cell")
            assert (
                contrast(colors.get(f"on-{kind}", "#000000"), blended(colors[role], colors["paper"], opacity)) >= 4.5
            ), (role, opacity)


def test_long_rows_of_pictures_fold_after_the_first_six(written):
    _, page, _, _ = written
    assert [a["class"] for _, a in page.all("details")].count("more") == 1
    assert "2 more" in page.text


def test_markdown_shows_pictures_that_exist(written):
    result, _, markdown, _ = written
    paths = re.findall(r"!\[[^\n]*\]\(([^)]+)\)", markdown) + re.findall(r'<img src="([^"]+)"', markdown)
    assert len(paths) > 20
    assert all((result.markdown.parent / path).is_file() for path in paths)
    assert not any(path.startswith("/") for path in paths)


def test_facts_are_kept_by_section(written):
    facts = written[0].facts
    assert facts["misclassified"] == {"mistakes": 19, "images": 60}
    assert facts["calibration"]["ece"] > 0
    assert facts["model"]["parameters"] > 0
    assert written[0].failed == ()


def test_class_names_with_html_and_emoji_are_shown_as_they_are_and_do_nothing(tmp_path):
    evidence = made_evidence(tmp_path, class_names=NASTY, name="<b>bold</b> & co", description="</style><script>")
    _, page, markdown, said = write(evidence)
    assert not said
    source = (tmp_path / "report.html").read_text()
    assert source.count("<script>") == 1  # our own
    assert "alert(1)</script>" not in source
    assert "<img src=x>" not in source
    assert "🐱 & \"quotes\" 'too'" in page.text
    assert "<b>bold</b> & co" in page.text
    assert "<script>" not in markdown
    assert "<img src=x>" not in markdown
    assert not re.search(r"(?<!\\)\]\(http", markdown)
    rows = [line for line in markdown.splitlines() if line.startswith("| a ")]
    assert rows
    assert all(len(re.findall(r"(?<!\\)\|", row)) in (5, 6) for row in rows)


def test_a_part_that_fails_becomes_a_section_that_says_so(tmp_path):
    class Broken:
        def render(self, evidence):
            raise ZeroDivisionError("division by zero")

    result, page, markdown, said = write(made_evidence(tmp_path), (Broken(), Curves()))
    assert said == ["report part Broken failed: ZeroDivisionError: division by zero"]
    assert result.failed == tuple(said)
    assert "This part could not be made. ZeroDivisionError: division by zero" in page.text
    assert "Loss by epoch" in page.text
    assert "> **Warning.** This part could not be made." in markdown


@pytest.mark.parametrize(
    "made",
    [
        None,
        Section("Mine", (Figure("figures/absent.png", "A picture.", ""),), "mine"),
        Section("Mine", (Table("", ("n",), ((1,),)),), "mine"),
        Section("Mine", (Gallery((), ""),), "mine"),
    ],
)
def test_a_part_that_makes_what_cannot_be_drawn_costs_no_page(tmp_path, made):
    class Broken:
        def render(self, evidence):
            return made

    result, page, _, said = write(made_evidence(tmp_path), (Broken(), Curves()))
    assert len(said) == 1 == len(result.failed)
    assert "This part could not be made." in page.text
    assert "Loss by epoch" in page.text


def test_a_part_of_a_plug_in_stands_before_the_environment(tmp_path):
    class Extra:
        def render(self, evidence):
            return Section("My own part", (Paragraph("hello `there`"),), "mine", {"answer": 42.0})

    result, page, _, _ = write(made_evidence(tmp_path), (Extra(),))
    assert page.text.index("hello there") < page.text.index("Environment and how to repeat this", 2000)
    assert result.facts["mine"] == {"answer": 42.0}


def test_two_sections_of_one_key_do_not_share_an_anchor(tmp_path):
    class Again:
        def render(self, evidence):
            return Section("Once more", (), "gradcam")

    _, page, _, _ = write(made_evidence(tmp_path), (GradCAM(count=1), Again()))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {"gradcam", "gradcam-2"} <= set(ids)


def test_two_sections_of_one_key_keep_their_facts_apart(tmp_path):
    def part(value):
        class Extra:
            def render(self, evidence):
                return Section("Mine", (), "my part", {"a": value})

        return Extra()

    result = write(made_evidence(tmp_path), (part(1.0), part(2.0)))[0]
    assert (result.facts["my-part"], result.facts["my-part-2"]) == ({"a": 1.0}, {"a": 2.0})


def test_two_gradcam_parts_keep_pictures_anchors_and_facts_apart(tmp_path):
    parts = (GradCAM(count=1), GradCAM(count=1, method="LayerCAM", select="confident"))
    result, page, _, _ = write(made_evidence(tmp_path), parts)
    assert {"gradcam", "gradcam-layercam-confident"} <= {a.get("id") for _, a in page.all("section")}
    assert {"gradcam", "gradcam-layercam-confident"} <= set(result.facts)
    assert (tmp_path / "gradcam" / "gallery.png").read_bytes() != (
        tmp_path / "gradcam" / "layercam" / "confident" / "gallery.png"
    ).read_bytes()


def test_two_that_differ_in_what_names_no_folder_keep_their_pictures_by_their_own_names(tmp_path):
    parts = [GradCAM(count=1, layers=[layer]) for layer in ("middle", "last")]
    for part, name in zip(parts, ("early", "late"), strict=True):
        part.label = name
    _, page, _, _ = write(made_evidence(tmp_path), tuple(parts))
    folders = {path.parent.name for path in tmp_path.rglob("gradcam/*/gallery.png")}
    assert folders == {"early", "late"}
    assert {"gradcam-early", "gradcam-late"} <= {a.get("id") for _, a in page.all("section")}
    assert not (tmp_path / "gradcam" / "gallery.png").exists()


def test_a_number_and_its_per_cent_sign_stay_on_one_line(written):
    assert "83.24\u00a0%" in written[0].html.read_text()


def test_a_held_out_test_split_leads_the_answer(tmp_path):
    evidence = made_evidence(tmp_path, split="test", selected_on="val")
    _, page, _, _ = write(evidence, (Curves(),))
    assert "test accuracy 68.33 % held out" in page.text
    assert "On test, which took no part in any choice, the best weights reach 68.33 %" in page.text


def test_a_held_out_test_split_leads_the_answer_whatever_chose_the_best_epoch(tmp_path):
    evidence = made_evidence(tmp_path, split="test", selected_on="val")
    resolved = {**evidence.resolved, "train": {"epochs": 6, "best": {"metric": "val/loss", "mode": "min"}}}
    _, page, _, _ = write(replace(evidence, resolved=resolved), (Curves(),))
    assert f"test loss {evidence.predictions.loss:.4f} held out" in page.text
    assert "test accuracy 68.33 % held out" in page.text
    assert "On test, which took no part in any choice" in page.text


def test_a_run_that_was_stopped_in_its_first_epoch_is_no_look(tmp_path):
    evidence = with_data(made_evidence(tmp_path), val=(15,) * 4)
    stopped = replace(evidence, history=(), best=None, finding=None, summary={"status": "interrupted"})
    _, page, _, _ = write(stopped, (Curves(),))
    assert "nothing was trained for this page" not in page.text
    assert "ended before its first epoch" in page.text
    assert "chose the best epoch" not in page.text


def test_a_look_at_pictures_is_a_page_of_its_parts_alone(tmp_path):
    evidence = made_evidence(tmp_path)
    unknown = replace(evidence.predictions, targets=np.full(60, -1))
    look = replace(evidence, history=(), best=None, predictions=unknown, finding=None, split="pictures")
    _, page, _, said = write(look, (GradCAM(select="confident", count=2),))
    assert not said
    assert "nothing was trained for this page" in page.text
    assert [a["id"] for _, a in page.all("section")] == ["answer", "gradcam-confident"]


def test_the_same_evidence_gives_the_same_bytes(tmp_path):
    first = write(made_evidence(tmp_path / "a"), (Curves(), Misclassified(count=3)))[0]
    evidence = made_evidence(tmp_path / "b")
    second = write(evidence, (Curves(), Misclassified(count=3)))[0]
    text = first.html.read_text().replace(str(tmp_path / "a"), str(tmp_path / "b"))
    assert text == second.html.read_text()
