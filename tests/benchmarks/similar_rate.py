"""Rate of the exact search by cosine against numpy and scikit-learn; and the approximate search.

    python tests/benchmarks/similar_rate.py                # 100,000 x 512: ratios, about a minute
    python tests/benchmarks/similar_rate.py --million      # 1,000,000 x 512: rate and peak memory
    python tests/benchmarks/similar_rate.py --approximate  # faiss: recall, and time beside exact

The rivals get unit vectors that are loaded already: numpy a float32 product with all of them and
`argpartition`, scikit-learn `NearestNeighbors(algorithm="brute")`. Ours are mapped from the file
that the stage `embed` writes; the first query, which loads it, is not counted. Vectors lie in
clusters, as those of a network do. All take turns; of each the best round counts, since what else
the machine does only ever slows one down.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.neighbors import NearestNeighbors

from pipeline.evaluation.latent import approximate
from pipeline.evaluation.latent.search import Vectors, nearest, unit

K, CLUSTERS = 10, 1000
BLOCK = 50_000


def main() -> None:
    """Make vectors, then measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--approximate", action="store_true")
    arguments = parser.parse_args()
    rows = 1_000_000 if arguments.million else arguments.rows
    with tempfile.TemporaryDirectory() as folder:
        base, draw = make_vectors(Path(folder) / "unit.npy", rows, arguments.dimensions)
        if arguments.approximate:
            measure_approximate(base, draw(200), Path(folder) / "index.faiss")
        elif arguments.million:
            measure_million(base, draw(1000), arguments.rounds)
        else:
            for queries in (1, 32, 1000):
                measure(base, draw(queries), arguments.rounds)


def make_vectors(path: Path, rows: int, d: int) -> tuple[Vectors, Callable[[int], Vectors]]:
    """Write unit vectors, return them mapped, and what draws more of the same kind."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLUSTERS, d), dtype=np.float32)

    def draw(count: int) -> Vectors:
        noise = rng.standard_normal((count, d), dtype=np.float32)
        return unit(centres[rng.integers(0, CLUSTERS, count)] + noise)

    whole = np.lib.format.open_memmap(path, "w+", np.float32, (rows, d))
    for start in range(0, rows, BLOCK):
        whole[start : start + BLOCK] = draw(min(BLOCK, rows - start))
    whole.flush()
    del whole
    return np.load(path, mmap_mode="r"), draw


def measure(base: Vectors, queries: Vectors, rounds: int) -> None:
    """Let all three take turns, and print times and ratios."""
    loaded = np.array(base)
    rival = NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute").fit(loaded)
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: nearest(base, queries, K),
        "numpy": lambda: by_numpy(loaded, queries),
        "scikit-learn": lambda: rival.kneighbors(queries),
    }
    found, expected = nearest(base, queries, K).rows, by_numpy(loaded, queries)
    assert np.array_equal(np.sort(found), np.sort(expected))
    wall, cpu = dict.fromkeys(ways, np.inf), dict.fromkeys(ways, np.inf)
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.process_time()
            wall[name] = min(wall[name], timed(way))
            cpu[name] = min(cpu[name], time.process_time() - begun)
    shown = ", ".join(
        f"{name} {1000 * wall[name]:.1f} ms ({1000 * cpu[name]:.1f} ms of all cores)"
        for name in ways
    )
    ratios = [wall[name] / wall["ours"] for name in ("numpy", "scikit-learn")]
    print(
        f"{len(queries)} queries among {base.shape[0]:,} x {base.shape[1]}: {shown}; ours is"
        f" {ratios[0]:.2f} times as fast as numpy, {ratios[1]:.2f} times as scikit-learn",
        flush=True,
    )


def by_numpy(base: Vectors, queries: Vectors) -> np.ndarray:
    """Return the k nearest rows, in no order, of one product with the whole base."""
    return np.argpartition(queries @ base.T, -K, axis=1)[:, -K:]


def measure_million(base: Vectors, queries: Vectors, rounds: int) -> None:
    """Print the time of one query and of many, and the memory that they add."""
    nearest(base, queries[:1], K)  # which loads the file
    loaded_mb = peak_mb()
    one = min(timed(lambda: nearest(base, queries[:1], K)) for _ in range(rounds))
    many = timed(lambda: nearest(base, queries, K))
    print(
        f"{base.shape[0]:,} x {base.shape[1]}: one query {1000 * one:.0f} ms, {len(queries)}"
        f" queries {many:.1f} s; the mapped file {base.nbytes / 1e6:,.0f} MB, peak memory with it"
        f" {peak_mb():,.0f} MB, of which the {len(queries)} queries {peak_mb() - loaded_mb:,.0f} MB"
    )


def measure_approximate(base: Vectors, queries: Vectors, index: Path) -> None:
    """Print how many of the exact neighbours faiss finds, and both times."""
    approximate.MOST_EXACT = 0
    build_s = timed(lambda: approximate.search(base, queries[:1], K, index))
    exact = nearest(base, queries, K)
    found = approximate.search(base, queries, K, index)
    pairs = zip(found.rows.tolist(), exact.rows.tolist(), strict=True)
    recall = np.mean([len(set(ours) & set(best)) / K for ours, best in pairs])
    once = min(timed(lambda: approximate.search(base, queries[:1], K, index)) for _ in range(3))
    plain = min(timed(lambda: nearest(base, queries[:1], K)) for _ in range(3))
    print(
        f"{base.shape[0]:,} x {base.shape[1]}: faiss finds {recall:.1%} of the {K} nearest; index"
        f" {build_s:.0f} s, {index.stat().st_size / 1e6:,.0f} MB; one query {1000 * once:.0f} ms"
        f" with reading the index, exact {1000 * plain:.0f} ms"
    )


def timed(way: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def peak_mb() -> float:
    """Return the peak memory of this process, mapped files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    main()
