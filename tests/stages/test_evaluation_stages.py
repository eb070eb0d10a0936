"""The stages that judge models, on small packed sets and untrained networks."""

import base64
import csv
import dataclasses
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.data.shards.shards import ImageSet, SetInfo, ShardWriter
from pipeline.errors import PipelineError
from pipeline.evaluation.baseline.handcrafted import feature_groups, feature_names
from pipeline.evaluation.latent.embeddings import (
    SPLITS,
    open_gallery,
    read_embeddings,
    read_nearest_training,
)
from pipeline.evaluation.metrics.posteriors import temper
from pipeline.evaluation.metrics.predictions import read_predictions, write_predictions
from pipeline.evaluation.metrics.scores import answers
from pipeline.evaluation.metrics.temperature import fit_temperature
from pipeline.evaluation.reports.files import read_report, write_report
from pipeline.files import write_json
from pipeline.params import load_params
from pipeline.stages import baseline, embed, evaluate, inspect, localize, report, tta
from pipeline.stages._map import write_map
from pipeline.vision.bundle.description import Description, rewrite_bundle
from pipeline.vision.inference.bundle import load_bundle
from pipeline.vision.inference.predict import probabilities
from tests import reports
from tests.bundles import save_bundle

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
CLASSES = ("bars", "dots <b>", "rings $x")
PREPARING = Preprocessing(16, 16, 1, "stretch", 0, 8)
STAGES = (baseline, tta, evaluate, localize, embed, inspect)
SETS = ("train", "test")


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
        write_packed(Path("data/balanced"), (0, 20, 30), rng)
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
    assert found["features"] == len(feature_names(1))
    assert found["training_images"] == 70
    best = max(found["tried"], key=lambda trial: trial["score"])
    assert (found["classifier"], found["settings"]) == (best["classifier"], best["settings"])
    losses = [entry["loss"] for entry in found["groups"]]
    assert losses == sorted(losses, reverse=True)
    assert {entry["group"] for entry in found["groups"]} == set(feature_groups(1))
    importances = [entry["importance"] for entry in found["most_important"]]
    assert importances == sorted(importances, reverse=True)


@pytest.mark.parametrize("name", ["base", "tuned", "final"])
def test_predictions_are_those_of_the_bundle(inside, name):
    given = read_predictions(Path(f"data/predictions/{name}.parquet"))
    assert given.classes == CLASSES
    images = ImageSet.open(Path("data/packed/test"))
    assert given.ids == images.ids
    assert given.paths == images.paths
    np.testing.assert_array_equal(given.labels, images.labels)
    expected = probabilities(load_bundle(Path("models") / name), images.batches(256))
    np.testing.assert_array_equal(given.probabilities, expected)


def test_evaluate_reports_four_models_and_their_differences(inside):
    found = read("reports/evaluate.json")
    names = ("baseline", "base", "tuned", "final")
    assert set(found) == {"metrics", *names, "comparisons"}
    assert found["baseline"]["test"] == read("reports/baseline.json")["test"]
    assert set(read("reports/metrics.json")) == set(names)
    for name in names:
        given = read_predictions(Path(f"data/predictions/{name}.parquet"))
        right = (given.probabilities.argmax(axis=1) == given.labels).mean()
        assert found[name]["test"]["accuracy"]["value"] == pytest.approx(right)
        assert set(found[name]["test"]["per_class"]) == set(CLASSES)
    assert list(found["comparisons"]) == [
        "base_minus_baseline",
        "tuned_minus_baseline",
        "final_minus_baseline",
        "tuned_minus_base",
        "final_minus_base",
        "final_minus_tuned",
    ]
    difference = found["comparisons"]["final_minus_base"]["nll"]["value"]
    assert difference == pytest.approx(
        found["final"]["test"]["nll"]["value"] - found["base"]["test"]["nll"]["value"]
    )


