"""Stage sample: write the embedded digits, drawn parcels or a torchvision set as class folders."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from pipeline.data.parcels import CLASSES, PARCELS_SOURCE, draw_parcel
from pipeline.data.sample import (
    DIGITS_SOURCE,
    folder_names,
    load_digits,
    long_tail,
    write_sample,
)
from pipeline.files import atomic_path
from pipeline.params import Params, Sample
from pipeline.remote import is_uri
from pipeline.stages import _paths

_PARCELS_PER_CLASS = 800


def run(params: Params) -> None:
    """Write data/sample/, which holds a note alone when the images come from elsewhere."""
    section = params.sample
    root = params.data.root if is_uri(params.data.root) else Path(params.data.root)
    with atomic_path(_paths.ROOT) as temporary:
        temporary.write_text(f"{root}\n", encoding="utf-8")
    if isinstance(root, str) or _paths.SAMPLE not in (root, *root.parents):
        _paths.link_for_dvc(params.data.root)
        write_sample(_paths.SAMPLE, [], f"Not made, for data.root is {root}.\n")
        print(f"sample: not made, for data.root is {root}")
        return
    if section.source == "digits":
        count = write_sample(_paths.SAMPLE, _digits(section), DIGITS_SOURCE)
    elif section.source == "parcels":
        count = write_sample(_paths.SAMPLE, _parcels(section), PARCELS_SOURCE)
    else:
        # It imports torch, which the embedded sample does without.
        from pipeline.vision.torchvision_data import source_text

        count = write_sample(_paths.SAMPLE, _by_name(section), source_text(section.source))
    print(f"sample: {count} images of {section.source} -> {_paths.SAMPLE}")


def _digits(section: Sample) -> Iterator[tuple[str, Image.Image]]:
    pictures, labels = load_digits()
    for index in long_tail(labels, section.imbalance_ratio, section.seed):
        yield f"{labels[index]}/{index:04d}", pictures[index]


def _parcels(section: Sample) -> Iterator[tuple[str, Image.Image]]:
    """Yield height maps, the most envelopes and the fewest doubles."""
    labels = np.repeat(np.arange(len(CLASSES)), _PARCELS_PER_CLASS)
    kept = long_tail(labels, section.imbalance_ratio, section.seed)
    for index in tqdm(kept, desc="sample", unit="img", delay=1.0):
        label, number = divmod(index, _PARCELS_PER_CLASS)
        rng = np.random.default_rng([section.seed, label, number])
        yield f"{CLASSES[label]}/{number:04d}", Image.fromarray(draw_parcel(label, rng))


def _by_name(section: Sample) -> Iterator[tuple[str, Image.Image]]:
    """Yield a torchvision data set; val and test stay as given, the rest gets the long tail."""
    from pipeline.vision.torchvision_data import fetch

    for part in fetch(section.source, _paths.STATE / "downloads"):
        names = folder_names(part.classes)
        kept = list(range(len(part.labels)))
        if part.split in ("train", None):
            kept = long_tail(part.labels, section.imbalance_ratio, section.seed)
        prefix = f"{part.split}/" if part.split else ""
        for index in tqdm(kept, desc=prefix or "sample", unit="img", delay=1.0):
            label = names[part.labels[index]]
            yield f"{prefix}{label}/{index:06d}", part.picture(index)
