"""Cut a folder of class folders down to few images, or to a long tail, with the same test set.

    python -m tests.benchmarks.rivals.cut DATA OUT [--per-class N | --ratio R] [--left-out]

Makes OUT/train, OUT/val and OUT/test with a folder per class, of hard links where these are
possible, else of copies. A quarter of each class is the test set. It depends on the seed alone, so
that all cuts of a data set are judged by the same images. Of the others are kept:

- all, without either option;
- N of each class, with --per-class;
- all of the largest class, with --ratio, and 1/R as many of the smallest; the classes in between
  lie on a geometric series, as in Cao et al. 2019.

With --left-out the images that are not kept stand in OUT/test, and the test images nowhere: to
choose settings for a small set by many images without reading the test set.

15 % of what is kept validates, at least one image of each class. A smaller cut is a part of a
larger one: its images are the first of the same random order.
"""

import argparse
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np

TEST, VAL = 0.25, 0.15
SPLITS = ("train", "val", "test")
# One image each to train, to validate and to test with.
LEAST = len(SPLITS)

Cut = dict[str, dict[str, list[Path]]]


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Print the line and end with code 2."""
        self.exit(2, f"{Path(self.prog).stem}: {message}\n")


def main() -> None:
    """Cut and print how many images each class has."""
    parser = Parser(prog="cut", description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="a folder of class folders")
    parser.add_argument("out", type=Path, help="a folder that is new or empty")
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--per-class", type=int, help="images of each class to train and validate")
    kept.add_argument("--ratio", type=float, help="largest class by smallest class")
    parser.add_argument("--left-out", action="store_true", help="test by what is not kept")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        classes = read_classes(arguments.data)
        found = cut(
            classes,
            arguments.per_class,
            arguments.ratio,
            arguments.seed,
            left_out=arguments.left_out,
        )
        write(found, arguments.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"{'class':20}" + "".join(f"{split:>8}" for split in SPLITS))
    for name, parts in found.items():
        print(f"{name:20}" + "".join(f"{len(parts[split]):8}" for split in SPLITS))


def read_classes(data: Path) -> dict[str, list[Path]]:
    """Return the files of each class folder, both in the order of their names.

    Raises:
        ValueError: there are no two classes.
    """
    folders = sorted(path for path in data.iterdir() if path.is_dir())
    classes = {
        folder.name: sorted(
            path for path in folder.iterdir() if path.is_file() and path.name[0] != "."
        )
        for folder in folders
    }
    if len(classes) < 2:
        raise ValueError(f"{data}: expected two or more class folders, found {len(classes)}")
    return classes


def cut(
    classes: Mapping[str, list[Path]],
    per_class: int | None = None,
    ratio: float | None = None,
    seed: int = 0,
    *,
    left_out: bool = False,
) -> Cut:
    """Draw the splits of each class.

    Args:
        classes: the files of each class.
        per_class: how many of each class are kept, beside the test images.
        ratio: how many times as many images of the largest class are kept as of the smallest.
        seed: of the random order.
        left_out: whether "test" holds the images that are not kept instead of the test images.

    Returns:
        {class: {"train": files, "val": files, "test": files}}

    Raises:
        ValueError: a class or what would be kept of it is too small, an option is out of range, or
            nothing is left out.
    """
    tests, others = {}, {}
    for number, (name, files) in enumerate(classes.items()):
        if len(files) < LEAST:
            raise ValueError(f"class {name}: expected {LEAST} or more images, found {len(files)}")
        # A generator of its own: what another class has must not change the draw.
        order = np.random.default_rng([seed, number]).permutation(len(files))
        shuffled = [files[place] for place in order]
        count = max(1, round(TEST * len(files)))
        tests[name], others[name] = shuffled[:count], shuffled[count:]
    keep = _sizes({name: len(files) for name, files in others.items()}, per_class, ratio)
    found: Cut = {}
    for name, files in others.items():
        kept = files[: keep[name]]
        count = max(1, round(VAL * len(kept)))
        judged = files[keep[name] :] if left_out else tests[name]
        found[name] = {"train": kept[count:], "val": kept[:count], "test": judged}
    if not any(parts["test"] for parts in found.values()):
        raise ValueError("--left-out: all images are kept, give --per-class or --ratio")
    return found


def _sizes(there: dict[str, int], per_class: int | None, ratio: float | None) -> dict[str, int]:
    """Return how many images of each class are kept."""
    if per_class is not None:
        if per_class < 2:
            raise ValueError(f"--per-class: got {per_class}, need at least 2, one to validate")
        short = [name for name, count in there.items() if count < per_class]
        if short:
            raise ValueError(
                f"--per-class: got {per_class}, but class {short[0]} has {there[short[0]]} images"
                " beside the test images"
            )
        return dict.fromkeys(there, per_class)
    if ratio is not None:
        if ratio < 1:
            raise ValueError(f"--ratio: got {ratio:g}, need at least 1")
        by_size = sorted(there, key=lambda name: -there[name])
        largest, steps = there[by_size[0]], len(there) - 1
        wanted = {
            name: round(largest * ratio ** (-place / steps)) for place, name in enumerate(by_size)
        }
        return {name: max(2, min(wanted[name], there[name])) for name in there}
    return there


def write(found: Cut, out: Path) -> None:
    """Lay the files out as OUT/SPLIT/CLASS/NAME.

    Raises:
        ValueError: the folder is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out}: is not empty")
    for name, parts in found.items():
        for split, files in parts.items():
            folder = out / split / name
            folder.mkdir(parents=True)
            for file in files:
                _link(file, folder / file.name)


def _link(file: Path, target: Path) -> None:
    """Link a file, or copy it to another file system."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


if __name__ == "__main__":
    main()
