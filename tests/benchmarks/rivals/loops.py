"""What the two loops share: the clock, the arguments, how the processor computes, and the result.

Import it before torchvision: the clock starts here, and torchvision can be imported afterwards.
"""

import time

BEGIN = time.perf_counter()

import argparse  # noqa: E402  (the imports below are a part of the time)
import copy  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from contextlib import AbstractContextManager  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402

from pipeline.vision._torchvision import import_torchvision  # noqa: E402
from pipeline.vision.networks import build_network  # noqa: E402
from tests.benchmarks.rivals.cut import Parser  # noqa: E402

torchvision = import_torchvision()

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# How the processor computes: the number format, and the order of images in memory.
COMPUTE = {
    f"{kind}, channels {order}": (dtype, layout)
    for kind, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    for order, layout in (("first", torch.contiguous_format), ("last", torch.channels_last))
}
TRIED_STEPS = 3


def parser(page: str) -> argparse.ArgumentParser:
    """Return a parser of the arguments that both loops have."""
    words = Parser(description=page.splitlines()[0])
    words.add_argument("data", type=Path, help="a folder that cut.py made")
    words.add_argument("result", type=Path, help="the JSON file to write")
    words.add_argument(
        "--arch", default="squeezenet1_0", help="a network, of torchvision or Convoy"
    )
    words.add_argument("--weights", type=Path, help="a .safetensors file of the network")
    words.add_argument("--size", type=int, default=128, help="px of each side")
    words.add_argument("--epochs", type=int, default=1)
    words.add_argument("--batch", type=int, default=32)
    words.add_argument("--lr", type=float, help="default: see the loop")
    words.add_argument("--flip", action="store_true", help="images may be mirrored")
    words.add_argument("--seed", type=int, default=0)
    cores = os.cpu_count() or 1
    words.add_argument("--workers", type=int, default=cores, help="processes that read images")
    words.add_argument("--compute", choices=["auto", *COMPUTE], default="auto")
    return words


def batch_size(arguments: argparse.Namespace) -> int:
    """Return the size of a batch: at most all training images, since the last part is dropped."""
    return min(arguments.batch, len(list((arguments.data / "train").glob("*/*"))))


def is_torchvision(arch: str) -> bool:
    """Say whether a network is one of torchvision's; lenet5 and the small resnets are Convoy's."""
    return arch in torchvision.models.list_models()


def build(arch: str, size: int, classes: int) -> torch.nn.Module:
    """Return a network with random weights, for RGB images of so many pixels a side."""
    if is_torchvision(arch):
        network: torch.nn.Module = torchvision.models.get_model(arch, num_classes=classes)
        return network
    return build_network(arch, {}, (3, size, size), classes)


def autocast(compute: str) -> AbstractContextManager[None]:
    """Return the context in which the network runs."""
    dtype, _ = COMPUTE[compute]
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)


def fastest_compute(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> str:
    """Try all ways to compute on some steps of all layers; return the fastest."""
    seconds = {}
    for compute, (_, layout) in COMPUTE.items():
        # A copy, so that batch norms keep their statistics and layers stay frozen.
        copied = copy.deepcopy(network).train().requires_grad_(True).to(memory_format=layout)
        times = []
        for _ in range(1 + TRIED_STEPS):
            begin = time.perf_counter()
            with autocast(compute):
                answers = copied(images.contiguous(memory_format=layout))
            torch.nn.functional.cross_entropy(answers.float(), labels).backward()
            times.append(time.perf_counter() - begin)
        seconds[compute] = min(times[1:])  # the first one also makes room and plans
    return min(seconds, key=seconds.__getitem__)


def write_result(
    arguments: argparse.Namespace, compute: str, files: Sequence[Path], classes: Sequence[str]
) -> None:
    """Stop the clock and write what is known of the run.

    Args:
        arguments: of the loop.
        compute: how it computed.
        files: the test images.
        classes: the answer for each.
    """
    names = [file.relative_to(arguments.data / "test").as_posix() for file in files]
    result = {
        "seconds": time.perf_counter() - BEGIN,
        "epochs": arguments.epochs,
        "compute": compute,
        "predictions": dict(zip(names, classes, strict=True)),
    }
    arguments.result.write_text(json.dumps(result, indent=1))
