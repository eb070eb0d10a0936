"""What it costs to add 1 % of new images to a data set: `dvc repro balance`, stage by stage.

    python tests/benchmarks/growth.py                    # 100,000 colour images of 32 px
    python tests/benchmarks/growth.py --side 28 --grey
    python tests/benchmarks/growth.py --parquet          # the same images in Parquet files

Writes PNG files once, in classes with a long tail. One project runs on them, gets 1 % more, and
runs again; a second project runs on the grown set from the start, with the placements that the
first one keeps in git. Among the new images are copies and near duplicates of the first ones, and
one class is new. Prints the seconds of each stage in both projects, whether all outputs are equal
byte by byte, and how many of the first images changed their split.

Each stage is a process, whose start counts. DVC's own time is what is left of `dvc repro`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipeline.parallel import map_chunks

ROOT = Path(__file__).parents[2]
STAGES = ("sample", "index", "split", "pack", "balance")
OUTS = (
    *("data/index.parquet", "data/split.parquet", "data/placed.json", "data/packed"),
    *("data/balanced", "reports/data.json", "reports/balance.json", "reports/pictures/balance"),
)
# Of the new images: so many are copies, near duplicates, or of a new class.
COPIES, RESAVED, NEW_CLASS = 0.01, 0.02, 0.05
# Called by dvc.yaml as `convoy STAGE`: notes when a stage begins and ends.
COMMAND = """#!/bin/sh
begin=$(date +%s.%N)
"{python}" -m pipeline "$@"
code=$?
echo "$1 $begin $(date +%s.%N)" >> "{times}"
exit $code
"""


def main() -> None:
    """Make the images, run both projects and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--share", type=float, default=0.01, help="of new images")
    parser.add_argument("--classes", type=int, default=15)
    parser.add_argument("--imbalance", type=float, default=50, help="largest to smallest class")
    parser.add_argument("--side", type=int, default=32, help="px")
    parser.add_argument("--grey", action="store_true")
    parser.add_argument("--parquet", action="store_true", help="one file, then one more")
    parser.add_argument("--folder", type=Path, help="keep all of it here; default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = arguments.folder or Path(name)
        work.mkdir(exist_ok=True)
        measure(arguments, work.resolve())


def measure(arguments: argparse.Namespace, work: Path) -> None:
    """Run both projects in `work`."""
    images = work / "images"
    labels = draw_labels(arguments.images, arguments.classes, arguments.imbalance)
    write_images(arguments, images, labels, 0)
    source = images
    if arguments.parquet:
        source = work / "parquet"
        written = write_parquet(images, source / "first.parquet", set())
    grown = make_project(arguments, source, work / "grown")
    first = repro(grown)
    unchanged = repro(grown)
    before = placements(grown)
    add_images(arguments, images, labels)
    if arguments.parquet:
        write_parquet(images, source / "more.parquet", written)
    again = repro(grown)
    fresh = make_project(arguments, source, work / "fresh")
    shutil.copy(grown / "data/placed.json", fresh / "data/placed.json")
    whole = repro(fresh)
    print(f"{arguments.images} images, then {arguments.share:.1%} more; seconds")
    print(f"{'':10}{'first':>9}{'whole':>9}{'grown':>9}{'of whole':>10}")
    for stage in (*STAGES, "stages", "dvc", "all"):
        of_whole = again[stage] / whole[stage]
        print(
            f"{stage:10}{first[stage]:9.2f}{whole[stage]:9.2f}{again[stage]:9.2f}{of_whole:10.1%}"
        )
    print(f"unchanged: {unchanged['all']:.2f} s")
    different = [out for out in OUTS if contents(grown / out) != contents(fresh / out)]
    print(f"outputs equal to those of the whole run: {'all' if not different else 'NOT '}", end="")
    print(", ".join(different))
    after = placements(grown)
    moved = sum(after[content] != split for content, split in before.items())
    print(f"images that changed their split: {moved} of {len(before)}")


def draw_labels(count: int, classes: int, imbalance: float) -> list[str]:
    """Return a label for each image; the sizes of the classes fall by a constant factor."""
    sizes = imbalance ** (-np.arange(classes) / max(classes - 1, 1))
    drawn = np.random.default_rng(0).choice(classes, count, p=sizes / sizes.sum())
    return [f"c{number:02}" for number in drawn.tolist()]


def write_images(
    arguments: argparse.Namespace, root: Path, labels: Sequence[str], first: int
) -> None:
    """Write one PNG for each label, numbered from `first` on."""
    for label in set(labels):
        (root / label).mkdir(parents=True, exist_ok=True)
    rows = list(enumerate(labels, first))
    write = partial(_write_piece, root=root, side=arguments.side, grey=arguments.grey)
    for _ in map_chunks(write, rows, chunk=500, label="images"):
        pass


def _write_piece(rows: Sequence[tuple[int, str]], root: Path, side: int, *, grey: bool) -> None:
    for number, label in rows:
        cv2.imwrite(str(place(root, number, label)), picture(number, side, grey=grey))


def place(root: Path, number: int, label: str) -> Path:
    """Return where an image lies."""
    return root / label / f"{number:07}.png"


def picture(number: int, side: int, *, grey: bool) -> npt.NDArray[np.uint8]:
    """Draw smooth fields of colour at three scales, and a little noise."""
    rng = np.random.default_rng(number)
    shape = () if grey else (3,)
    fields = [
        weight * cv2.resize(rng.random((n, n, *shape), np.float32), (side, side))
        for n, weight in ((3, 120), (7, 90), (16, 45))
    ]
    noise = rng.normal(0, 3, (side, side, *shape)).astype(np.float32)
    return np.rint(np.clip(sum(fields) + noise, 0, 255)).astype(np.uint8)


def add_images(arguments: argparse.Namespace, root: Path, labels: Sequence[str]) -> None:
    """Add new pictures, exact copies, JPEG copies of first images, and a new class."""
    total = round(arguments.images * arguments.share)
    copies, resaved = round(total * COPIES), round(total * RESAVED)
    rng = np.random.default_rng(1)
    chosen = rng.choice(len(labels), copies + resaved, replace=False).tolist()
    for number in chosen[:copies]:
        path = place(root, number, labels[number])
        shutil.copy(path, path.with_name(f"{path.stem}-copy.png"))
    for number in chosen[copies:]:
        path = place(root, number, labels[number])
        cv2.imwrite(str(path.with_suffix(".jpg")), cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    new = draw_labels(total - copies - resaved, arguments.classes, arguments.imbalance)
    of_new_class = max(round(total * NEW_CLASS), 12)
    new[:of_new_class] = ["new"] * of_new_class
    write_images(arguments, root, new, arguments.images)


def write_parquet(images: Path, file: Path, without: set[Path]) -> set[Path]:
    """Write all images but some into one Parquet file; return their paths."""
    paths = sorted(set(images.rglob("*.*")) - without)
    file.parent.mkdir(exist_ok=True)
    columns = {
        "image": [path.read_bytes() for path in paths],
        "label": [path.parent.name for path in paths],
    }
    pq.write_table(pa.table(columns), file, row_group_size=1000)
    return set(paths)


def make_project(arguments: argparse.Namespace, images: Path, folder: Path) -> Path:
    """Make a copy of the repository whose data are the images; return its folder."""
    folder.mkdir()
    for name in ("pipeline", "infra"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / ".dvc").mkdir()
    (folder / "data").mkdir()
    for name in ("dvc.yaml", ".gitignore", ".dvcignore", ".dvc/config"):
        shutil.copy(ROOT / name, folder / name)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["data"]["root"] = str(images)
    channels = 1 if arguments.grey else 3
    params["pack"] |= {"height": arguments.side, "width": arguments.side, "channels": channels}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (folder / "bin").mkdir()
    command = COMMAND.format(python=sys.executable, times=folder / "times")
    (folder / "bin/convoy").write_text(command)
    (folder / "bin/convoy").chmod(0o755)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def repro(folder: Path) -> dict[str, float]:
    """Run `dvc repro balance`; return the seconds of each stage, of all, of DVC, and together."""
    path = f"{folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}"
    environment = os.environ | {
        "PATH": path + os.environ["PATH"],
        "PYTHONPATH": str(folder),
        "PYTHONSAFEPATH": "1",
    }
    times = folder / "times"
    times.write_text("")
    command = [sys.executable, "-m", "dvc", "repro", "balance"]
    begin = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=environment, check=False, capture_output=True, text=True
    )
    total_s = time.perf_counter() - begin
    assert done.returncode == 0, done.stdout + done.stderr
    spent = dict.fromkeys(STAGES, 0.0)
    for line in times.read_text().splitlines():
        stage, start, end = line.split()
        spent[stage] = float(end) - float(start)
    stages_s = sum(spent.values())
    return spent | {"stages": stages_s, "dvc": total_s - stages_s, "all": total_s}


def placements(folder: Path) -> dict[str, str]:
    """Return the split of each image, by its content."""
    table = pq.read_table(folder / "data/split.parquet", columns=["sha256", "split"])
    return dict(zip(*(table[name].to_pylist() for name in ("sha256", "split")), strict=True))


def contents(path: Path) -> dict[str, bytes]:
    """Return the bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else sorted(path.rglob("*.*"))
    return {str(file.relative_to(path)): file.read_bytes() for file in files if file.is_file()}


if __name__ == "__main__":
    main()
