"""The baseline: what it learns, and what the stages after it do with it or without one."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation.baseline.handcrafted import feature_groups, feature_names
from pipeline.evaluation.metrics.predictions import read_predictions, write_predictions
from pipeline.stages import baseline, evaluate, report
from tests.stages.evaluation.project import PARAMS, read


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


def test_a_model_that_loses_to_the_baseline_estimates_no_share_of_wrong_labels(copied):
    """The networks here are untrained; the baseline takes their place to see the other case."""
    evaluated = read("reports/evaluate.json")
    assert evaluated["comparisons"]["final_minus_baseline"]["macro_f1"]["value"] < 0
    found = read("reports/suspicious.json")
    assert found["share_of_wrong_labels"] is None
    assert found["withheld"].startswith("the final model does not beat the baseline (macro-F1 0.")
    assert found["withheld"] in Path("reports/index.html").read_text()
    for split in ("", "_val"):
        path = Path(f"data/predictions/baseline{split}.parquet")
        weak = read_predictions(path)
        wrong = np.eye(3)[(weak.labels + 1) % 3]
        write_predictions(path, dataclasses.replace(weak, probabilities=wrong))
    evaluate.run(PARAMS)
    found = read("reports/suspicious.json")
    assert 0 <= found["share_of_wrong_labels"] <= 1
    assert found["withheld"] == ""


def test_without_a_baseline_the_reports_and_the_page_say_so(workspace, copied, capsys):
    none = PARAMS.baseline.model_copy(update={"classifier": "none"})
    params = PARAMS.model_copy(update={"baseline": none})
    for stage in (baseline, evaluate, report):
        stage.run(params)
    assert "baseline: none is fitted, since baseline.classifier is none" in capsys.readouterr().out
    assert read_predictions(Path("data/predictions/baseline.parquet")).ids == []
    found, before = (read(folder / "reports/evaluate.json") for folder in (Path(), workspace))
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
    assert (workspace / "reports/pictures/evaluate/confusion_matrix_of_baseline.png").is_file()
    assert not Path("reports/pictures/evaluate/confusion_matrix_of_baseline.png").exists()
    assert "That of the baseline" not in html
    assert "that of hand-crafted features" not in html


def test_evaluate_refuses_a_baseline_of_other_images(copied):
    shutil.copy("data/predictions/baseline_val.parquet", "data/predictions/baseline.parquet")
    message = r"^data/predictions/baseline\.parquet is about other images than data/packed/test;"
    with pytest.raises(PipelineError, match=message):
        evaluate.run(PARAMS)


def test_baseline_and_report_start_without_torch():
    code = (
        "import sys, pipeline.stages.baseline, pipeline.stages.report;"
        "print([m for m in ('torch', 'ray', 'mlflow') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
