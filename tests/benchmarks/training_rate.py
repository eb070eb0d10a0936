"""Training images per second: Convoy's loop, the bound of its arithmetic, and the usual loop.

    python tests/benchmarks/training_rate.py                  # all cases, some 15 minutes
    python tests/benchmarks/training_rate.py --cases lenet5

These ways take turns over the same JPEG files, network, batch size and recipe:

- bound: forward, backward and step on one batch that lies in memory, in the precision, thread
  count and memory format that Convoy's trial chose;
- convoy: the Trainer, as a worker runs it, over packed images;
- usual: torchvision's ImageFolder and DataLoader with two, one or no worker processes; the best
  of them counts. Its own best case: files in the page cache, workers kept alive. Once in fp32,
  channels first, as most such loops are, and once ("equal") in the arithmetic of the trial, so
  that what the loop is worth can be told from what the arithmetic is.

Packing is counted for none of them; `whole_way.py` counts everything. Of each the median and the
best round are printed, and convoy's ratio to the others, round by round, so that a slow minute of
the machine slows all of them.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.data.shards.shards import SetInfo, ShardWriter
from pipeline.parallel import usable_cores
from pipeline.params import load_params, parse
from pipeline.params.choices.networks import AnyModel
from pipeline.vision._torchvision import import_torchvision
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.networks import build_network
from pipeline.vision.training.autotune import choose_compute
from pipeline.vision.training.batches import Share
from pipeline.vision.training.building import build_trainer
from pipeline.vision.training.compute_config import ComputeConfig
from pipeline.vision.training.job import Job
from pipeline.vision.training.make_job import InitialWeights, make_job

ROOT = Path(__file__).parents[2]
CLASSES = 10


@dataclass(frozen=True)
class Case:
    """One network on one size of image."""

    network: str
    side: int
    channels: int
    batch: int
    images: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.channels, self.side, self.side


CASES = (
    Case("lenet5", 28, 1, 64, 20_000),
    Case("resnet32", 32, 3, 128, 4_096),
    Case("mobilenet_v3_small", 96, 3, 64, 3_072),
    Case("squeezenet1_0", 128, 3, 64, 3_072),
)


def main() -> None:
    """Make images, then measure each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [case.network for case in CASES]
    parser.add_argument("--cases", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each way in each round")
    parser.add_argument("--without-usual", action="store_true")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for case in CASES:
        if case.network in arguments.cases:
            with tempfile.TemporaryDirectory() as folder:
                measure(case, Path(folder), device, arguments)


def measure(case: Case, folder: Path, device: torch.device, arguments: argparse.Namespace) -> None:
    """Alternate the three ways and print their rates."""
    images, labels = make_images(case)
    packed = write_packed(folder / "packed", images, labels)
    few = write_packed(folder / "few", images[:8], labels[:8])
    job = make_endless_job(case, packed, few)
    cores = usable_cores()
    compute, _ = choose_compute(job, Share(), device, threads="auto", most_threads=cores)
    print(
        f"{case.network}, {case.side} px, {case.channels} channels, batch {case.batch}: {compute}"
    )
    torch.set_num_threads(compute.threads)
    ways = {"bound": Bound(case, compute, device), "convoy": Convoy(case, job, compute, device)}
    if not arguments.without_usual:
        write_jpegs(folder / "files", images, labels)
        for name, how in (("usual", Arithmetic()), ("equal", compute.arithmetic)):
            for workers in (0, 1, 2):
                usual = Usual(case, folder / "files", workers, device, cores, how)
                ways[f"{name}/{workers}"] = usual
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            torch.set_num_threads(way.threads)
            rates[name].append(way.rate(arguments.seconds))
    torch.set_num_threads(compute.threads)
    report(rates)


def report(rates: dict[str, list[float]]) -> None:
    """Print medians, bests and convoy's ratios."""
    for name, found in rates.items():
        print(
            f"  {name:8} median {statistics.median(found):8,.0f}  best {max(found):8,.0f} images/s"
        )
    ratios = [ours / bound for ours, bound in zip(rates["convoy"], rates["bound"], strict=True)]
    best = max(rates["convoy"]) / max(rates["bound"])
    print(f"  convoy / bound: median {statistics.median(ratios):.3f}, of the bests {best:.3f}")
    for kind in ("usual", "equal"):
        usual = [name for name in rates if name.startswith(kind)]
        if not usual:
            continue
        rival = max(usual, key=lambda name: statistics.median(rates[name]))
        ratios = [ours / his for ours, his in zip(rates["convoy"], rates[rival], strict=True)]
        bound = statistics.median(
            his / b for his, b in zip(rates[rival], rates["bound"], strict=True)
        )
        print(
            f"  convoy / {rival}: median {statistics.median(ratios):.2f};"
            f" {rival} / bound: {bound:.3f}",
            flush=True,
        )


def make_endless_job(case: Case, packed: Path, few: Path) -> Job:
    """Return a training that goes on for as long as it is asked to; a few images are validated."""
    params = load_params(ROOT / "params.yaml")
    values = params.train.model_dump(mode="json")
    values |= {
        "epochs": 10**6,
        "global_batch_size": case.batch,
        "optimizer": values["optimizer"] | {"name": "sgd", "lr": 0.01, "weight_decay": 0.0},
        "schedule": {"name": "constant", "warmup_epochs": 0},
    }
    values["early_stopping"]["patience"] = 10**6
    return make_job(
        "train",
        parse(AnyModel, {"name": case.network, "args": {}}),
        type(params.train).model_validate(values, strict=False),
        images=[packed],
        validation=few,
        initial=InitialWeights(),
    )


class Bound:
    """The arithmetic alone: one batch, again and again."""

    def __init__(self, case: Case, compute: ComputeConfig, device: torch.device) -> None:
        self.threads = compute.threads
        self._case, self._compute, self._device = case, compute, device
        self._network = build_network(case.network, {}, case.shape, CLASSES).train()
        self._network.to(device, memory_format=compute.arithmetic.torch_format)
        images = torch.rand(case.batch, *case.shape).to(device)
        self._images = images.contiguous(memory_format=compute.arithmetic.torch_format)
        self._labels = torch.randint(0, CLASSES, (case.batch,), device=device)
        self._optimizer = torch.optim.SGD(
            self._network.parameters(), 0.01, momentum=0.9, nesterov=True, fused=True
        )

    def _step(self) -> None:
        with self._compute.arithmetic.autocast(self._device):
            logits = self._network(self._images)
        functional.cross_entropy(logits.float(), self._labels).backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def rate(self, seconds: float) -> float:
        """Return images per second."""
        return steps_per_second(self._step, seconds, self._device) * self._case.batch


class Convoy:
    """The product's loop, between epochs' ends: steady state."""

    def __init__(self, case: Case, job: Job, compute: ComputeConfig, device: torch.device) -> None:
        self.threads = compute.threads
        self._trainer = build_trainer(job, Share(), device, compute)
        self._case, self._device = case, device

    def rate(self, seconds: float) -> float:
        """Return images per second; at the end of an epoch, a few images are validated."""
        trainer = self._trainer
        trainer.advance(1)
        before, start = self._seen(), synchronised(self._device)
        while time.perf_counter() - start < seconds:
            trainer.advance(10)
        return (self._seen() - before) / (synchronised(self._device) - start)

    def _seen(self) -> int:
        state = self._trainer.state
        done = state.steps_done * self._case.batch
        return state.epochs_done * self._trainer.epoch_progress().of_images + done


class Usual:
    """What most people write: ImageFolder and DataLoader."""

    def __init__(
        self,
        case: Case,
        folder: Path,
        workers: int,
        device: torch.device,
        cores: int,
        arithmetic: Arithmetic,
    ) -> None:
        self._arithmetic = arithmetic
        torchvision = import_torchvision()
        transforms = torchvision.transforms
        grey = [transforms.Grayscale()] if case.channels == 1 else []
        normalize = transforms.Normalize((0.5,) * case.channels, (0.25,) * case.channels)
        chain = transforms.Compose([*grey, transforms.ToTensor(), normalize])
        self.threads = cores
        self._loader = torch.utils.data.DataLoader(
            torchvision.datasets.ImageFolder(str(folder), chain),
            batch_size=case.batch,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )
        self._network: nn.Module = build_network(case.network, {}, case.shape, CLASSES)
        self._network.to(device, memory_format=arithmetic.torch_format).train()
        self._optimizer = torch.optim.SGD(
            self._network.parameters(), 0.01, momentum=0.9, nesterov=True
        )
        self._case, self._device = case, device
        self._batches = iter(self._loader)

    def rate(self, seconds: float) -> float:
        """Return images per second."""
        return steps_per_second(self._step, seconds, self._device) * self._case.batch

    def _step(self) -> None:
        try:
            images, labels = next(self._batches)
        except StopIteration:
            self._batches = iter(self._loader)
            images, labels = next(self._batches)
        memory_format = self._arithmetic.torch_format
        images = images.to(self._device, non_blocking=True, memory_format=memory_format)
        labels = labels.to(self._device, non_blocking=True)
        self._optimizer.zero_grad()
        with self._arithmetic.autocast(self._device):
            logits = self._network(images)
        functional.cross_entropy(logits.float(), labels).backward()
        self._optimizer.step()


def steps_per_second(step: Callable[[], None], seconds: float, device: torch.device) -> float:
    """Repeat `step` for some seconds, after one to warm up."""
    step()
    steps, start = 0, synchronised(device)
    while time.perf_counter() - start < seconds:
        step()
        steps += 1
    return steps / (synchronised(device) - start)


def synchronised(device: torch.device) -> float:
    """Wait for the device and return the time."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def make_images(case: Case) -> tuple[np.ndarray, list[int]]:
    """Draw smooth noise: JPEG files of it are about as long as those of photographs."""
    rng = np.random.default_rng(0)
    shape = (case.images, case.side // 4, case.side // 4, case.channels)
    coarse = rng.integers(0, 256, shape, dtype=np.uint8)
    size = (case.side, case.side)
    images = np.stack([cv2.resize(one, size, interpolation=cv2.INTER_CUBIC) for one in coarse])
    return images.reshape(case.images, *size, case.channels), [
        int(label) for label in rng.integers(0, CLASSES, case.images)
    ]


def write_packed(folder: Path, images: np.ndarray, labels: list[int]) -> Path:
    """Write the images as `convoy pack` does."""
    names = tuple(f"class{label}" for label in range(CLASSES))
    preprocessing = Preprocessing(*images.shape[1:], "stretch", 0, 8)
    info = SetInfo(names, preprocessing, "uint8")
    rows = [f"{row:032x}" for row in range(len(images))]
    with ShardWriter(folder, info, 50_000) as writer:
        writer.write(images, labels, rows, [None] * len(images), rows)
    return folder


def write_jpegs(folder: Path, images: np.ndarray, labels: list[int]) -> None:
    """Write one JPEG file per image, one folder per class."""
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / f"class{label}" / f"{row}.jpg"
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 90])


if __name__ == "__main__":
    main()
