"""How often the tests of drift and of label noise alarm: without cause, and with one.

    python -m tests.benchmarks.drift_power                       # digits, some ten minutes
    python -m tests.benchmarks.drift_power --images FOLDER --side 32 --network resnet20
    python -m tests.benchmarks.drift_power --calls 40            # a quick look

Networks are trained by the product on a part of the images (each with another split and seed). The
others, which no training has used, are the pool: each call draws a reference and new images from
it, without overlap. Shares of 400 calls vary by 0.011 at 0.05 (one standard error).

Causes of drift: new images blurred by a Gaussian whose sigma is a share of the image's side; or a
class mix in which the first half of the classes is some times as frequent as the second half.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from pipeline.data.shards.shards import ImageSet
from pipeline.evaluation.drift.label_noise import Labelled, judge_labels
from pipeline.evaluation.drift.two_sample import class_shift, classifier_test, kernel_test
from pipeline.evaluation.metrics.scores import Floats, Ints
from pipeline.parallel import usable_cores
from pipeline.params import load_params, parse
from pipeline.params.choices.networks import AnyModel
from pipeline.vision.inference.bundle import Bundle
from pipeline.vision.inference.predict import BATCH_SIZE, embeddings, probabilities
from pipeline.vision.training.batches import Share
from pipeline.vision.training.building import build_trainer
from pipeline.vision.training.compute_config import ComputeConfig
from pipeline.vision.training.make_job import InitialWeights, make_job
from tests.contract.imports import ROOT
from tests.projects import change, run

BLURS = (0.02, 0.04, 0.06, 0.1)
MIXES = (2, 3, 5)
LEVEL, NOISE_LEVEL, MIN_EXCESS = 0.05, 0.01, 0.02
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pool:
    """Images that a network did not learn from, as it sees them.

    Attributes:
        labels: n.
        classes: names.
        vectors, posteriors: of the images as they are.
        blurred: the same of blurred images, by sigma as a share of the side.
    """

    labels: Ints
    classes: tuple[str, ...]
    vectors: Vectors
    posteriors: Floats
    blurred: Mapping[float, tuple[Vectors, Floats]]


@dataclass(frozen=True)
class Images:
    """Some images of a call."""

    labels: Ints
    vectors: Vectors
    posteriors: Floats


def main() -> None:
    """Train, then print a table of label noise and one of the tests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of class folders; else the digits")
    parser.add_argument("--side", type=int, default=28, help="px")
    parser.add_argument("--network", default="lenet5")
    parser.add_argument("--train", type=float, default=0.25, help="share of the images")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--networks", type=int, default=2)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--size", type=int, default=300, help="images of each side")
    arguments = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    torch.set_num_threads(usable_cores())
    pools = [make_pool(arguments, seed) for seed in range(arguments.networks)]
    show_noise(pools, arguments.calls)
    show_seconds(pools[0])
    show_drift(pools, arguments.calls, arguments.size)


