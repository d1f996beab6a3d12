"""The card beside an exported file: what it is, how it was proved, how to ask it. Markdown."""

from __future__ import annotations

from pathlib import Path

from registry.printing import literal
from trainer.export.about import About
from trainer.export.proof import Proof

_ASK = {
    ".onnx": """\
import json, numpy as np, onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("{file}")
names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
picture = ImageOps.exif_transpose(Image.open("picture.png")).convert("RGBA")  # upright
on_ground = Image.alpha_composite(Image.new("RGBA", picture.size, {ground}), picture)
pixels = np.asarray(on_ground.convert("{mode}")){grey}
(probabilities,) = session.run(None, {{"pictures": pixels[None]}})  # uint8 (N, H, W, {channels}) in
print(names[probabilities[0].argmax()], probabilities[0].max())
""",
    ".pt2": """\
import json, numpy as np, torch
from PIL import Image, ImageOps

extra = {{"about.json": ""}}
network = torch.export.load("{file}", extra_files=extra).module()
names = json.loads(json.loads(extra["about.json"])["class_names"])
picture = ImageOps.exif_transpose(Image.open("picture.png")).convert("RGBA")  # upright
on_ground = Image.alpha_composite(Image.new("RGBA", picture.size, {ground}), picture)
pixels = torch.from_numpy(np.array(on_ground.convert("{mode}"))){grey}
probabilities = network(pixels[None])  # uint8 (N, H, W, {channels}) in
print(names[probabilities[0].argmax()], float(probabilities[0].max()))
""",
}


def card(file: Path, about: About, proof: Proof, demanded: str, remarks: list[str]) -> str:
    """Return the card.

    Args:
        file: what it is of.
        about: what the file says of itself.
        proof: how its answers compare with the run's.
        demanded: below what it would not have been called exported.
        remarks: a sentence each.
    """
    measured, calibration = about.json("measured"), about.json("calibration")
    size = about.size
    told = (
        f"divided by the temperature {calibration['temperature']:.4g}, which was fitted on {calibration['fitted_on']}"
        if calibration["calibrated"]
        else "as the network has them, not calibrated"
    )
    accuracy = f"{100 * proof.right_of_file / max(1, proof.images):.2f} %"
    below = about.abstain_below
    rows = [
        ("proof", f"**{proof.said()}** ({demanded})"),
        ("accuracy", f"{accuracy} of {proof.images:,} pictures of {proof.split}; the run's own {_percent(measured)}"),
        ("calibration error", f"{100 * measured['ece']:.2f} % on {measured['split']}; probabilities are {told}"),
        ("not sure", "never" if below is None else f"where the likeliest class has less than {100 * below:g} %"),
        ("classes", ", ".join(f"`{literal(name)}`" for name in about.class_names[:20]) + _more(len(about.class_names))),
        ("pictures", _pictures(about.channels, size, about.short_side)),
        ("recipe", f"`{literal(about.texts['recipe'])}`, sha256 `{about.texts['recipe_sha256']}`"),
    ]
    table = "\n".join(f"| {name} | {text} |" for name, text in rows)
    ask = _ASK[file.suffix].format(
        file=file.name,
        mode="L" if about.channels == 1 else "RGB",
        grey="[..., None]" if about.channels == 1 else "",
        channels=about.channels,
        ground=about.decoding.ground_in_code,
    )
    return "\n".join(
        [
            f"# {literal(file.name)}",
            "",
            "A network with its preprocessing: pictures in, probabilities out.",
            "",
            "| | |\n|---|---|",
            table,
            "",
            *(f"{remark}\n" for remark in remarks),
            "```python",
            ask + "```",
            "",
            about.decoding.deep_in_words,
            "",
        ]
    )


def _percent(measured: dict[str, float]) -> str:
    return f"{100 * measured['accuracy']:.2f} %"


def _more(count: int) -> str:
    return f", and {count - 20:,} more" if count > 20 else ""


def _pictures(channels: int, size: tuple[int, int] | None, side: int | None) -> str:
    colour = "RGB" if channels == 3 else "grey"
    own = (
        "of any height and width, all pictures of one batch alike"
        if size is None
        else f"of any height and width; the training images have {size[0]} x {size[1]}, others are first made that size"
    )
    first = "" if side is None else f"; shrink larger ones to a short side of {side} before (`evaluate` and `serve` do)"
    return f"uint8 (N, H, W, {channels}), {colour}, {own}{first}"
