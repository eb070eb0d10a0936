"""From a folder of images to a fine-tuned network: the pipeline against a plain torchvision loop.

    python tests/benchmarks/whole_way.py [--images FOLDER] [--weights FILE.safetensors] [--bf16]

Both do the same work in turns, each as a process of its own: two epochs of all layers and three
more, with validation after each, of the same network at the same size, batch and rate. The
pipeline's time is that of `dvc repro finetune` in a fresh copy of the repository: index, split,
pack, autotune, train and finetune, with MLflow. The loop is ImageFolder, DataLoader with two
workers and AdamW, in fp32 as such loops are, or with --bf16 in bf16 and channels last. Without
--images, photographs of noise are made: 8 classes of 260 files.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import yaml

ROOT = Path(__file__).parents[2]
EPOCHS = (2, 3)
BATCH, RATE = 32, 3e-4
VAL, TEST = 0.1, 0.1


def main() -> None:
    """Run both, as often as asked for, and print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of class folders")
    parser.add_argument("--weights", type=Path, help="a .safetensors file of the network")
    parser.add_argument("--network", default="squeezenet1_0")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="the loop in bf16, channels last")
    parser.add_argument("--loop", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop:
        train_loop(arguments)
        return
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        images = (arguments.images or make_images(work / "images")).resolve()
        ratios = []
        for number in range(arguments.rounds):
            pipeline_s = run_pipeline(arguments, images, work / f"pipeline{number}")
            loop_s = run_loop(arguments, images, work / f"split{number}")
            ratios.append(pipeline_s / loop_s)
        print("pipeline / loop: " + ", ".join(f"{ratio:.2f}" for ratio in ratios))


def make_images(folder: Path) -> Path:
    """Write 8 classes of 260 JPEG files of 160 x 160 px, each class with a colour of its own."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for label in range(8):
        (folder / str(label)).mkdir(parents=True)
        colour = rng.integers(60, 196, 3)
        for number in range(260):
            noise = rng.normal(0, 60, (20, 20, 3)) + colour
            pixels = noise.clip(0, 255).astype(np.uint8)
            picture = Image.fromarray(pixels).resize((160, 160))
            picture.save(folder / str(label) / f"{number:03}.jpg", quality=90)
    return folder


def run_pipeline(arguments: argparse.Namespace, images: Path, repo: Path) -> float:
    """Time `dvc repro finetune` in a copy of the repository."""
    repo.mkdir()
    for name in ("pipeline", "infra", ".dvc"):
        ignored = shutil.ignore_patterns("__pycache__", "tmp", "cache")
        shutil.copytree(ROOT / name, repo / name, ignore=ignored)
    for name in ("dvc.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, repo / name)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["data"]["root"] = str(images)
    params["split"] |= {"val": VAL, "test": TEST}
    params["pack"] |= {"height": arguments.side, "width": arguments.side, "channels": 3}
    params["model"] = {"name": arguments.network, "args": {}}
    weights = str(arguments.weights.resolve()) if arguments.weights else None
    for section, epochs, start in (
        ("train", EPOCHS[0], weights),
        ("finetune", EPOCHS[1], "models/base"),
    ):
        recipe = params[section]
        recipe |= {"images": "data/packed/train", "epochs": epochs, "weights": start}
        recipe |= {"global_batch_size": BATCH, "mixup_alpha": 0.0}
        recipe["optimizer"]["lr"] = RATE
        recipe["early_stopping"]["patience"] = 100
    (repo / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    subprocess.run(["git", "init", "-q"], cwd=repo, check=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(repo)}
    command = [sys.executable, "-m", "dvc", "repro", "-q", "finetune"]
    seconds, megabytes = timed(command, cwd=repo, env=environment)
    print(f"pipeline: {seconds:6.1f} s, {megabytes:5.0f} MB", flush=True)
    return seconds


def run_loop(arguments: argparse.Namespace, images: Path, folder: Path) -> float:
    """Time the plain loop on a split of the same sizes."""
    for label in images.iterdir():
        files = sorted(path for path in label.iterdir() if path.is_file())
        first = round(len(files) * (1 - VAL - TEST))
        for split, part in (("train", files[:first]), ("val", files[first:][::2])):
            (folder / split / label.name).mkdir(parents=True)
            for path in part:
                (folder / split / label.name / path.name).symlink_to(path)
    command = [sys.executable, __file__, "--loop", str(folder / "train"), str(folder / "val")]
    command += ["--network", arguments.network, "--side", str(arguments.side)]
    command += ["--weights", str(arguments.weights.resolve())] if arguments.weights else []
    command += ["--bf16"] if arguments.bf16 else []
    seconds, megabytes = timed(command)
    print(f"loop:     {seconds:6.1f} s, {megabytes:5.0f} MB", flush=True)
    return seconds


def timed(command: list[str], **options: object) -> tuple[float, float]:
    """Run a command; return its seconds and the most memory that its processes had together."""
    start, peaks = time.perf_counter(), [0.0]
    process = subprocess.Popen(command, **options)  # type: ignore[call-overload]

    def watch() -> None:
        while process.poll() is None:
            try:
                family = [psutil.Process(process.pid)]
                family += family[0].children(recursive=True)
                peaks.append(sum(one.memory_full_info().pss for one in family) / 1e6)
            except psutil.Error:
                pass  # one of them has just ended
            time.sleep(0.2)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    if process.wait() != 0:
        raise SystemExit(f"{command} failed")
    seconds = time.perf_counter() - start
    watcher.join()
    return seconds, max(peaks)


def train_loop(arguments: argparse.Namespace) -> None:
    """Train as a script of one's own would."""
    import torch
    from safetensors.torch import load_file
    from torch import nn

    from pipeline.vision._torchvision import import_torchvision

    torchvision = import_torchvision()
    transform = torchvision.transforms.Compose(
        [
            torchvision.transforms.Resize((arguments.side, arguments.side)),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    sets = [torchvision.datasets.ImageFolder(folder, transform) for folder in arguments.loop]
    train, val = (
        torch.utils.data.DataLoader(
            images, BATCH, shuffle=number == 0, num_workers=2, persistent_workers=True
        )
        for number, images in enumerate(sets)
    )
    network = torchvision.models.get_model(arguments.network)
    if arguments.weights:
        network.load_state_dict(load_file(arguments.weights))
    classes = len(sets[0].classes)
    if arguments.network.startswith("squeezenet"):
        network.classifier[1] = nn.Conv2d(512, classes, 1)
    else:
        network.fc = nn.Linear(network.fc.in_features, classes)
    order = torch.channels_last if arguments.bf16 else torch.contiguous_format
    network = network.to(memory_format=order)
    optimizer = torch.optim.AdamW(network.parameters(), RATE)

    def forward(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
            answer: torch.Tensor = network(images.contiguous(memory_format=order))
        return answer.float()

    for _ in range(sum(EPOCHS)):
        network.train()
        for images, labels in train:
            optimizer.zero_grad()
            nn.functional.cross_entropy(forward(images), labels).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            right = sum(int((forward(i).argmax(1) == y).sum()) for i, y in val)
    print(f"loop: validation accuracy {right / len(sets[1]):.3f}", flush=True)


if __name__ == "__main__":
    main()
