"""baseline, evaluate, tta, embed and report on small packed sets and untrained networks."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.data.prepare import Preparing
from pipeline.data.shards import ImageSet, SetInfo, ShardWriter
from pipeline.errors import PipelineError
from pipeline.evaluation.predictions import read_predictions
from pipeline.evaluation.vectors import read_embeddings
from pipeline.files import write_json
from pipeline.params import load_params
from pipeline.stages import baseline, embed, evaluate, report, tta
from pipeline.vision.bundle import Description, load_bundle, save_bundle
from pipeline.vision.predict import probabilities

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
CLASSES = ("bars", "dots <b>", "rings $x")
PREPARING = Preparing(16, 16, 1, "stretch", 0, 8)
STAGES = (baseline, evaluate, tta, embed)


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
    ids = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    paths = [f"{CLASSES[label]}/{i:03d}.png" for i, label in enumerate(labels)]
    with ShardWriter(folder, SetInfo(CLASSES, PREPARING, "uint8"), 10_000) as writer:
        writer.write(images, labels.tolist(), ids, [None] * len(labels), paths)
    return labels


def write_models():
    for seed, name in enumerate(("base", "tuned")):
        torch.manual_seed(seed)
        description = Description("lenet5", {}, CLASSES, PREPARING, (0.3,), (0.3,))
        save_bundle(Path("models") / name, description, description.build().state_dict())
        epochs = [
            {"epoch": i, "lr": 0.1, "train_loss": 1 / i, "val_loss": 1 / i, "val_accuracy": 0.5}
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
    register = {"model": "forms", "promoted": False, "reasons": ["worse than the baseline"]}
    write_json(Path("reports/register.json"), register)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A repository after training, in which the stages have run."""
    root = tmp_path_factory.mktemp("workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        rng = np.random.default_rng(0)
        labels = {
            split: write_packed(Path("data/packed") / split, counts, rng)
            for split, counts in {
                "train": (40, 20, 10),
                "val": (5, 5, 5),
                "test": (15, 10, 5),
            }.items()
        }
        write_models()
        write_other_reports(labels)
        for stage in (*STAGES, report):
            stage.run(PARAMS)
    return root


@pytest.fixture
def inside(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    return workspace


def read(path):
    return json.loads(Path(path).read_text())


def test_the_baseline_learns_forms(inside):
    found = read("reports/baseline.json")
    assert found["test"]["accuracy"]["value"] > 0.9
    assert found["features"] == 108
    importances = [entry["importance"] for entry in found["most_important"]]
    assert importances == sorted(importances, reverse=True)


def test_predictions_are_those_of_the_bundle(inside):
    test_set = pq.read_table("data/predictions/tuned.parquet").to_pylist()
    assert len(test_set) == 30
    given = read_predictions(Path("data/predictions/tuned.parquet"))
    assert given.classes == CLASSES
    images = ImageSet.open(Path("data/packed/test"))
    assert given.ids == images.ids
    assert given.paths == images.paths
    np.testing.assert_array_equal(given.labels, images.labels)
    expected = probabilities(load_bundle(Path("models/tuned")), images.batches(256))
    np.testing.assert_allclose(given.probabilities, expected)


def test_evaluate_reports_three_models_and_their_differences(inside):
    found = read("reports/evaluate.json")
    assert set(found) == {"baseline", "base", "tuned", "comparisons"}
    assert found["baseline"]["test"] == read("reports/baseline.json")["test"]
    for name in ("baseline", "base", "tuned"):
        given = read_predictions(Path(f"data/predictions/{name}.parquet"))
        right = (given.probabilities.argmax(axis=1) == given.labels).mean()
        assert found[name]["test"]["accuracy"]["value"] == pytest.approx(right)
        assert set(found[name]["test"]["per_class"]) == set(CLASSES)
    assert list(found["comparisons"]) == [
        "base_minus_baseline",
        "tuned_minus_baseline",
        "tuned_minus_base",
    ]
    difference = found["comparisons"]["tuned_minus_base"]["macro_f1"]["value"]
    assert difference == pytest.approx(
        found["tuned"]["test"]["macro_f1"]["value"] - found["base"]["test"]["macro_f1"]["value"]
    )


def test_confusions_agree_with_the_plot_data(inside):
    with Path("reports/plots/confusion.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    for cell in read("reports/evaluate.json")["tuned"]["confusions"]:
        pair = {"actual": cell["true"], "predicted": cell["predicted"]}
        assert rows.count(pair) == cell["images"]


def test_tta_averages_all_views(inside):
    found = read("reports/tta.json")
    assert len(found["rungs"]) == len(PARAMS.tta.views)
    assert [rung["cost"]["views_per_image"] for rung in found["rungs"]] == list(range(1, 9))
    assert all(rung["cost"]["images_per_s"] > 0 for rung in found["rungs"])
    assert found["test"] == found["rungs"][-1]["test"]
    assert found["rungs"][0]["views"] == ["identity"]
    assert found["rungs"][0]["gain"]["nll"] == {"value": 0.0, "ci95": [0.0, 0.0]}
    plain = read("reports/evaluate.json")["tuned"]["test"]
    assert found["rungs"][0]["test"] == plain
    averaged = read_predictions(Path("data/predictions/tuned_tta.parquet"))
    np.testing.assert_allclose(averaged.probabilities.sum(axis=1), 1)
    right = (averaged.probabilities.argmax(axis=1) == averaged.labels).mean()
    assert found["test"]["accuracy"]["value"] == pytest.approx(right)


def test_embed_searches_the_training_images(inside):
    found = read("reports/retrieve.json")
    assert (found["queries"], found["searched"], found["dimensions"]) == (30, 70, 84)
    train = read_embeddings(Path("data/embeddings/train.parquet"))
    test = read_embeddings(Path("data/embeddings/test.parquet"))
    assert train.vectors.shape == (70, 84)
    unit = [e.vectors / np.linalg.norm(e.vectors, axis=1, keepdims=True) for e in (train, test)]
    first = train.labels[(unit[1] @ unit[0].T).argmax(axis=1)] == test.labels
    assert found["test"]["recall_at_1"]["value"] == pytest.approx(first.mean())


def test_the_page_shows_every_picture(inside):
    page = Path("reports/index.html").read_text(encoding="utf-8")
    assert page.count("<img") == len(list(Path("reports/pictures").glob("*/*.png"))) == 9
    assert len(page) < 5_000_000
    assert "dots &lt;b&gt;" in page
    assert "<em>Not yet.</em>" in page


def test_a_second_run_writes_the_same_bytes(inside):
    def contents():
        measured = {"tta.json", "index.html"}  # images per second
        files = [*Path("reports").rglob("*"), *Path("data").rglob("*.parquet")]
        return {
            path: path.read_bytes()
            for path in files
            if path.is_file() and path.name not in measured
        }

    before = contents()
    for stage in STAGES:
        stage.run(PARAMS)
    assert contents() == before


def test_a_bundle_for_other_classes_is_refused(inside, monkeypatch, tmp_path):
    description = Description("lenet5", {}, ("a", "b"), PREPARING, (0.3,), (0.3,))
    save_bundle(tmp_path / "other", description, description.build().state_dict())
    monkeypatch.setattr(tta, "TUNED", tmp_path / "other")
    message = r"other was trained for other classes than the packed images: .* found \('a', 'b'\)"
    with pytest.raises(PipelineError, match=message):
        tta.run(PARAMS)


@pytest.mark.parametrize("name", ["data", "balance", "evaluate", "tta", "retrieve", "register"])
def test_report_names_the_report_that_lacks_something(inside, tmp_path, monkeypatch, name):
    shutil.copytree(inside, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    write_json(Path(f"reports/{name}.json"), {})
    with pytest.raises(PipelineError, match=rf"^reports/{name}\.json lacks \w+; delete it and run"):
        report.run(PARAMS)


def test_report_names_a_damaged_split(inside, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/split.parquet").write_text("junk")
    with pytest.raises(PipelineError, match=r"split\.parquet is damaged \(.*\); delete it and run"):
        report.run(PARAMS)


def test_report_needs_the_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match=r"split\.parquet is missing; run dvc repro"):
        report.run(PARAMS)


def test_baseline_and_report_start_without_torch():
    code = (
        "import sys, pipeline.stages.baseline, pipeline.stages.report;"
        "print([m for m in ('torch', 'ray', 'mlflow') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
