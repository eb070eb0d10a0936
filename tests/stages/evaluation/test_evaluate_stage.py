"""What evaluate reports of each model, recomputed from bundles and predictions."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.shards.shards import ImageSet
from pipeline.errors import PipelineError
from pipeline.evaluation.metrics.posteriors import temper
from pipeline.evaluation.metrics.predictions import read_predictions
from pipeline.evaluation.metrics.scores import answers
from pipeline.evaluation.metrics.temperature import fit_temperature
from pipeline.files import write_json
from pipeline.stages import evaluate
from pipeline.vision.bundle.description import rewrite_bundle
from pipeline.vision.inference.bundle import load_bundle
from pipeline.vision.inference.predict import probabilities
from tests.stages.evaluation.project import CLASSES, PARAMS, read


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
    assert set(found) == {"metrics", *names, "comparisons", "class_sizes"}
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


def test_a_final_model_without_views_and_temperature_is_the_tuned_one(copied):
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


def test_evaluate_refuses_a_history_of_something_else(copied):
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
