"""The augmentations that params.yaml may name, and their arguments.

A literal table, so that a mistake is found before albumentations (two seconds) is imported; a
contract test holds it equal to what albumentations accepts. `Superimpose` is our own: it blends
in another training image of the same class.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import did_you_mean

_BORDER = "border_mode fill"

AUGMENTATIONS: dict[str, frozenset[str]] = {
    name: frozenset(arguments.split()) | {"p"}
    for name, arguments in {
        # geometric
        "Affine": "scale translate_percent translate_px rotate shear interpolation fit_output"
        f" keep_ratio rotate_method balanced_scale {_BORDER}",
        "Rotate": f"limit interpolation rotate_method crop_border {_BORDER}",
        "RandomRotate90": "",
        "Transpose": "",
        "Perspective": f"scale keep_size fit_output interpolation {_BORDER}",
        "HorizontalFlip": "",
        "VerticalFlip": "",
        "RandomResizedCrop": "scale ratio interpolation area_for_downscale",
        "CropAndPad": f"px percent keep_size sample_independently interpolation {_BORDER}",
        "ElasticTransform": "alpha sigma interpolation approximate same_dxdy noise_distribution"
        f" {_BORDER}",
        "GridDistortion": f"num_steps distort_limit interpolation normalized {_BORDER}",
        # photometric
        "GaussNoise": "std_range mean_range per_channel noise_scale_factor",
        "ISONoise": "color_shift intensity",
        "ShotNoise": "scale_range",
        "SaltAndPepper": "amount salt_vs_pepper",
        "MultiplicativeNoise": "multiplier per_channel elementwise",
        "RandomBrightnessContrast": "brightness_limit contrast_limit brightness_by_max"
        " ensure_safe_range",
        "RandomGamma": "gamma_limit",
        "ColorJitter": "brightness contrast saturation hue",
        "HueSaturationValue": "hue_shift_limit sat_shift_limit val_shift_limit",
        "GaussianBlur": "blur_limit sigma_limit",
        "MotionBlur": "blur_limit allow_shifted angle_range direction_range",
        "MedianBlur": "blur_limit",
        "Sharpen": "alpha lightness method kernel_size sigma",
        "ImageCompression": "compression_type quality_range",
        "CoarseDropout": "num_holes_range hole_height_range hole_width_range fill",
        "Superimpose": "weight",
    }.items()
}

# Training-time augmentation of whole batches on the training device.
BATCH_AUGMENTATIONS: dict[str, frozenset[str]] = {
    "hflip": frozenset({"p"}),
    "vflip": frozenset({"p"}),
    "crop": frozenset({"padding"}),
    "affine": frozenset({"degrees", "translate", "scale", "shear"}),
    "color": frozenset({"brightness", "contrast", "saturation", "hue"}),
    "noise": frozenset({"std"}),
    "erase": frozenset({"p", "area"}),
}


def check_items(
    items: Sequence[Mapping[str, Mapping[str, Any]]],
    table: Mapping[str, frozenset[str]],
    kind: str,
) -> list[str]:
    """List the mistakes in a list of '- Name: {argument: value}'.

    Args:
        items: the list from params.yaml.
        table: valid names and, for each, its valid arguments.
        kind: what a name is called in messages, such as 'transform'.
    """
    mistakes = []
    for position, item in enumerate(items):
        if len(item) != 1:
            found = ", ".join(item) or "none"
            mistakes.append(f"[{position}]: need one {kind} per item, found {found}")
            continue
        ((name, arguments),) = item.items()
        if name not in table:
            mistakes.append(
                f"[{position}]: unknown {kind} {name}{did_you_mean(name, table)}"
                f" (valid: {', '.join(sorted(table))})"
            )
            continue
        valid = table[name]
        mistakes.extend(
            f"[{position}].{name}: unknown argument {argument}{did_you_mean(argument, valid)}"
            f" (valid: {', '.join(sorted(valid)) or 'none'})"
            for argument in arguments
            if argument not in valid
        )
    return mistakes
