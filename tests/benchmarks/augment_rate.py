"""What each augmentation of whole batches adds to a training step.

    python tests/benchmarks/augment_rate.py                       # resnet32, 128 images of 32 px
    python tests/benchmarks/augment_rate.py --device cuda --side 64

Steps (forward, backward and update of SGD) and augmentations take turns on the same batch. Prints
the median milliseconds of each, and its share of the step.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from pipeline.params import parse
from pipeline.params.choices.augmentations import Augmentations
from pipeline.vision.networks import build_network
from pipeline.vision.training.augment import build_augment

LISTS = {
    "hflip, crop": [{"hflip": {}}, {"crop": {}}],
    "affine": [{"affine": {"degrees": 15, "translate": 0.1, "scale": [0.9, 1.1]}}],
    "color": [{"color": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}}],
    "erase": [{"erase": {}}],
    "cutout": [{"cutout": {"size": 8}}],
    "trivial_augment": [{"trivial_augment": {}}],
    "auto_augment": [{"auto_augment": {}}],
    "hflip, crop, auto_augment, cutout": [
        *({"hflip": {}}, {"crop": {}}, {"auto_augment": {}}, {"cutout": {"size": 8}}),
    ],
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet32")
    parser.add_argument("--side", type=int, default=32, help="px")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    shape = (options.side, options.side, 3)
    images = torch.rand(options.batch, 3, *shape[:2], device=device)
    works: dict[str, Callable[[], object]] = {"step": step(options, images)}
    for name, items in LISTS.items():
        works[name] = augmentation(items, shape, images)
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(options.rounds):
        for name, work in works.items():
            times[name].append(timed(work, device))
    median = {name: statistics.median(values) * 1000 for name, values in times.items()}
    print(f"{options.network}, {options.batch} images of {options.side} px, {options.device}")
    for name, value in median.items():
        print(f"{name:36}{value:9.2f} ms{value / median['step']:9.1%}")


def step(options: argparse.Namespace, images: torch.Tensor) -> Callable[[], object]:
    """Return what takes one training step."""
    network = build_network(options.network, {}, (3, *images.shape[2:]), 10)
    network.to(images.device)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9, nesterov=True)
    labels = torch.randint(10, (len(images),), device=images.device)

    def work() -> None:
        functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return work


def augmentation(
    items: list[dict[str, object]], shape: tuple[int, int, int], images: torch.Tensor
) -> Callable[[], object]:
    """Return what draws and applies augmentations."""
    augment = build_augment(parse(Augmentations, items), shape)
    generator = np.random.default_rng(0)

    def work() -> object:
        drawn = augment.draw(len(images), generator)
        moved = {name: torch.from_numpy(x).to(images.device) for name, x in drawn.items()}
        return augment.apply(images, moved)

    return work


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of one call."""
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
