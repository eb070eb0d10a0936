"""Transfer against training from scratch, at equal wall time; and what cached features save.

    python tests/benchmarks/transfer.py FOLDER WEIGHTS.safetensors --network squeezenet1_0

FOLDER is one where `convoy pack` ran: it holds params.yaml and data/packed. Three ways get the
same seconds of training and validation, on the same images and processor:

- head: the extractor keeps the weights of the file, its features are computed once, and a new
  head is trained on them;
- head, then all: a fifth of the time like that, the rest on all layers at a lower rate;
- scratch: all layers from random weights.

How many epochs fit is measured first, so that each cosine ends when the time does. The table
shows test figures with 95 % intervals.
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from pipeline.data.shards.shards import ImageSet
from pipeline.evaluation.metrics.measure import compare, measure
from pipeline.evaluation.metrics.table import Scored
from pipeline.parallel import usable_cores
from pipeline.params import Params, load_params, parse
from pipeline.params.choices.networks import AnyModel
from pipeline.vision.bundle.description import Description
from pipeline.vision.inference.bundle import Bundle
from pipeline.vision.inference.predict import BATCH_SIZE, probabilities
from pipeline.vision.training.autotune import choose_compute
from pipeline.vision.training.batches import Share
from pipeline.vision.training.building import build_trainer
from pipeline.vision.training.compute_config import ComputeConfig
from pipeline.vision.training.job import Job
from pipeline.vision.training.make_job import InitialWeights, make_job
from pipeline.vision.training.trainer import Trainer

ALL = 10**9
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AUGMENT = [{"hflip": {"p": 0.5}}, {"crop": {"padding": 8}}]


def main() -> None:
    """Train the three ways and print their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--network", default="squeezenet1_0")
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--head-lr", type=float, default=3e-3)
    parser.add_argument("--all-lr", type=float, default=3e-4)
    parser.add_argument("--scratch-lr", type=float, default=3e-4)  # at 1e-3 it learns nothing
    ways = ["head", "head, then all", "scratch"]
    parser.add_argument("--ways", nargs="+", choices=ways, default=ways)
    arguments = parser.parse_args()
    weights = arguments.weights.resolve()
    os.chdir(arguments.folder)
    params = load_params()
    jobs = plan(params, arguments, weights)
    compute, _ = choose_compute(
        jobs["scratch"],
        Share(),
        torch.device("cpu"),
        threads="auto",
        most_threads=usable_cores(),
    )
    torch.set_num_threads(compute.threads)
    print(f"{arguments.network}: {compute}", flush=True)
    if "head" in arguments.ways:
        show_cache(jobs["head"], compute)
    budget = arguments.seconds
    parts = {
        "head": [(jobs["head"], budget)],
        "head, then all": [(jobs["head"], budget / 5), (jobs["all"], 0.8 * budget)],
        "scratch": [(jobs["scratch"], budget)],
    }
    table({way: run(parts[way], compute) for way in arguments.ways}, params)


def plan(params: Params, arguments: argparse.Namespace, weights: Path) -> dict[str, Job]:
    """Return the three jobs, but for their epochs."""
    packed = Path("data/packed").resolve()

    def job(trainable: str, lr: float, source: Path | None) -> Job:
        values = params.train.model_dump(mode="json") | {
            "trainable": trainable,
            "weights": source and str(source),
            "global_batch_size": 32,
            "augment": [] if trainable == "head" else AUGMENT,
        }
        values["optimizer"] |= {"name": "adamw", "lr": lr}
        values["early_stopping"]["patience"] = ALL
        initial = InitialWeights(source, str(source), IMAGENET) if source else InitialWeights()
        return make_job(
            "train",
            parse(AnyModel, {"name": arguments.network, "args": {}}),
            type(params.train).model_validate(values, strict=False),
            images=[packed / "train"],
            validation=packed / "val",
            initial=initial,
        )

    return {
        "head": job("head", arguments.head_lr, weights),
        "all": job("all", arguments.all_lr, weights),
        "scratch": job("all", arguments.scratch_lr, None),
    }


def with_recipe(job: Job, **changes: Any) -> Job:
    """Return the job with some values of its recipe changed."""
    values = job.recipe.model_dump(mode="json") | changes
    return replace(job, recipe=type(job.recipe).model_validate(values, strict=False))