def test_a_model_that_loses_to_the_baseline_estimates_no_share_of_wrong_labels(
    inside, tmp_path, monkeypatch
):
    """The networks here are untrained; the baseline takes their place to see the other case."""
    evaluated = read("reports/evaluate.json")
    assert evaluated["comparisons"]["final_minus_baseline"]["macro_f1"]["value"] < 0
    found = read("reports/suspicious.json")
    assert found["share_of_wrong_labels"] is None
    assert found["withheld"].startswith("the final model does not beat the baseline (macro-F1 0.")
    assert found["withheld"] in Path("reports/index.html").read_text()
    shutil.copytree(inside, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    for split in ("", "_val"):
        path = Path(f"data/predictions/baseline{split}.parquet")
        weak = read_predictions(path)
        wrong = np.eye(3)[(weak.labels + 1) % 3]
        write_predictions(path, dataclasses.replace(weak, probabilities=wrong))
    evaluate.run(PARAMS)
    found = read("reports/suspicious.json")
    assert 0 <= found["share_of_wrong_labels"] <= 1
    assert found["withheld"] == ""


def test_without_a_baseline_the_reports_and_the_page_say_so(inside, tmp_path, monkeypatch, capsys):
    shutil.copytree(inside, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    none = PARAMS.baseline.model_copy(update={"classifier": "none"})
    params = PARAMS.model_copy(update={"baseline": none})
    for stage in (baseline, evaluate, report):
        stage.run(params)
    assert "baseline: none is fitted, since baseline.classifier is none" in capsys.readouterr().out
    assert read_predictions(Path("data/predictions/baseline.parquet")).ids == []
    found, before = (
        read("reports/evaluate.json"),
        json.loads((inside / "reports/evaluate.json").read_text()),
    )
    assert found["baseline"] is None
    assert list(found["comparisons"]) == [
        "tuned_minus_base",
        "final_minus_base",
        "final_minus_tuned",
    ]
    for name in ("base", "tuned", "final"):
        assert found[name] == before[name]
    assert list(read("reports/metrics.json")) == ["base", "tuned", "final"]
    suspicious = read("reports/suspicious.json")
    assert suspicious["share_of_wrong_labels"] is None
    assert suspicious["withheld"].startswith("baseline.classifier is none")
    html = Path("reports/index.html").read_text()
    assert "No hand-crafted classifier was fitted (baseline.classifier: none)." in html
    assert "There is no baseline (baseline.classifier: none)." in html
    # Nor is a picture of an earlier one left.
    assert (inside / "reports/pictures/evaluate/confusion_matrix_of_baseline.png").is_file()
    assert not Path("reports/pictures/evaluate/confusion_matrix_of_baseline.png").exists()
    assert "That of the baseline" not in html
    assert "that of hand-crafted features" not in html


def test_confusions_agree_with_the_plot_data(inside):
    with Path("reports/plots/confusion.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    for cell in read("reports/evaluate.json")["final"]["confusions"]:
        pair = {"actual": cell["true"], "predicted": cell["predicted"]}
        assert rows.count(pair) == cell["images"]


def test_calibration_is_fitted_on_validation_images(inside):
    found = read("reports/evaluate.json")
    bundle = load_bundle(Path("models/tuned"))
    sets = {name: ImageSet.open(Path("data/packed") / name) for name in ("val", "test")}
    val, test = (probabilities(bundle, images.batches(256)) for images in sets.values())
    expected = fit_temperature(sets["val"].labels, val).value
    calibration = found["tuned"]["calibration"]
    assert calibration["images"] == 15
    assert calibration["temperature"]["value"] == pytest.approx(expected)
    given = answers(sets["test"].labels, temper(test, expected))
    assert calibration["test"]["nll"]["value"] == pytest.approx(given.loss.mean())
    change = calibration["change"]["brier"]["value"]
    before = found["tuned"]["test"]["brier"]["value"]
    assert change == pytest.approx(given.brier.mean() - before)
    # The baseline makes no mistake there, and is made no surer.
    baseline = found["baseline"]["calibration"]["temperature"]["value"]
    assert baseline > 0.999


def test_the_final_model_is_judged_as_it_is_shipped(inside):
    found = read("reports/evaluate.json")["final"]
    description = load_bundle(Path("models/final")).description
    calibration = found["calibration"]
    assert calibration["temperature"] == read("reports/tta.json")["temperature"]
    assert calibration["temperature"]["value"] == description.temperature
    assert calibration["images"] == 15
    for name in ("nll", "brier", "ece"):
        assert calibration["test"][name] == found["test"][name]
    # Nothing is gained here by views: the change is that of the tuned network's posteriors.
    tuned = read_predictions(Path("data/predictions/tuned.parquet"))
    before, after = (
        answers(tuned.labels, posteriors).loss.mean()
        for posteriors in (
            tuned.probabilities,
            temper(tuned.probabilities, description.temperature),
        )
    )
    assert calibration["change"]["nll"]["value"] == pytest.approx(after - before)


def test_a_final_model_without_views_and_temperature_is_the_tuned_one(
    inside, tmp_path, monkeypatch
):
    shutil.copytree(inside, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    rewrite_bundle(Path("models/tuned"), Path("models/final"), None, 1.0)
    evaluate.run(PARAMS)
    found = read("reports/evaluate.json")
    assert found["final"]["test"] == found["tuned"]["test"]
    assert found["comparisons"]["final_minus_tuned"]["nll"] == {"value": 0.0, "ci95": [0.0, 0.0]}
    calibration = found["final"]["calibration"]
    assert calibration["temperature"] == {"value": 1.0, "ci95": [1.0, 1.0]}
    assert calibration["change"]["ece"] == {"value": 0.0, "ci95": [0.0, 0.0]}


def test_curves_of_every_class_are_written_for_dvc(inside):
    with Path("reports/plots/precision_recall.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["class"] for row in rows} == set(CLASSES)
    given = read_predictions(Path("data/predictions/final.parquet"))
    for label, name in enumerate(CLASSES):
        points = [row for row in rows if row["class"] == name]
        assert float(points[-1]["recall"]) == 1.0
        found = given.probabilities[:, label] >= float(points[0]["threshold"]) * (1 - 1e-5)
        share = (given.labels[found] == label).mean()
        assert float(points[0]["precision"]) == pytest.approx(share, rel=1e-4)


def test_suspicious_images_are_of_validation_and_test(inside):
    found = read("reports/suspicious.json")
    assert found["images"] == {"val": 15, "test": 30}
    assert len(found["listed"]) == min(found["suspicious"], PARAMS.evaluate.suspicious_images)
    for row in found["listed"]:
        images = ImageSet.open(Path("data/packed") / row["split"])
        assert row["path"] in images.paths
        assert row["given"] == CLASSES[images.labels[images.paths.index(row["path"])]]
        assert row["suggested"] in set(CLASSES) - {row["given"]}


@pytest.mark.parametrize("name", reports.SCHEMA)
def test_reports_have_their_shape(inside, name):
    assert read_report(Path(f"reports/{name}.json"), reports.SCHEMA[name])


def test_inspect_describes_the_final_model(inside):
    found = read("reports/network.json")
    network = load_bundle(Path("models/final")).network
    assert found["totals"]["parameters"] == sum(p.numel() for p in network.parameters())
    assert found["layers"][0]["output"] == [6, 16, 16]
    for name in ("filters", "activations"):
        with Image.open(f"reports/pictures/inspect/{name}.png") as picture:
            assert picture.width == 1368  # as wide as a page
    page = Path("reports/index.html").read_text()
    assert 'id="network"' in page
    assert "convolution 5x5 p2" in page


def test_embed_searches_the_training_images(inside):
    found = read("reports/retrieve.json")
    assert (found["queries"], found["searched"], found["dimensions"]) == (30, 70, 84)
    train = read_embeddings(Path("data/embeddings/train.parquet"))
    test = read_embeddings(Path("data/embeddings/test.parquet"))
    assert train.vectors.shape == (70, 84)
    unit = [e.vectors / np.linalg.norm(e.vectors, axis=1, keepdims=True) for e in (train, test)]
    first = train.labels[(unit[1] @ unit[0].T).argmax(axis=1)] == test.labels
    assert found["test"]["recall_at_1"]["value"] == pytest.approx(first.mean())
    similarity = unit[1] @ unit[0].T
    precisions = [
        average_precision_score(train.labels == label, row)
        for label, row in zip(test.labels, similarity, strict=True)
    ]
    value = found["test"]["mean_average_precision"]["value"]
    assert value == pytest.approx(np.mean(precisions), abs=1e-4)
    # The sets are small: nothing is drawn, and both searches are the same.
    pixels = found["against_pixels"]
    assert pixels["latent"]["recall_at_1"] == found["test"]["recall_at_1"]
    for name, figure in pixels["difference"].items():
        gain = pixels["latent"][name]["value"] - pixels["pixels"][name]["value"]
        assert figure["value"] == pytest.approx(gain)
        assert figure["ci95"][0] <= gain <= figure["ci95"][1]
    np.testing.assert_allclose(
        read_nearest_training(Path("data/embeddings")), similarity.max(axis=1), atol=1e-5
    )


def test_embed_finds_what_people_may_want_to_look_at(inside):
    found = read("reports/retrieve.json")
    gallery = open_gallery(
        Path("data/embeddings"), SPLITS, load_bundle(Path("models/final")).digest
    )
    assert len(gallery.vectors) == found["duplicates"]["searched"] == found["outliers"]["judged"]
    similarity = gallery.vectors[-30:] @ gallery.vectors[:70].T
    least = found["unlike"]["listed"][0]
    row = similarity.max(axis=1).argmin()
    assert least["path"] == gallery.rows.paths[85 + row]
    assert least["nearest"]["path"] == gallery.rows.paths[similarity[row].argmax()]
    limit = found["unlike"]["threshold"]
    assert found["unlike"]["below"] == (similarity.max(axis=1) < limit).sum()
    of_val = (gallery.vectors[70:85] @ gallery.vectors[:70].T).max(axis=1)
    assert limit == pytest.approx(np.quantile(of_val, 0.05), abs=1e-5)
    for group in found["duplicates"]["listed"]:
        assert len(group["images"]) > 1


def map_texts():
    """Return what the map holds as text."""
    html = Path("reports/map.html").read_text(encoding="utf-8")
    packed = re.search(r'id="texts">([^<]*)<', html).group(1)
    return html, json.loads(gzip.decompress(base64.b64decode(packed)))


def test_the_map_holds_the_test_images(inside):
    html, texts = map_texts()
    assert texts["paths"] == ImageSet.open(Path("data/packed/test")).paths
    assert [one["name"] for one in texts["classes"]] == list(CLASSES)
    assert "30 test images by t-SNE, 84 dimensions" in html
    assert 'href="map.html"' in Path("reports/index.html").read_text()


def test_the_map_of_all_images_has_answers_for_those_of_test(inside, tmp_path, monkeypatch):
    shutil.copytree(inside, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    write_map(
        {name: read_embeddings(Path(f"data/embeddings/{name}.parquet")) for name in SETS},
        PARAMS.embed.model_copy(update={"map": "all"}),
    )
    html, texts = map_texts()
    sets = [ImageSet.open(Path("data/packed") / name) for name in SETS]
    assert texts["paths"] == sets[0].paths + sets[1].paths
    packed = re.search(r'id="numbers">([^<]*)<', html).group(1)
    numbers = np.frombuffer(gzip.decompress(base64.b64decode(packed)), "<u2").reshape(6, 100)
    assert (numbers[3, :70] == 65535).all()
    given = read_predictions(Path("data/predictions/final.parquet"))
    np.testing.assert_array_equal(numbers[3, 70:], given.probabilities.argmax(axis=1))
    np.testing.assert_allclose(numbers[4, 70:] / 10_000, given.probabilities.max(axis=1), atol=1e-4)


def test_a_map_needs_the_answers_to_its_images(inside, tmp_path, monkeypatch):
    shutil.copytree(inside, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    before = Path("reports/map.html").read_bytes()
    embedded = {name: read_embeddings(Path(f"data/embeddings/{name}.parquet")) for name in SETS}
    shutil.copy("data/predictions/baseline_val.parquet", "data/predictions/final.parquet")
    message = r"^data/predictions/final\.parquet is about other images than data/packed/test; run"
    with pytest.raises(PipelineError, match=message):
        write_map(embedded, PARAMS.embed)
    Path("data/predictions/final.parquet").unlink()
    with pytest.raises(PipelineError, match=r"final\.parquet is missing; run dvc repro"):
        write_map(embedded, PARAMS.embed)
    assert Path("reports/map.html").read_bytes() == before


def test_the_page_shows_every_picture(inside):
    page = Path("reports/index.html").read_text(encoding="utf-8")
    assert page.count("<img") == len(list(Path("reports/pictures").glob("*/*.png"))) == 18
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
    monkeypatch.setitem(tta._FOLDERS, "tuned", tmp_path / "other")
    message = r"other was trained for other classes than the packed images: .* found \('a', 'b'\)"
    with pytest.raises(PipelineError, match=message):
        tta.run(PARAMS)


@pytest.mark.parametrize(
    "name",
    [
        "data",
        "balance",
        "baseline",
        "evaluate",
        "suspicious",
        "tta",
        "localize",
        "retrieve",
        "network",
        "register",
    ],
)
def test_report_names_the_report_that_lacks_something(inside, tmp_path, monkeypatch, name):
    shutil.copytree(inside, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    write_json(Path(f"reports/{name}.json"), {})
    with pytest.raises(PipelineError, match=rf"^reports/{name}\.json lacks \w+; delete it and run"):
        report.run(PARAMS)


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("evaluate", {"base": {"test": 5}}, r"base\.test: expected an object, found a whole"),
        ("tta", {"chosen": []}, r"chosen: expected an object, found a list"),
        ("register", {"promoted": "yes"}, r"promoted: expected true or false, found text"),
        ("suspicious", {"listed": [None]}, r"listed\.0: expected an object, found null"),
    ],
)
def test_report_says_where_a_report_holds_something_else(
    inside, tmp_path, monkeypatch, name, edit, message
):
    shutil.copytree(inside, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    path = Path(f"reports/{name}.json")
    write_json(path, read(path) | edit)
    with pytest.raises(PipelineError, match=rf"^reports/{name}\.json is damaged \({message}"):
        report.run(PARAMS)


def test_report_names_a_split_that_is_none(inside, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    pq.write_table(
        pa.table({"label": ["a", "b"], "split": ["train", "tset"]}), "data/split.parquet"
    )
    message = r"^data/split\.parquet is damaged \(expected splits train, val and test, found tset\)"
    with pytest.raises(PipelineError, match=message):
        report.run(PARAMS)


def test_evaluate_refuses_a_baseline_of_other_images(inside, tmp_path, monkeypatch):
    shutil.copytree(inside, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    shutil.copy("data/predictions/baseline_val.parquet", "data/predictions/baseline.parquet")
    message = r"^data/predictions/baseline\.parquet is about other images than data/packed/test;"
    with pytest.raises(PipelineError, match=message):
        evaluate.run(PARAMS)


def test_evaluate_refuses_a_history_of_something_else(inside, tmp_path, monkeypatch):
    shutil.copytree(inside, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    write_json(Path("reports/history/tuned.json"), [{"epoch": 1}])
    message = r"^reports/history/tuned\.json lacks 0\.train_loss; delete it and run dvc repro"
    with pytest.raises(PipelineError, match=message):
        evaluate.run(PARAMS)


def test_predictions_of_an_unknown_class_are_damaged(inside, tmp_path):
    table = pq.read_table("data/predictions/tuned.parquet")
    column = pa.array(["birds"] * len(table), pa.string())
    pq.write_table(table.set_column(2, "label", column), tmp_path / "a.parquet")
    with pytest.raises(PipelineError, match=r"a\.parquet is damaged \(no class is named birds\)"):
        read_predictions(tmp_path / "a.parquet")


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