def make_pool(arguments: argparse.Namespace, seed: int) -> Pool:
    """Split, pack and train; embed the images of the test split."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(ROOT / "params.yaml", folder)
        change(folder, "sample", imbalance_ratio=1)
        change(folder, "split", seed=seed, val=0.05, test=0.95 - arguments.train)
        channels = 3 if arguments.images else 1
        change(folder, "pack", height=arguments.side, width=arguments.side, channels=channels)
        change(folder, "model", name=arguments.network, args={})
        change(folder, "train", seed=seed, epochs=arguments.epochs, global_batch_size=32)
        stages = ["index", "split", "pack"]
        if arguments.images:
            change(folder, "data", root=str(arguments.images.resolve()))
        else:
            stages.insert(0, "sample")
        for stage in stages:
            code, said = run(folder, stage)
            assert code == 0, said
        bundle = train(folder)
        test = ImageSet.open(folder / "data" / "packed" / "test")
        images = test.gather(np.arange(len(test)))
        vectors, posteriors = seen(bundle, images)
        blurred = {sigma: seen(bundle, blur(images, sigma)) for sigma in BLURS}
    labels = test.labels.astype(np.int64)
    right = (posteriors.argmax(1) == labels).mean()
    print(
        f"network {seed}: accuracy {right:.3f} on a pool of {len(labels)};"
        f" {vectors.shape[1]} numbers per embedding"
    )
    for sigma, (_, said_of_blurred) in blurred.items():
        print(f"  blurred by {sigma:.0%}: {(said_of_blurred.argmax(1) == labels).mean():.3f}")
    return Pool(labels, test.info.classes, vectors, posteriors, blurred)


def train(folder: Path) -> Bundle:
    """Train as the stage does, in this process."""
    params, packed = load_params(folder / "params.yaml"), folder / "data" / "packed"
    job = make_job(
        "train",
        parse(AnyModel, params.model.model_dump(mode="json")),
        params.train,
        images=[packed / "train"],
        validation=packed / "val",
        initial=InitialWeights(),
    )
    compute = ComputeConfig(threads=usable_cores())
    trainer = build_trainer(job, Share(), torch.device("cpu"), compute)
    while not trainer.done:
        trainer.advance(10**9)
    assert trainer.best_weights is not None
    description = job.description({}, compute.arithmetic)
    network = description.build()
    network.load_state_dict(trainer.best_weights)
    return Bundle(description, network.eval(), Path())


def seen(bundle: Bundle, images: npt.NDArray[np.uint8]) -> tuple[Vectors, Floats]:
    """Return embeddings and posteriors."""
    batches = [images[at : at + BATCH_SIZE] for at in range(0, len(images), BATCH_SIZE)]
    return embeddings(bundle, batches), probabilities(bundle, batches)


def blur(images: npt.NDArray[np.uint8], sigma: float) -> npt.NDArray[np.uint8]:
    """Blur n x height x width x channels, as a camera out of focus does."""
    found = [cv2.GaussianBlur(one, (0, 0), sigma * one.shape[1]) for one in images]
    return np.stack(found).reshape(images.shape)


def draw(
    pool: Pool,
    rng: np.random.Generator,
    sizes: tuple[int, int],
    *,
    blurred_by: float = 0.0,
    mix: float = 1.0,
) -> tuple[Images, Images]:
    """Draw a reference and new images from the pool, without overlap."""
    chances = np.ones(len(pool.labels))
    chances[pool.labels < len(pool.classes) // 2] = mix
    new = rng.choice(len(chances), sizes[1], replace=False, p=chances / chances.sum())
    reference = rng.choice(np.setdiff1d(np.arange(len(chances)), new), sizes[0], replace=False)
    vectors, posteriors = pool.blurred.get(blurred_by, (pool.vectors, pool.posteriors))
    return (
        Images(pool.labels[reference], pool.vectors[reference], pool.posteriors[reference]),
        Images(pool.labels[new], vectors[new], posteriors[new]),
    )


def show_drift(pools: Sequence[Pool], calls: int, size: int) -> None:
    """Print the share of calls in which each test alarms."""
    conditions: dict[str, dict[str, float]] = {"none": {}}
    conditions |= {f"blur {sigma:.0%}": {"blurred_by": sigma} for sigma in BLURS}
    conditions |= {f"mix {mix}:1": {"mix": mix} for mix in MIXES}
    names = ("classifier", "kernel", "classes")
    print(f"\nshare of calls with p < {LEVEL}, and with p < {NOISE_LEVEL}; {size} + {size} images")
    print(f"{'drift':12}{'calls':>6}" + "".join(f"{name:>16}" for name in names) + "   mean AUC")
    for name, how in conditions.items():
        # Power near 1 needs fewer calls than a size does.
        count = calls if not how else max(calls // 4, 1)
        found = []
        for call in range(count):
            rng = np.random.default_rng([1, call])
            reference, new = draw(pools[call % len(pools)], rng, (size, size), **how)
            found.append(test_all(reference, new, pools[0].classes, call))
        p_values = np.asarray([row[:3] for row in found])
        cells = [
            f"{(column < LEVEL).mean():.3f} {(column < NOISE_LEVEL).mean():.3f}"
            for column in p_values.T
        ]
        auc = np.mean([row[3] for row in found])
        print(f"{name:12}{count:6}" + "".join(f"{cell:>16}" for cell in cells) + f"{auc:11.3f}")


def test_all(
    reference: Images, new: Images, classes: Sequence[str], seed: int
) -> tuple[float, float, float, float]:
    """Return the p-values of the three tests, and the AUC of the first."""
    by_classifier = classifier_test(reference.vectors, new.vectors, seed=seed)
    by_kernel = kernel_test(reference.vectors, new.vectors, seed=seed)
    answers = (one.posteriors.argmax(axis=1) for one in (reference, new))
    by_class = class_shift(*answers, classes, seed=seed)
    assert by_classifier.p is not None
    assert by_classifier.auc is not None
    assert by_kernel.p is not None
    assert by_class.p is not None
    return by_classifier.p, by_kernel.p, by_class.p, by_classifier.auc


def show_seconds(pool: Pool) -> None:
    """Print what one call of each test of embeddings takes."""
    rng = np.random.default_rng(2)
    print("\nseconds of a call (best of three)")
    for size in (300, 2000):
        for width in (pool.vectors.shape[1], 512):
            drawn = rng.normal(size=(2 * size, width)).astype(np.float32)
            for test in (classifier_test, kernel_test):
                seconds = []
                for _ in range(3):
                    start = time.perf_counter()
                    test(drawn[:size], drawn[size:], seed=0)
                    seconds.append(time.perf_counter() - start)
                print(
                    f"  {test.__name__:16} {size:5} + {size}, {width} numbers: {min(seconds):.2f}"
                )


def show_noise(pools: Sequence[Pool], calls: int) -> None:
    """Print the share of calls in which wrong labels are reported."""
    print(
        f"\nshare of calls with a finding of label noise (corrected p < {NOISE_LEVEL}, excess"
        f" >= {MIN_EXCESS}); reference 400; by scope"
    )
    cases: dict[str, tuple[int, Spoil, float]] = {
        "none, 20 new": (20, nothing, 1),
        "none, 80 new": (80, nothing, 1),
        "none, 300 new": (300, nothing, 1),
        "none, 300 new, mix 3:1": (300, nothing, 3),
        "half of 20 wrong": (20, half, 1),
        "5 % of 300 wrong": (300, some, 1),
        "8 of a class shuffled, 80 new": (80, shuffled, 1),
        "8 of a rare class shuffled, 300 new": (300, shuffled, 1),
        "8 of a class in another, 80 new": (80, filed, 1),
    }
    for name, (size, spoil, mix) in cases.items():
        found: dict[str, int] = defaultdict(int)
        for call in range(calls):
            rng = np.random.default_rng([3, call])
            pool = pools[call % len(pools)]
            reference, new = draw(pool, rng, (400, size), mix=mix)
            judged = judge_labels(*spoil(rng, reference, new), pool.classes, seed=call)
            scopes = {one.scope for one in judged.findings(NOISE_LEVEL, MIN_EXCESS)}
            for scope in scopes | ({"any"} if scopes else set()):
                found[scope] += 1
        shares = (f"{s} {found[s] / calls:.3f}" for s in ("any", "all", "given", "suggested"))
        print(f"  {name:36}" + "  ".join(shares))


# From a generator, the reference and new images to what is judged: new labels may be spoilt.
Spoil = Callable[[np.random.Generator, Images, Images], tuple[Labelled, Labelled]]


def nothing(rng: np.random.Generator, reference: Images, new: Images) -> tuple[Labelled, Labelled]:
    """Leave the labels."""
    del rng
    return (reference.labels, reference.posteriors), (new.labels, new.posteriors)


def half(rng: np.random.Generator, reference: Images, new: Images) -> tuple[Labelled, Labelled]:
    """Give half of the new images a wrong label."""
    return _wrong(rng, reference, new, len(new.labels) // 2)


def some(rng: np.random.Generator, reference: Images, new: Images) -> tuple[Labelled, Labelled]:
    """Give 5 % of the new images a wrong label."""
    return _wrong(rng, reference, new, len(new.labels) // 20)


def shuffled(rng: np.random.Generator, reference: Images, new: Images) -> tuple[Labelled, Labelled]:
    """Draw the labels of one class, which has 8 new images."""
    judged, rows = _with_eight(rng, reference, new)
    labels, posteriors = judged[1]
    labels[rows] = rng.integers(0, posteriors.shape[1], len(rows))
    return judged


def filed(rng: np.random.Generator, reference: Images, new: Images) -> tuple[Labelled, Labelled]:
    """File one class, which has 8 new images, under another."""
    judged, rows = _with_eight(rng, reference, new)
    labels, posteriors = judged[1]
    k = posteriors.shape[1]
    labels[rows] = (labels[rows] + rng.integers(1, k)) % k
    return judged


def _wrong(
    rng: np.random.Generator, reference: Images, new: Images, count: int
) -> tuple[Labelled, Labelled]:
    labels, k = new.labels.copy(), new.posteriors.shape[1]
    rows = rng.choice(len(labels), count, replace=False)
    labels[rows] = (labels[rows] + rng.integers(1, k, count)) % k
    return (reference.labels, reference.posteriors), (labels, new.posteriors)


def _with_eight(
    rng: np.random.Generator, reference: Images, new: Images
) -> tuple[tuple[Labelled, Labelled], Ints]:
    """Leave 8 new images of one class, and as large a share of it in the reference."""
    counts = np.bincount(new.labels, minlength=new.posteriors.shape[1])
    chosen = rng.choice(np.flatnonzero(counts >= 8))
    sides = []
    for side in (reference, new):
        members = rng.permutation(np.flatnonzero(side.labels == chosen))
        kept = np.ones(len(side.labels), dtype=bool)
        kept[members[round(len(members) * 8 / counts[chosen]) :]] = False
        sides.append((side.labels[kept], side.posteriors[kept]))
    return (sides[0], sides[1]), np.flatnonzero(sides[1][0] == chosen)


if __name__ == "__main__":
    main()
