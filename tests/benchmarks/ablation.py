"""What each part of the long_tail recipe is worth: added to plain training alone, and left out.

    dvc exp run -S recipe.name=long_tail -S recipe.budget='10 min' -S data.root=... evaluate
    python -m tests.benchmarks.ablation OUT --seeds 0 1 2

It runs in the folder of a project whose recipe was made. The first call copies that recipe into
params.yaml, so that single values can be set, as the report's page says. Each variant is one
`dvc exp run` that sets what switches its parts off; DVC keeps it as an experiment, and OUT keeps a
JSON file of it: a call that was interrupted goes on.

The classifier on balanced batches is the second training, so each run shows both: without it (base)
and with it (tuned). Variants are compared by the last epoch on validation images; the figures of
test images are read once for each variant and seed.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.data.shards.shards import ImageSet
from pipeline.params import Params, load_params
from pipeline.params.choices.training import Training
from pipeline.recipes.kept import kept_choice

# What switches a part off, by the part.
SGD = "{name: sgd, lr: 0.1, momentum: 0.9, weight_decay: 0.0005, layer_decay: 1.0, sam_rho: 0.0}"
OFF = {
    "balanced softmax": "train.loss={name: cross_entropy}",
    "AutoAugment and cutout": "train.augment=[{crop: {padding: 4}}, {hflip: {}}]",
    "mixup": "train.mixup_alpha=0.0",
    "Muon": f"train.optimizer={SGD}",
}
TRAINED = ("base", "tuned")

Result = dict[str, Any]


def main() -> None:
    """Run all variants that were not run before, and print their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="a folder for the results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    params = load_params()
    if params.recipe.made:
        copy_recipe()
        params = load_params()
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = {
        name: [run(arguments.out, name, settings, seed) for seed in arguments.seeds]
        for name, settings in variants(parts(params.train))
    }
    print(table(found, params))


def copy_recipe() -> None:
    """Put the recipe that was made into params.yaml."""
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["recipe"] = {"name": "custom", "budget": None, "mirror": "auto"}
    for stage in ("train", "finetune"):
        values[stage] = kept_choice(stage)[0].model_dump(mode="json")
    Path("params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def parts(recipe: Training) -> dict[str, str]:
    """Return those parts that a recipe has."""
    keys = {item.key for item in recipe.augment}
    there = {
        "balanced softmax": recipe.loss.name == "balanced_softmax",
        "AutoAugment and cutout": "auto_augment" in keys,
        "mixup": recipe.mixup_alpha > 0,
        "Muon": recipe.optimizer.name == "muon",
    }
    return {name: OFF[name] for name, present in there.items() if present}


def variants(off: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Yield names and settings: plain, each part added, each part left out, all of them."""
    yield "plain", list(off.values())
    for name in off:
        yield f"plain + {name}", [setting for part, setting in off.items() if part != name]
    if len(off) > 2:  # of two, one left out is the other one alone
        for name, setting in off.items():
            yield f"all but {name}", [setting]
    yield "all", []


def run(out: Path, name: str, settings: list[str], seed: int) -> Result:
    """Run a variant as an experiment of DVC, or read what it did."""
    slug = re.sub(r"\W+", "-", name).strip("-").lower() + f"-seed{seed}"
    file = out / f"{slug}.json"
    if not file.exists():
        seeds = [f"train.seed={2 * seed}", f"finetune.seed={2 * seed + 1}"]
        words = [word for setting in [*settings, *seeds] for word in ("-S", setting)]
        print(f"{slug} ...", file=sys.stderr, flush=True)
        begin = time.perf_counter()
        command = [sys.executable, "-m", "dvc", "exp", "run", "-q", "-m", slug]
        subprocess.run([*command, *words, "evaluate"], check=True)
        file.write_text(json.dumps(read(time.perf_counter() - begin), indent=1))
    result: Result = json.loads(file.read_text())
    return result


def read(seconds: float) -> Result:
    """Return what the reports say of the trainings that just ended."""
    report = json.loads(Path("reports/evaluate.json").read_text())
    history = {
        name: json.loads((Path("reports/history") / f"{name}.json").read_text()) for name in TRAINED
    }
    return {
        "seconds": seconds,
        "validation": {name: rows[-1]["val_balanced_accuracy"] for name, rows in history.items()},
        "epochs": {name: len(rows) for name, rows in history.items()},
        "test": {
            name: {
                "error": 1 - report[name]["test"]["balanced_accuracy"]["value"],
                "arm": np.ptp(report[name]["test"]["balanced_accuracy"]["ci95"]) / 2,
                "ece": report[name]["calibration"]["test"]["ece"]["value"],
                "groups": {g["name"]: g["recall"][name]["value"] for g in report["class_sizes"]},
            }
            for name in TRAINED
        },
    }


def table(found: Mapping[str, list[Result]], params: Params) -> str:
    """Return the variants as a Markdown table, each without and with the second training."""
    images = len(ImageSet.open(Path(params.train.images)))
    columns = ("variant", "classifier again", "validation", "test error, %", "many", "medium")
    columns += ("few", "ECE", "passes, M", "whole run, s")
    lines = [columns, ("---",) * len(columns)]
    lines += [
        (variant, "yes" if name == "tuned" else "no", *row(results, name, images))
        for variant, results in found.items()
        for name in TRAINED
    ]
    rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    seeds = len(next(iter(found.values())))
    reads = seeds * len(found)
    return (
        f"{rows}\n\nSeeds: {seeds}; the last epoch of each training. Intervals: 95 %, of test"
        f" images, which were read {reads} times."
    )


def row(results: list[Result], name: str, images: int) -> list[str]:
    """Return the figures of one network, means over its seeds."""

    def mean(*keys: str) -> float:
        values = results
        for key in keys:
            values = [value[key] for value in values]
        return float(np.mean(values))

    groups = results[0]["test"][name]["groups"]
    passes = mean("epochs", "base") * images
    return [
        f"{mean('validation', name):.3f}",
        f"{100 * mean('test', name, 'error'):.1f} ± {100 * mean('test', name, 'arm'):.1f}",
        *(
            f"{mean('test', name, 'groups', group):.3f}" if group in groups else ""
            for group in ("many", "medium", "few")
        ),
        f"{mean('test', name, 'ece'):.3f}",
        f"{passes / 1e6:.2f}",
        f"{mean('seconds'):.0f}",
    ]


if __name__ == "__main__":
    main()
