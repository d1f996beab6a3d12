"""The rules by which Albumentations' image transforms and torchvision's augmentation policies come in, with exceptions.

Transforms that need masks, boxes, volumes or other images than the one at hand are refused with the reason; arguments
that only act on masks are not the user's, since nothing would read them.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterator
from dataclasses import dataclass

from registry.catalogue.adoption import Change, Found

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import asks the network for its version

_BASES = ("BasicTransform", "DualTransform", "ImageOnlyTransform", "Transform3D", "BaseCompose")
_PIXELS = "albumentations.augmentations.pixel"  # what takes pixels for grey levels, 0..255 or 0..1
_NO_MASKS = "images of a classifier have no masks"
_OTHERS = "it needs other images than the one it is given; take MixUp or CutMix under train.mix to mix images"
_BOXES = "it needs bounding boxes, which images of a classifier do not have; take RandomCrop or RandomResizedCrop"
_CHW = "the engine turns images into tensors (C, H, W) after the last transform; leave it out"
_LIST = "a list of transforms is applied in its order already; take OneOf, SomeOf, RandomOrder or Sequential to group"

_REFUSED = {
    "ToTensorV2": _CHW,
    "ToTensor3D": _CHW,
    "Compose": _LIST,
    "ReplayCompose": _LIST,
    "Lambda": "it takes functions, which a recipe cannot write; write a transform of your own and name it in plugins",
    "MaskDropout": f"{_NO_MASKS}; take CoarseDropout",
    "ConstrainedCoarseDropout": f"{_NO_MASKS}; take CoarseDropout",
    "CropNonEmptyMaskIfExists": f"{_NO_MASKS}; take RandomCrop",
    "AtLeastOneBBoxRandomCrop": _BOXES,
    "BBoxSafeRandomCrop": _BOXES,
    "RandomCropNearBBox": _BOXES,
    "RandomSizedBBoxSafeCrop": _BOXES,
    "FDA": _OTHERS,
    "HistogramMatching": _OTHERS,
    "PixelDistributionAdaptation": _OTHERS,
    "TemplateTransform": _OTHERS,
    "Mosaic": _OTHERS,
    "OverlayElements": _OTHERS,
    "TextImage": "it needs a text for every image",
}
_RENAMED = {
    "CoarseDropout": {
        "max_holes": "num_holes_range",
        "min_holes": "num_holes_range",
        "max_height": "hole_height_range",
        "min_height": "hole_height_range",
        "max_width": "hole_width_range",
        "min_width": "hole_width_range",
        "fill_value": "fill",
    },
    "GaussNoise": {"var_limit": "std_range", "mean": "mean_range"},
    "ImageCompression": {"quality_lower": "quality_range", "quality_upper": "quality_range"},
    "Downscale": {"scale_min": "scale_range", "scale_max": "scale_range"},
    "RandomResizedCrop": {"height": "size", "width": "size"},
    "RandomSizedCrop": {"height": "size", "width": "size"},
    "RandomFog": {"fog_coef_lower": "fog_coef_range", "fog_coef_upper": "fog_coef_range"},
    "RandomRain": {"slant_lower": "slant_range", "slant_upper": "slant_range"},
    "RandomSnow": {"snow_point_lower": "snow_point_range", "snow_point_upper": "snow_point_range"},
    "RandomSunFlare": {
        "angle_lower": "angle_range",
        "angle_upper": "angle_range",
        "num_flare_circles_lower": "num_flare_circles_range",
        "num_flare_circles_upper": "num_flare_circles_range",
    },
    "RandomShadow": {"num_shadows_lower": "num_shadows_limit", "num_shadows_upper": "num_shadows_limit"},
    "Solarize": {"threshold": "threshold_range"},
    "OpticalDistortion": {"shift_limit": "distort_limit"},
    "ElasticTransform": {"alpha_affine": "Affine, as a transform of its own"},
    "Affine": {"cval": "fill", "cval_mask": "nothing: there are no masks", "mode": "border_mode"},
    "Perspective": {"pad_val": "fill", "pad_mode": "border_mode"},
    "PadIfNeeded": {"value": "fill"},
    "CropAndPad": {"pad_cval": "fill", "pad_mode": "border_mode"},
    "GridDropout": {"holes_number_x": "holes_number_xy", "holes_number_y": "holes_number_xy", "fill_value": "fill"},
    "XYMasking": {"fill_value": "fill"},
    "ChannelDropout": {"fill_value": "fill"},
    "MaskDropout": {"image_fill_value": "fill"},
}
_EVERY = Change(
    engine={
        "mask_interpolation": _NO_MASKS,
        "fill_mask": _NO_MASKS,
        "mask_drop_value": _NO_MASKS,
        "keypoint_remapping_method": "images of a classifier have no keypoints",
        "rotate_method": "it is how bounding boxes are rotated, and images of a classifier have none",
        "plasma_size": "Albumentations does not read it",
    },
    missing_docs={
        "p": "probability of applying the transform.",
        "border_mode": "how pixels beyond the border are made up.",
        "fill": "value of pixels beyond the border, where border_mode is constant.",
        "first": "applied with probability p.",
        "second": "applied where the first is not.",
        "transforms": "the transforms of the group.",
    },
    renamed={
        "always_apply": "p: 1.0",
        "value": "fill",
        "mask_value": "nothing: there are no masks",
        "mask_fill_value": "nothing: there are no masks",
    },
)


@dataclass(frozen=True)
class AlbumentationsTransforms:
    """Adopt every image transform and every group of transforms that Albumentations exports."""

    def find(self) -> Iterator[Found]:
        """Import Albumentations and yield its transforms by name."""
        module = importlib.import_module("albumentations")
        bases = tuple(getattr(module, name) for name in _BASES)
        for name in sorted(vars(module)):
            cls = getattr(module, name)
            if not isinstance(cls, type) or not issubclass(cls, bases) or cls in bases or inspect.isabstract(cls):
                continue
            if issubclass(cls, module.Transform3D) or name.startswith("Base"):
                continue  # they take volumes
            levels = {"levels": True} if cls.__module__.startswith(_PIXELS) and name != "Normalize" else {}
            own = Change(refused=_REFUSED.get(name, ""), renamed=_RENAMED.get(name, {}), facts=levels)
            yield Found(name, f"albumentations:{name}", cls, own.over(_EVERY), own=False, package="albumentations")


# ----------------------------------------------------------------------------------------------- torchvision's policies
_BINS = {"kind": "integer", "min": 2}
_POLICY = Change(
    types={
        "interpolation": {"kind": "one_of", "values": ["nearest", "bilinear"]},
        "fill": {
            "kind": "union",
            "of": [
                {"kind": "number", "min": 0, "max": 255},
                {"kind": "list", "of": {"kind": "number", "min": 0, "max": 255}, "min_length": 1},
                {"kind": "null"},
            ],
        },
        "num_magnitude_bins": _BINS,
    },
    docs={
        "interpolation": "how pixels between pixels are read, where an operation moves them.",
        "fill": "grey level of what comes in from beyond the border, or one per channel; black when null.",
        "policy": "the data set that the pairs of operations were learnt on.",
    },
    renamed={"p": "nothing: it acts on every image, and chance leaves some as they are"},
    facts={"levels": True},
)
_POLICIES: dict[str, Change] = {
    "AugMix": Change(
        types={
            "severity": {"kind": "integer", "min": 1, "max": 10},
            "mixture_width": {"kind": "integer", "min": 1},
            "alpha": {"kind": "number", "above": 0},
        },
        renamed={"width": "mixture_width", "depth": "chain_depth"},
        facts={"usual": {"mixture_width": [1, 10], "chain_depth": [-1, 10]}},
    ),
    "AutoAugment": Change(),
    "RandAugment": Change(
        types={"num_ops": {"kind": "integer", "min": 1}, "magnitude": {"kind": "integer", "min": 0}},
        renamed={"n": "num_ops", "N": "num_ops", "num_layers": "num_ops", "m": "magnitude", "M": "magnitude"},
        facts={"usual": {"num_ops": [1, 10]}},
    ),
    "TrivialAugmentWide": Change(),
}


@dataclass(frozen=True)
class TorchvisionPolicies:
    """Adopt torchvision's augmentation policies, which draw operations for each image."""

    def find(self) -> Iterator[Found]:
        """Import torchvision and yield its policies by name."""
        module = importlib.import_module("torchvision.transforms.v2")
        for name, own in _POLICIES.items():
            target = f"registry.transforms.policies:{name}"
            change = own.over(Change(facts={"upstream": f"torchvision.transforms.v2:{name}"})).over(_POLICY)
            yield Found(name, target, getattr(module, name), change, own=False, package="torchvision")
