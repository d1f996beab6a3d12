"""Where a map is found in transformers: patch tokens and feature maps, never a table of queries by keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torchvision
from layers_kit import default_layer, eligible_layers
from torch import Tensor, nn

from registry.errors import RecipeError
from registry.reports.cam import explain
from registry.reports.layers import panel_layers, select_layers, visits

REPORT = Path(__file__).parents[2] / "docs" / "report.md"
# By name: the default layer and its map (channels, height, width), and other layers that are accepted by name.
TIMM = {
    "vit_tiny_patch16_224": ("blocks.11.norm1", (192, 14, 14), ["blocks.11", "norm", "patch_embed.proj"]),
    "deit_tiny_patch16_224": ("blocks.11.norm1", (192, 14, 14), ["blocks.10", "norm"]),
    "deit_tiny_distilled_patch16_224": ("blocks.11.norm1", (192, 14, 14), ["blocks.11.norm2"]),
    "swin_tiny_patch4_window7_224": ("layers.2", (384, 14, 14), ["layers.0", "layers.3", "norm", "layers.1.blocks.0"]),
    "cait_xxs24_224": ("blocks_token_only.1.norm1", (192, 14, 14), ["blocks.23", "blocks.23.norm1"]),
    "eva02_tiny_patch14_224": ("blocks.11.norm1", (192, 16, 16), ["blocks.11"]),
    "convnext_atto": ("stages.3.downsample.0", (160, 14, 14), ["stages.2", "stages.3", "norm_pre"]),
    "mobilevit_xxs": ("final_conv", (320, 8, 8), ["stages.3", "stages.4"]),
    "volo_d1_224": ("post_network.1.norm1", (384, 14, 14), ["network.0"]),
    "convit_tiny": ("blocks.11.norm1", (192, 14, 14), ["blocks.11"]),
    "xcit_nano_12_p16_224": ("cls_attn_blocks.1.norm1", (128, 14, 14), ["blocks.11"]),
    "hiera_tiny_224": ("patch_embed", (96, 56, 56), ["patch_embed.proj"]),
    "visformer_tiny": ("stage2", (192, 14, 14), ["stage3", "norm"]),
}
TORCHVISION = {
    "vit_b_16": ("encoder.layers.encoder_layer_11.ln_1", (768, 14, 14), ["encoder.layers.encoder_layer_11"]),
    "swin_t": ("features.5", (384, 14, 14), ["features.1", "features.7", "permute"]),
    "convnext_tiny": ("features.6.0", (384, 14, 14), ["features.5", "features.7"]),
}
_TABLES = re.compile(r"attn_drop|softmax|attn_dropout|proj_[lw]|pos_proj|[qk]_norm")


def on_meta(make, side: int) -> tuple[nn.Module, Tensor]:
    with torch.device("meta"):
        return make(), torch.empty(1, 3, side, side)


def assert_maps(model: nn.Module, images: Tensor, expected: tuple) -> None:
    """Hold the default, the layers accepted by name, and that no part of an attention is a default."""
    default, shape, named = expected
    seen = visits(model, images)
    layers = dict(eligible_layers(model, images))
    assert (default_layer(model, images), layers.get(default)) == (default, shape)
    assert select_layers([default, *named], seen)
    tables = [name for name in layers if _TABLES.fullmatch(name.rpartition(".")[2])]
    assert tables == []
    assert not [name for name in panel_layers(seen) if re.search(r"(attn|attention)\.", name)]


@pytest.mark.parametrize("name", TIMM)
def test_timms_transformers_are_explained_by_their_patches(name: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is an extra: pip install 'recipe-trainer[timm]'")
    side = 256 if name.startswith("mobilevit") else 224
    assert_maps(*on_meta(lambda: timm.create_model(name, num_classes=5), side), TIMM[name])


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_transformers_are_explained_by_their_patches(name: str) -> None:
    assert_maps(*on_meta(lambda: getattr(torchvision.models, name)(num_classes=5), 224), TORCHVISION[name])


def test_the_layers_that_the_manual_names_are_accepted() -> None:
    timm = pytest.importorskip("timm", reason="timm is an extra: pip install 'recipe-trainer[timm]'")
    rows = re.findall(r"^\| (\S+) \| (`.+`) \|$", REPORT.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) >= 6
    for model, cells in rows:
        source, _, name = model.rpartition(":")
        make = (
            timm.create_model
            if source
            else lambda name, num_classes: getattr(torchvision.models, name)(num_classes=num_classes)
        )
        network, images = on_meta(lambda make=make, name=name: make(name, num_classes=5), 224)
        assert select_layers(re.findall(r"`(.+?)`", cells), visits(network, images))


def test_a_map_of_timms_vision_transformer_is_evidence_on_its_patches() -> None:
    timm = pytest.importorskip("timm", reason="timm is an extra: pip install 'recipe-trainer[timm]'")
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=64, depth=2)
    nn.init.normal_(model.head.weight)
    layer = default_layer(model, torch.zeros(1, 3, 64, 64))
    assert layer == "blocks.1.norm1"
    found = explain(model, torch.randn(2, 3, 64, 64), [layer], torch.tensor([1, 2]))
    assert found.maps[layer].shape == (1, 2, 4, 4)
    assert float(found.maps[layer].amax(dim=(1, 2, 3))[0]) > 0


# ------------------------------------------------------------------------------------------ the kinds, without an extra
class Attention(nn.Module):
    """Talking heads: the table of queries by keys passes a Linear, a softmax and a dropout before it is used."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.Identity()
        self.talk = nn.Linear(heads, heads)
        self.softmax = nn.Softmax(dim=-1)
        self.drop = nn.Dropout(0.1)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, count, width = x.shape
        q, k, v = self.qkv(x).reshape(n, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        table = self.q_norm(q) @ k.transpose(-2, -1)
        table = self.talk(table.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        table = self.drop(self.softmax(table + 1))
        return self.proj((table @ v).transpose(1, 2).reshape(n, count, width))


class Patches(nn.Module):
    """16 patches of a 16x16 image, so that a table has the image's proportions and size; no class token."""

    def __init__(self, channels_last: bool) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 4, 4)
        self.norm = nn.LayerNorm(16)
        self.attn = Attention(16, 4)
        self.mlp = nn.Linear(16, 16)
        self.act = nn.ReLU()
        self.head = nn.Linear(16, 3)
        self.channels_last = channels_last

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = x + self.attn(self.norm(x))
        if self.channels_last:
            x = x.reshape(len(x), 4, 4, 16)
        return self.head(self.act(self.mlp(x)).flatten(1, -2).mean(1))


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_table_of_queries_by_keys_is_no_map_even_where_it_is_as_large_as_the_image(channels_last: bool) -> None:
    model, images = Patches(channels_last), torch.randn(1, 3, 16, 16)
    assert dict(eligible_layers(model, images)) == {
        "embed": (16, 4, 4),
        "norm": (16, 4, 4),
        "attn.qkv": (48, 4, 4),
        "attn.proj": (16, 4, 4),
        "attn": (16, 4, 4),
        "mlp": (16, 4, 4),
        "act": (16, 4, 4),
    }
    assert default_layer(model, images) == ("act" if channels_last else "norm")
    for name in ("attn.talk", "attn.softmax", "attn.drop", "attn.q_norm"):
        with pytest.raises(RecipeError, match="not a map"):
            select_layers([name], visits(model, images))


class Pooled(nn.Module):
    """Attention over places whose keys come from a convolution; it gives one vector."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = nn.Conv2d(3, 8, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        keys = self.keys(x).flatten(2)
        return ((keys.transpose(1, 2) @ keys).softmax(-1) @ keys.transpose(1, 2)).mean(1)


def test_the_parts_of_an_attention_are_shown_only_where_there_is_nothing_else() -> None:
    alone, images = nn.Sequential(Pooled(), nn.Linear(8, 3)), torch.randn(1, 3, 16, 16)
    assert default_layer(alone, images) == "0.keys"
    assert default_layer(nn.Sequential(nn.Conv2d(3, 3, 1), *alone), images) == "0"
