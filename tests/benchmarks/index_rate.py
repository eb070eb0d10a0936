"""How fast a folder is indexed, beside a bare loop that only decodes and hashes; and again.

    python tests/benchmarks/index_rate.py --images 100000

Both loops use all cores and the same files, which are in the page cache. A re-index opens none.
"""

import argparse
import hashlib
import io
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.data.indexing.comparisons import Comparisons
from pipeline.data.indexing.index import build_index, index_report
from pipeline.data.indexing.measurements import measure_all
from pipeline.data.indexing.same_picture import Pictures
from pipeline.data.indexing.verify import Limits
from pipeline.data.sources.open import open_source
from pipeline.parallel import map_chunks, usable_cores

CLASSES = 10


def make_image(root: Path, side: int, numbers: Sequence[int]) -> None:
    for number in numbers:
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        picture = coarse.resize((side, side), Image.Resampling.BICUBIC)
        picture.save(root / str(number % CLASSES) / f"{number:07d}.jpg")


def bare(paths: Sequence[Path]) -> None:
    for path in paths:
        content = path.read_bytes()
        hashlib.sha256(content).digest()
        Image.open(io.BytesIO(content)).load()


def index(root: Path, cache: Path) -> pa.Table:
    source = open_source(root)
    listing = source.list_images()
    limits = Limits(100_000_000, 4)
    measured = measure_all(source, listing.images, limits, cache)
    contents = dict(zip(*(measured[name].to_pylist() for name in ("path", "sha256")), strict=True))
    compared = Comparisons(Pictures(source, limits), contents, limits, cache)
    table = build_index(measured, 20, compared.same)
    compared.save()
    index_report(table, listing.ignored)
    return table


def timed(function: partial[object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=64, help="px")
    arguments = parser.parse_args()
    count = arguments.images
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder) / "images", Path(folder) / "cache"
        for label in range(CLASSES):
            (root / str(label)).mkdir(parents=True)
        make = partial(make_image, root, arguments.side)
        list(map_chunks(make, range(count), chunk=500, label="make"))
        paths = sorted(root.rglob("*.jpg"))
        bare_s = timed(partial(lambda: list(map_chunks(bare, paths, chunk=128, label="bare"))))
        first_s = timed(partial(index, root, cache))
        again_s = timed(partial(index, root, cache))
    print(f"{count} JPEGs of {arguments.side} px on {usable_cores()} cores")
    print(f"bare decode and sha256: {count / bare_s:8.0f} images/s")
    print(f"first index:            {count / first_s:8.0f} images/s")
    print(f"unchanged, again:       {again_s:8.2f} s")


if __name__ == "__main__":
    main()
