"""localize, on images of which a network that is made by hand shows the brightness."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pipeline.data.packing.preprocess import fit_pixels
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.data.shards.shards import SetInfo, ShardWriter
from pipeline.evaluation.metrics.predictions import Predictions, write_predictions
from pipeline.params import load_params
from pipeline.stages import localize
from pipeline.vision.bundle.description import Description
from tests.bundles import save_bundle
from tests.contract.imports import ROOT

SIDE = 32
CLASSES = ("lamp", "night")
PREPARING = Preprocessing(SIDE, SIDE, 1, "stretch", 0, 8)
ARGS = {"blocks": [{"filters": 1, "kernel": 1, "pool": {"kind": "average", "size": SIDE}}]}
HEIGHT, WIDTH = 64, 96  # of the files


@pytest.fixture
def params():
    return load_params(ROOT / "params.yaml")


def write_model():
    """The map of class 0 is the brightness of the pixels, and that of class 1 its opposite."""
    description = Description("plain", ARGS, CLASSES, PREPARING, (0.0,), (1.0,))
    network = description.build()
    weights = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    weights["extractor.conv1.weight"] += 1.0
    weights["head.weight"] += torch.tensor([[1.0], [-1.0]])
    save_bundle(Path("models/final"), description, weights)


def write_images(split, boxes, rng):
    """Pack images with one bright rectangle each; a row of the split table for each."""
    images, rows = [], []
    for number, box in enumerate(boxes):
        pixels = np.full((HEIGHT, WIDTH, 1), 20, np.uint8)
        x, y, w, h = rng.integers(0, 40), rng.integers(0, 30), 30, 24
        pixels[y : y + h, x : x + w] = 200
        images.append(fit_pixels(pixels, PREPARING))
        given = {"right": (x, y, w, h), "shifted": (x + 26, y, w, h), "none": (None,) * 4}[box]
        path = f"{split}/{number}.png"
        rows.append({"path": path, "split": split, "width": WIDTH, "height": HEIGHT})
        rows[-1] |= dict(zip("xywh", given, strict=True))
    paths, labels = [row["path"] for row in rows], [0] * len(rows)
    with ShardWriter(Path("data/packed") / split, SetInfo(CLASSES, PREPARING, "uint8"), 99) as out:
        out.write(np.stack(images), labels, paths, [None] * len(rows), paths)
    return rows


def write_project(boxes):
    rng = np.random.default_rng(0)
    write_model()
    rows = {split: write_images(split, given, rng) for split, given in boxes.items()}
    table = pa.Table.from_pylist([row for of in rows.values() for row in of])
    pq.write_table(table, "data/split.parquet")
    paths = [row["path"] for row in rows["test"]]
    posteriors = np.tile([0.9, 0.1], (len(paths), 1))
    posteriors[0] = 0.3, 0.7  # one mistake
    labels = np.zeros(len(paths), np.int64)
    given = Predictions(CLASSES, paths, paths, labels, posteriors)
    write_predictions(Path("data/predictions/final.parquet"), given)


def report():
    return json.loads(Path("reports/localize.json").read_text())


def test_boxes_are_found_at_the_threshold_of_validation(params, capsys):
    test = ["right"] * 6 + ["shifted", "none"]
    write_project({"val": ["right", "none", "right"], "test": test})
    localize.run(params)
    found = report()
    assert found["method"] == "cam"
    assert found["places"] == [SIDE, SIDE]
    assert found["chosen_on"] == "validation"
    # The ground has a tenth of the light: above that, each threshold finds the rectangle.
    assert 0.11 < found["threshold"] < 0.99
    boxes = found["boxes"]
    assert (boxes["validation"], boxes["test"]) == (2, 7)
    assert boxes["validation_box_accuracy"]["value"] == 1.0
    assert boxes["box_accuracy"]["value"] == pytest.approx(6 / 7)
    assert boxes["box_and_class_accuracy"]["value"] == pytest.approx(5 / 7)
    assert boxes["pointing_accuracy"]["value"] == pytest.approx(6 / 7)
    assert "85.7% of 7 test images" in capsys.readouterr().out
    for name in ("mistakes", "located"):
        with Image.open(f"reports/pictures/localize/{name}.png") as picture:
            assert min(picture.size) > 200


def test_without_validation_boxes_params_give_the_threshold(params):
    write_project({"val": ["none"], "test": ["right", "right"]})
    for threshold, share in ((0.5, 1.0), (0.05, 0.0)):  # at the lower one, all of the image
        section = params.localize.model_copy(update={"threshold": threshold})
        localize.run(params.model_copy(update={"localize": section}))
        assert report()["threshold"] == threshold
        assert report()["chosen_on"] == "params"
        assert report()["boxes"]["box_accuracy"]["value"] == share
        assert report()["boxes"]["validation_box_accuracy"] is None


def test_without_boxes_there_are_only_mistakes(params, capsys):
    write_project({"val": ["right"], "test": ["none", "none"]})
    localize.run(params)
    assert report()["boxes"] is None
    assert "no boxes on test images" in capsys.readouterr().out
    assert [path.name for path in Path("reports/pictures/localize").iterdir()] == ["mistakes.png"]