def show_cache(job: Job, compute: ComputeConfig) -> None:
    """Time an epoch of the head on cached features and with the extractor run each time."""
    # A mixup that changes next to nothing keeps the features from being cached.
    seconds = {}
    for name, alpha in (("cached", 0.0), ("extractor run again", 1e-3)):
        trainer = start(with_recipe(job, epochs=ALL, mixup_alpha=alpha), compute)
        epochs, begin = 0, time.perf_counter()
        while epochs < 1 or time.perf_counter() - begin < 5:
            trainer.advance(ALL)
            epochs += 1
        seconds[name] = (time.perf_counter() - begin) / epochs
        print(f"epoch of the head, {name}: {seconds[name]:.3f} s", flush=True)
    print(f"cached is {seconds['extractor run again'] / seconds['cached']:.0f} times faster")


def start(job: Job, compute: ComputeConfig) -> Trainer:
    """Build the trainer of a job."""
    return build_trainer(job, Share(), torch.device("cpu"), compute)


def run(parts: list[tuple[Job, float]], compute: ComputeConfig) -> dict[str, Any]:
    """Train one job after the other, each within its seconds, and predict the test set."""
    began, epochs = time.perf_counter(), []
    weights: dict[str, torch.Tensor] | None = None
    with tempfile.TemporaryDirectory() as folder:
        for job, seconds in parts:
            end = time.perf_counter() + seconds
            if weights is not None:
                path = Path(folder) / "before.safetensors"
                save_file(weights, path)
                job = replace(job, weights=path)  # noqa: PLW2901
            begin = time.perf_counter()
            probe = start(with_recipe(job, epochs=ALL), compute)
            built = time.perf_counter()
            while time.perf_counter() - built < seconds / 20:
                probe.advance(ALL)
            now = time.perf_counter()
            epoch = (now - built) / probe.state.epochs_done
            fit = max(1, int((end - now - (built - begin)) / epoch))
            trainer = start(with_recipe(job, epochs=fit), compute)
            while not trainer.done:
                trainer.advance(ALL)
            weights = trainer.best_weights
            epochs.append(fit)
    spent = time.perf_counter() - began
    assert weights is not None
    return predict(job, weights) | {"epochs": epochs, "seconds": spent}


def predict(job: Job, weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return the posteriors of the test images."""
    test = ImageSet.open(job.validation.parent / "test")
    info = test.info
    description = Description(
        job.network, job.args, info.classes, info.preprocessing, job.mean, job.std, {}, {}
    )
    network = description.build()
    network.load_state_dict(weights)
    bundle = Bundle(description, network.eval(), Path())
    posteriors = probabilities(bundle, test.batches(BATCH_SIZE))
    return {"labels": test.labels, "posteriors": posteriors, "classes": info.classes}


def _scored(result: dict[str, Any], params: Params) -> Scored:
    return Scored.of(result["labels"], result["posteriors"], params.evaluate)


def table(found: dict[str, dict[str, Any]], params: Params) -> None:
    """Print figures with intervals, and the paired difference to training from scratch."""
    names = ("accuracy", "balanced_accuracy", "macro_f1", "nll")
    print(f"{'':16}{'seconds':>8}  {'epochs':10}" + "".join(f"{name:24}" for name in names))
    for way, result in found.items():
        block = measure(_scored(result, params), result["classes"])
        print(
            f"{way:16}{result['seconds']:8.0f}  {'+'.join(map(str, result['epochs'])):10}"
            + "".join(f"{figure(block[name]):24}" for name in names)
        )
    scratch = found.pop("scratch", None)
    if scratch is None:
        return
    for way, result in found.items():
        assert np.array_equal(result["labels"], scratch["labels"])
        block = compare(_scored(result, params), _scored(scratch, params))
        print(
            f"{way} minus scratch: accuracy {figure(block['accuracy'])},"
            f" macro-F1 {figure(block['macro_f1'])}, McNemar p {block['mcnemar']['p_value']:.2g}"
        )


def figure(value: dict[str, Any]) -> str:
    """Return a value with its interval."""
    low, high = value["ci95"]
    return f"{value['value']:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
