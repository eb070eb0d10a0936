"""A sample data set as a folder of class folders: long-tailed on purpose, written whole."""

import re
import shutil
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

# Beside the images; the index stage ignores it.
SOURCE_FILE = "SOURCE.md"

DIGITS_SOURCE = """\
# Source of these images

Handwritten digits, 8 x 8 px, as scikit-learn's `load_digits` holds them: the test part of
"Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (1998), UCI Machine
Learning Repository, https://doi.org/10.24432/C50P49.

Licence: Creative Commons Attribution 4.0 International (CC BY 4.0),
https://creativecommons.org/licenses/by/4.0/.

Changed: the grey levels 0-16 are stretched to 0-255 and saved as PNG, and images of the later
classes are left out at random, so that the class sizes have a long tail.
"""

_LOSSLESS_SIDE = 128  # px; larger pictures were photographs, and PNG makes them ten times larger


def load_digits() -> tuple[list[Image.Image], npt.NDArray[np.int64]]:
    """Return scikit-learn's 1,797 digits as 8 x 8 px grey pictures, and what they show."""
    # Its table is read without importing scikit-learn, which takes more than a second.
    found = find_spec("sklearn")
    assert found
    assert found.submodule_search_locations
    table = Path(found.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    rows = np.loadtxt(table, delimiter=",")
    levels = np.rint(rows[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    return [Image.fromarray(picture) for picture in levels], rows[:, -1].astype(np.int64)


def long_tail(labels: npt.NDArray[np.int64], imbalance_ratio: float, seed: int) -> list[int]:
    """Choose the images to keep, so that class sizes fall exponentially from class to class.

    Of class c of k, n * imbalance_ratio^(-c / (k - 1)) of its n images are kept: the profile of
    Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, 2019.

    Args:
        labels: class number of each image.
        imbalance_ratio: 1 keeps all.
        seed: of the choice within a class.

    Returns:
        Indices into `labels`, sorted.
    """
    classes = np.unique(labels)
    kept: list[int] = []
    for rank, label in enumerate(classes):
        members = np.flatnonzero(labels == label)
        share = imbalance_ratio ** -(rank / max(len(classes) - 1, 1))
        count = max(round(len(members) * share), 1)
        chosen = np.random.default_rng([seed, int(label)]).permutation(members)[:count]
        kept.extend(chosen.tolist())
    return sorted(kept)


def folder_names(classes: Sequence[str]) -> list[str]:
    """Turn class names into names for folders: 'T-shirt/top' becomes 'T-shirt_top'."""
    names = [re.sub(r"[^\w.-]+", "_", name).strip("._") for name in classes]
    # Two folders that differ in case alone are one on some file systems.
    if len({name.lower() for name in names} - {""}) < len(names):
        return [f"{number:03d}_{name}" for number, name in enumerate(names)]
    return names


def write_sample(folder: Path, pictures: Iterable[tuple[str, Image.Image]], source: str) -> int:
    """Write pictures and their source; `folder` is replaced as a whole at the end.

    Args:
        folder: of the class folders.
        pictures: path without suffix, relative to `folder`, and the picture.
        source: text about origin and licence.

    Returns:
        How many were written.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / SOURCE_FILE).write_text(source, encoding="utf-8")
    count = 0
    for path, picture in pictures:
        (partial / path).parent.mkdir(parents=True, exist_ok=True)
        if max(picture.size) <= _LOSSLESS_SIDE:
            picture.save(partial / f"{path}.png")
        else:
            picture.convert("RGB").save(partial / f"{path}.jpg", quality=95)
        count += 1
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    return count
