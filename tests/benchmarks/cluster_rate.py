"""Many small images through index and pack: here, on one node of a cluster, and on two.

    python -m tests.benchmarks.cluster_rate [--images 50000]

Each node has one core, and all see the images in a folder. Prints the seconds of each command, with
those that a job takes to start; the ratio of one node to two; whether the bytes are equal; and how
much memory the processes held at most (proportional set size, sampled each half second).
"""

import argparse
import re
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

from pipeline.parallel import map_chunks
from tests.benchmarks.index_rate import CLASSES, make_image
from tests.clusters.ray_cluster import RayCluster
from tests.projects import change, contents, make_project, run

BAR = re.compile(r"^(index|pack \w+): .*\[(\d+):(\d+)<", re.M)
OUTS = ("data/index.parquet", "data/packed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=64, help="px")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for label in range(CLASSES):
            (folder / "images" / str(label)).mkdir(parents=True)
        write = partial(make_image, folder / "images", options.side)
        list(map_chunks(write, range(options.images), chunk=500, label="write"))
        (folder / "project").mkdir()
        project = make_project(folder / "project", 1)
        change(project, "data", root=str(folder / "images"))
        change(project, "pack", height=32, width=32, channels=3)
        change(project, "resources", storage=str(folder / "storage"))
        measure(folder, project)


def measure(folder, project):
    here = timed(project, {})
    cluster = RayCluster(folder)
    try:
        cluster.start()
        two = on_cluster(folder, project, cluster)
        cluster.kill_node(1)
        cluster.wait_for_nodes(120)
        one = on_cluster(folder, project, cluster)
    finally:
        cluster.close()
    for stage in ("index", "pack"):
        print(
            f"{stage}: here (all cores) {here[0][stage]:.1f} s, one node {one[0][stage]:.1f} s, two"
            f" nodes {two[0][stage]:.1f} s: {one[0][stage] / two[0][stage]:.2f} times as fast"
        )
    print(f"bytes equal: {here[1] == one[1] == two[1]}")


def on_cluster(folder, project, cluster):
    shutil.rmtree(folder / "storage", ignore_errors=True)
    for cache in folder.glob("cache-*"):
        shutil.rmtree(cache)
    most, stop = defaultdict(int), threading.Event()
    watch = threading.Thread(target=sample, args=(cluster, most, stop))
    watch.start()
    try:
        return timed(project, cluster.variables)
    finally:
        stop.set()
        watch.join()
        nodes = len(cluster.alive()) - 1  # beside the head
        for title, size in sorted(most.items(), key=lambda item: -item[1])[:8]:
            print(f"  {nodes} nodes: {size / 2**20:5.0f} MiB {title}")


def timed(project, there):
    """Run both stages from nothing; return their seconds, and the digests of what they wrote."""
    shutil.rmtree(project / ".convoy", ignore_errors=True)
    seconds = {}
    for stage in ("index", "split", "pack"):
        begin_s = time.monotonic()
        code, said = run(project, stage, env=there if stage != "split" else {})
        assert code == 0, said
        seconds[stage] = time.monotonic() - begin_s
        print(f"  {stage}: {seconds[stage]:.1f} s{with_images(said)}", flush=True)
    return seconds, [contents(project / name) or (project / name).read_bytes() for name in OUTS]


def with_images(said):
    """Return how long the bars of images lasted, of which the last states are known."""
    last = {bar: 60 * int(m) + int(s) for bar, m, s in re.findall(BAR, said)}
    return f", {sum(last.values())} s with images" if last else ""


def sample(cluster, most, stop):
    while not stop.wait(0.5):
        for _, _, title, size in cluster.memory():
            if title.startswith("ray::_work") or "-m pipeline job" in title:
                most[title[:60]] = max(most[title[:60]], size)


if __name__ == "__main__":
    main()
