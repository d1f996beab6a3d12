"""Breadth: every component is listed, described, in the schema, built from the YAML that `describe` shows, and acts."""

import re
from pathlib import Path

import pytest
from breadth import ROOT, act, checked, page

from registry.catalogue.catalog import Catalogue, catalogue
from registry.catalogue.slots import SLOTS
from trainer.cli.describing import describe_text, list_text
from trainer.recipe.schema import schema

KNOWN = catalogue()
# One model per class of torchvision, the smallest; the others are slow on the meta device, half a minute in all.
QUICK_MODELS = (  # noqa: SIM905 - easier to read
    "alexnet convnext_tiny densenet121 efficientnet_b0 googlenet inception_v3 maxvit_t mnasnet0_5 mobilenet_v2 "
    "mobilenet_v3_small regnet_x_400mf resnet18 shufflenet_v2_x0_5 squeezenet1_0 swin_t swin_v2_t vgg11 vit_b_16"
).split()


def everything() -> list:
    made = []
    for slot in SLOTS:
        for name in KNOWN.names(slot):
            late = slot == "model" and not KNOWN.entry(slot, name).own and name not in QUICK_MODELS
            made.append(pytest.param(slot, name, marks=pytest.mark.slow if late else ()))
    return made


@pytest.fixture(autouse=True)
def one_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the catalogue once, not for every recipe."""
    monkeypatch.setattr("trainer.recipe.load.catalogue", lambda _plugins=(): KNOWN)


@pytest.fixture(scope="module")
def definitions() -> dict:
    return schema(KNOWN)["$defs"]


@pytest.mark.filterwarnings("ignore:.*(special case|specialized version|is an alias|very slow)")
@pytest.mark.parametrize(("slot", "name"), everything())
def test_a_component_is_described_and_built_and_acts(
    slot: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, definitions: dict
) -> None:
    monkeypatch.chdir(tmp_path)
    entry = KNOWN.entry(slot, name)
    assert f"{name} - {slot}" in describe_text(f"{slot}.{name}", components=KNOWN)
    assert definitions[f"{slot}.{name}"]["properties"]["type"]["const"] == name
    assert act(entry, checked(entry, KNOWN, tmp_path), KNOWN, tmp_path)


@pytest.mark.parametrize("slot", SLOTS)
def test_a_slot_lists_every_component(slot: str) -> None:
    listed = re.findall(r"^  (\S+)", list_text(slot, components=KNOWN), re.MULTILINE)
    assert listed == KNOWN.names(slot)


def test_the_page_of_components_names_all_of_them() -> None:
    """Regenerate it with `python tests/registry/breadth.py` after adding a component."""
    text = (ROOT / "docs" / "components.md").read_text(encoding="utf-8")
    own = [(slot, name) for slot in SLOTS for name in KNOWN.names(slot) if KNOWN.entry(slot, name).own]
    assert [name for _, name in own if f"| `{name}` | ours |" not in text] == []


def test_the_page_of_components_is_made_from_the_catalogue() -> None:
    small = Catalogue([])
    assert "| [optimizer](#optimizer) | 0 | 0 | 0 | 0 | 0 |" in page({}, small)
