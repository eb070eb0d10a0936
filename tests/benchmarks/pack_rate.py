"""Rate of packing against a bare decode-and-resize loop on all cores; and its peak memory.

    python tests/benchmarks/pack_rate.py            # rates, about a minute
    python tests/benchmarks/pack_rate.py --memory   # 100,000 images, peak memory

Both sides start their own processes, which counts. The bare loop keeps nothing of what it makes;
packing checks each file against its hash, hands the array back and writes it to shards. Of each
side the best round counts: what else the machine does only ever slows one down.
"""

import argparse
import hashlib
import multiprocessing
import os
import resource
import tempfile
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from pipeline.data.packing.pack import PackRow, pack
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.data.shards.shards import SetInfo
from pipeline.data.sources.folder import FolderSource
from pipeline.parallel import usable_cores

DISTINCT = 500


def main() -> None:
    """Make JPEGs, then measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--sides", type=int, nargs="+", default=[100, 256], help="of sources, px")
    parser.add_argument("--to", type=int, default=64, help="side of packed images, px")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.memory:
            measure_memory(Path(folder), arguments.to)
        else:
            for side in arguments.sides:
                measure_rates(Path(folder), side, arguments)


def measure_rates(folder: Path, side: int, arguments: argparse.Namespace) -> None:
    """Alternate the two and print their rates and the ratio of the best."""
    rows = make_jpegs(folder / str(side), side, arguments.images)
    root = folder / str(side)
    ours, bare = [], []
    for number in range(arguments.rounds):
        bare.append(rate(partial(bare_loop, root, rows, arguments.to), len(rows)))
        out = folder / f"packed-{side}-{number}"
        ours.append(
            rate(partial(pack, rows, FolderSource(root), info(arguments.to), out), len(rows))
        )
        print(f"{side} px: bare {bare[-1]:,.0f} images/s, pack {ours[-1]:,.0f}", flush=True)
    ratio = max(ours) / max(bare)
    print(f"{side} px to {arguments.to} px, {len(rows)} images: pack / bare = {ratio:.2f}")


def measure_memory(folder: Path, to: int) -> None:
    """Pack 100,000 images and print the peak memory of this process, and of all together."""
    rows = make_jpegs(folder / "jpegs", 100, 100_000)
    together = [0.0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            together.append(memory_of_all_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    pack(rows, FolderSource(folder / "jpegs"), info(to), folder / "packed")
    done.set()
    watcher.join()
    parent = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        f"{len(rows)} images: peak {parent:.0f} MB in the parent,"
        f" {max(together):.0f} MB in all {usable_cores()} workers and the parent together"
    )


def make_jpegs(folder: Path, side: int, count: int) -> list[PackRow]:
    """Write `count` names of a few hundred distinct JPEGs with structure at several scales."""
    folder.mkdir()
    rng = np.random.default_rng(side)
    rows = []
    for number in range(DISTINCT):
        coarse, fine = (
            cv2.resize(rng.integers(0, 256, (n, n, 3), np.uint8), (side, side)) for n in (6, 40)
        )
        cv2.imwrite(str(folder / f"{number:03d}.jpg"), cv2.addWeighted(coarse, 0.7, fine, 0.3, 0))
    for number in range(count):
        first = folder / f"{number % DISTINCT:03d}.jpg"
        name = f"{number:06d}.jpg"
        os.link(first, folder / name)
        if number < DISTINCT:
            digest = hashlib.sha256(first.read_bytes()).hexdigest()
        else:
            digest = rows[number % DISTINCT].sha256
        rows.append(PackRow(name, 0, digest))
    return rows


def info(side: int) -> SetInfo:
    """Describe the packed set."""
    return SetInfo(("only",), Preprocessing(side, side, 3, "stretch", 0, 8), "uint8")


def bare_loop(root: Path, rows: list[PackRow], side: int) -> None:
    """Decode and resize, and forget."""
    paths = [str(root / row.path) for row in rows]
    with multiprocessing.get_context("fork").Pool(usable_cores()) as pool:
        for _ in pool.imap(partial(decode_and_resize, side=side), paths, chunksize=256):
            pass


def decode_and_resize(path: str, side: int) -> None:
    """Do what any loop must do."""
    cv2.setNumThreads(1)
    cv2.resize(cv2.imread(path), (side, side), interpolation=cv2.INTER_AREA)


def rate(work: partial[None], images: int) -> float:
    """Return images per second."""
    start = time.perf_counter()
    work()
    return images / (time.perf_counter() - start)


def memory_of_all_mb() -> float:
    """Sum the memory of the processes of this group, shared pages counted once, MB."""
    total_kb = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ProcessLookupError):
            if os.getpgid(int(process.name)) == os.getpgrp():
                rollup = (process / "smaps_rollup").read_text()
                total_kb += int(rollup.split("Pss:")[1].split()[0])
    return total_kb / 1e3


if __name__ == "__main__":
    main()
