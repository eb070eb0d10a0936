"""A small project after training: packed forms of three classes, and untrained networks."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.evaluation.reports.files import write_report
from pipeline.files import write_json
from pipeline.params import load_params
from pipeline.stages import baseline, embed, evaluate, inspect, localize, tta
from pipeline.vision.bundle.description import Description
from tests import reports
from tests.bundles import save_bundle
from tests.contract.imports import ROOT
from tests.packed import write_set

PARAMS = load_params(ROOT / "params.yaml")
CLASSES = ("bars", "dots <b>", "rings $x")
PREPARING = Preprocessing(16, 16, 1, "stretch", 0, 8)
# In the order of the flow.
STAGES = (baseline, tta, evaluate, localize, embed, inspect)
# Images of each class.
COUNTS = {"train": (40, 20, 10), "val": (5, 5, 5), "test": (15, 10, 5)}
BALANCED = (0, 20, 30)


def write_project():
    """Write, here, what these stages read, and the reports that the page shows besides theirs."""
    rng = np.random.default_rng(0)
    labels = {
        split: write_packed(Path("data/packed") / split, counts, rng)
        for split, counts in COUNTS.items()
    }
    write_packed(Path("data/balanced"), BALANCED, rng)
    write_models()
    write_other_reports(labels)


def draw(label, rng):
    image = rng.integers(0, 60, (16, 16, 1), dtype=np.uint8)
    at = rng.integers(4, 10)
    if label == 0:
        image[:, at : at + 2] = 220
    elif label == 1:
        image[at : at + 3, at : at + 3] = 220
    else:
        image[3:12, 3:12] = 220
        image[5:10, 5:10] = 20
    return image


def write_packed(folder, counts, rng):
    labels = rng.permutation(np.repeat(np.arange(3), counts))
    images = np.stack([draw(label, rng) for label in labels])
    write_set(folder, images, labels.tolist(), CLASSES)
    return labels


def write_models():
    for seed, name in enumerate(("base", "tuned")):
        torch.manual_seed(seed)
        description = Description("lenet5", {}, CLASSES, PREPARING, (0.3,), (0.3,))
        save_bundle(Path("models") / name, description, description.build().state_dict())
        epochs = [
            {"epoch": i, "train_loss": 1 / i, "val_loss": 1 / i, "val_accuracy": 0.5}
            | {"kept": i == 3}
            for i in (1, 2, 3)
        ]
        write_json(Path("reports/history") / f"{name}.json", epochs)


def write_other_reports(labels):
    rows = [(CLASSES[i], split) for split, of in labels.items() for i in of]
    table = pa.table({"label": [row[0] for row in rows], "split": [row[1] for row in rows]})
    pq.write_table(table, "data/split.parquet")
    data = {
        "files": len(rows) + 1,
        "usable": len(rows),
        "problems": {"truncated": 1},
        "left_out": [{"path": "bars/x.png", "problem": "truncated"}],
        "near_duplicates": {"clusters": 0, "images": 0},
    }
    write_json(Path("reports/data.json"), data)
    write_json(Path("reports/balance.json"), {"synthetic_images": 0, "classes": {}})
    refused = {"model": "forms", "decision": "refused", "promoted": False}
    register = reports.changed(reports.first(), **refused)
    write_report(Path("reports/register.json"), register)
    write_json(Path("reports/retraining/calls.json"), [])
    for stage in ("train", "finetune"):
        values = {"plan": None, "recipe": PARAMS.section(stage)}
        write_json(Path(f"models/compute/{stage}.json"), values)


def read(path):
    return json.loads(Path(path).read_text())
