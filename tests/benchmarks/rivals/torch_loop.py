"""Train as an engineer's own loop with torchvision does, and predict the test images.

    python -m tests.benchmarks.rivals.torch_loop CUT RESULT.json --mode tune --weights FILE

CUT is a folder that cut.py made. The loop has ImageFolder, DataLoader with worker processes, crops
of random size and place, AdamW with the one-cycle schedule, and label smoothing. The weights of
the epoch that validates best are kept. Modes:

- head: a new last layer on loaded weights, all else frozen;
- tune: a new last layer, and all layers are trained;
- scratch: all layers from random weights.
"""

import copy
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.rivals import loops  # first: the clock starts

# isort: split
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

# The highest rates of the schedule. A network without batch norms needs less from scratch.
RATES = {"head": 3e-3, "tune": 3e-4, "scratch": 1e-3}
LABEL_SMOOTHING = 0.1


def main() -> None:
    """Train, predict and write the result."""
    parser = loops.parser(__doc__)
    parser.add_argument("--mode", choices=RATES, default="tune")
    arguments = parser.parse_args()
    if (arguments.mode == "scratch") != (arguments.weights is None):
        parser.error(f"--mode {arguments.mode}: needs --weights, and scratch alone has none")
    torch.manual_seed(arguments.seed)
    to_tensor = [
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(*loops.IMAGENET),
    ]
    plain = v2.Compose([v2.Resize((arguments.size, arguments.size)), *to_tensor])
    drawn = v2.Compose(
        [
            v2.RandomResizedCrop(arguments.size, scale=(0.6, 1.0), ratio=(0.8, 1.25)),
            *([v2.RandomHorizontalFlip()] if arguments.flip else []),
            *to_tensor,
        ]
    )
    transforms = {"train": drawn, "val": plain, "test": plain}
    sets = {split: ImageFolder(arguments.data / split, how) for split, how in transforms.items()}
    readers = {
        split: DataLoader(
            images,
            loops.batch_size(arguments),
            shuffle=split == "train",
            drop_last=split == "train",
            num_workers=arguments.workers,
            persistent_workers=split != "test" and arguments.workers > 0,
        )
        for split, images in sets.items()
    }
    classes = sets["train"].classes
    network = loops.build(arguments.arch, arguments.size, len(classes))
    new = load(network, arguments.weights)
    if arguments.mode == "head":
        for name, weights in network.named_parameters():
            weights.requires_grad_(name in new)
    compute = arguments.compute
    if compute == "auto":
        compute = loops.fastest_compute(network, *next(iter(readers["train"])))
    network.to(memory_format=loops.COMPUTE[compute][1])
    rate = arguments.lr or RATES[arguments.mode]
    train(network, readers["train"], readers["val"], arguments.epochs, rate, compute)
    files = [Path(path) for path, _ in sets["test"].samples]
    answers = [
        classes[answer]
        for scores, _ in predict(network, readers["test"], compute)
        for answer in scores.argmax(1).tolist()
    ]
    loops.write_result(arguments, compute, files, answers)


def load(network: nn.Module, weights: Path | None) -> list[str]:
    """Load those weights of a file that fit, and return the names of all others.

    A file for other classes has a last layer of another shape, which is left out.
    """
    own = network.state_dict()
    loaded = load_file(weights) if weights else {}
    fitting = {
        name: values
        for name, values in loaded.items()
        if name in own and values.shape == own[name].shape
    }
    network.load_state_dict(fitting, strict=False)
    new = [name for name in own if name not in fitting]
    if weights and len({name.rpartition(".")[0] for name in new}) > 1:
        raise SystemExit(f"{weights}: these are the weights of another network")
    return new


def train(
    network: nn.Module, images: DataLoader, val: DataLoader, epochs: int, rate: float, compute: str
) -> None:
    """Train, and leave the network with the weights of the best epoch."""
    trained = [weights for weights in network.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(trained, rate)
    steps = epochs * len(images)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    criterion = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    layout = loops.COMPUTE[compute][1]
    best, kept = (-1.0, 0.0), network.state_dict()
    for epoch in range(epochs):
        network.train()
        for batch, labels in images:
            with loops.autocast(compute):
                scores = network(batch.contiguous(memory_format=layout))
            loss = criterion(scores.float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        right = loss_sum = 0.0
        for scores, labels in predict(network, val, compute):
            right += int((scores.argmax(1) == labels).sum())
            loss_sum += float(nn.functional.cross_entropy(scores, labels, reduction="sum"))
        accuracy, val_loss = right / len(val.dataset), loss_sum / len(val.dataset)
        print(f"epoch {epoch + 1}: val accuracy {accuracy:.3f}, loss {val_loss:.3f}", flush=True)
        if (accuracy, -val_loss) > best:
            best, kept = (accuracy, -val_loss), copy.deepcopy(network.state_dict())
    network.load_state_dict(kept)


@torch.inference_mode()
def predict(
    network: nn.Module, images: DataLoader, compute: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield scores and labels, batch by batch."""
    network.eval()
    layout = loops.COMPUTE[compute][1]
    for batch, labels in images:
        with loops.autocast(compute):
            scores = network(batch.contiguous(memory_format=layout))
        yield scores.float(), labels


if __name__ == "__main__":
    main()
