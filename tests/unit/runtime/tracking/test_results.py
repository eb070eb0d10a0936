import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.params import load_params
from pipeline.runtime.registry.versions import find_bundle
from pipeline.runtime.tracking.journal import journal_folder
from pipeline.runtime.tracking.results import record_result
from pipeline.runtime.tracking.run_logger import RunLogger
from pipeline.runtime.tracking.run_metadata import RunMetadata, bundle_tags, flat_params
from pipeline.runtime.tracking.store import open_client
from pipeline.vision.bundle.digest import bundle_digest, weights_digest
from tests.contract.imports import ROOT
from tests.fitted import fit_bundle
from tests.judged import HISTORY, judged
from tests.packed import BARS, bars, write_set

METRICS = {"test/macro_f1": 0.9, "test/accuracy": 0.95, "test_final/temperature": 1.25}


@pytest.fixture
def result(tracking, tmp_path, request):
    """A model with a picture and a report, in an experiment of the test's own."""
    images = write_set(tmp_path / "packed", *bars(9), BARS)
    bundle = fit_bundle(tmp_path / "tuned", images)
    own = tracking.model_copy(update={"experiment": request.node.name})
    picture, report = tmp_path / "confusion.png", tmp_path / "evaluate.json"
    picture.write_bytes(b"first")
    report.write_text("{}")
    files = {"pictures/evaluate/confusion.png": picture, "reports/evaluate.json": report}
    params = load_params(ROOT / "params.yaml")
    return judged(params, own, bundle, tmp_path / "packed", METRICS, files)


def client_of(result):
    return open_client(result.params.tracking)


def runs_of(result):
    client = client_of(result)
    name = result.params.tracking.experiment
    return client.search_runs([client.get_experiment_by_name(name).experiment_id])


def train(result, epochs=HISTORY):
    """Leave the run that a training of this model leaves."""
    run_logger = RunLogger(
        result.params.tracking,
        RunMetadata("trained", {}, {"convoy.stage": "finetune"}, {}),
        journal_folder(result.params.resources.storage),
        Path("none"),
    )
    for record in epochs:
        run_logger.log({"val_loss": record["val_loss"]}, record["epoch"])
    run_logger.end("FINISHED", bundle_tags(result.bundle))
    run_logger.close()
    return runs_of(result)[0].info.run_id


def test_results_go_onto_the_run_that_trained_the_model(result, tmp_path):
    trained = train(result)
    before = client_of(result).get_run(trained).info
    assert record_result(result, {"convoy.version": "digits 3"}) == trained
    run = client_of(result).get_run(trained)
    assert len(runs_of(result)) == 1
    assert run.data.metrics == METRICS | {"val_loss": 0.6}
    assert run.data.tags["convoy.version"] == "digits 3"
    folder = Path(client_of(result).download_artifacts(trained, ""))
    assert (folder / "pictures/evaluate/confusion.png").read_bytes() == b"first"
    assert (folder / "reports/evaluate.json").read_text() == "{}"
    assert (run.info.status, run.info.end_time) == (before.status, before.end_time)


def test_another_bundle_with_the_same_weights_is_the_same_model(result, tmp_path):
    """As models/final is, with the views and temperature that models/tuned lacks."""
    trained = train(result)
    final = tmp_path / "final"
    final.mkdir()
    for file in result.bundle.iterdir():
        (final / file.name).write_bytes(file.read_bytes())
    description = json.loads((final / "bundle.json").read_text())
    (final / "bundle.json").write_text(json.dumps(description | {"temperature": 2.0}))
    assert record_result(replace(result, bundle=final), {}) == trained


def test_a_run_of_another_stage_is_not_taken(result):
    """Fine-tuning that changed nothing has the weights of the first training."""
    trained = train(result)
    base = replace(result, trained=replace(result.trained, stage="train"))
    assert record_result(base, {}) != trained


def logged(result, run_id):
    """Return how often each test metric was logged, and when the picture was."""
    client = client_of(result)
    counts = {name: len(client.get_metric_history(run_id, name)) for name in METRICS}
    where = Path(client.get_run(run_id).info.artifact_uri.removeprefix("file://"))
    return counts, (where / "pictures/evaluate/confusion.png").stat().st_mtime_ns


def test_the_same_results_are_recorded_once(result):
    run_id = train(result)
    record_result(result, {"convoy.decision": "refused"})
    once = logged(result, run_id)
    assert set(once[0].values()) == {1}
    record_result(result, {"convoy.decision": "promoted"})
    assert logged(result, run_id) == once
    assert client_of(result).get_run(run_id).data.tags["convoy.decision"] == "promoted"


def test_figures_that_have_changed_are_shown(result, tmp_path):
    run_id = train(result)
    record_result(result, {})
    (tmp_path / "confusion.png").write_bytes(b"second")
    record_result(replace(result, metrics=METRICS | {"test/macro_f1": 0.8}), {})
    run = client_of(result).get_run(run_id)
    assert run.data.metrics == METRICS | {"val_loss": 0.6, "test/macro_f1": 0.8}
    counts, _ = logged(result, run_id)
    assert counts == {"test/macro_f1": 2, "test/accuracy": 1, "test_final/temperature": 1}
    folder = Path(client_of(result).download_artifacts(run_id, ""))
    assert (folder / "pictures/evaluate/confusion.png").read_bytes() == b"second"


def test_what_was_cut_short_is_completed(result, monkeypatch):
    run_id = train(result)
    client = client_of(result)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(client), "log_artifact", killed)
        with pytest.raises(KeyboardInterrupt):
            record_result(result, {})
    record_result(result, {})
    counts, _ = logged(result, run_id)
    assert set(counts.values()) == {1}


def test_a_model_out_of_a_cache_gets_a_run_with_all_that_is_known(result):
    run_id = record_result(result, {"convoy.version": "digits 1"})
    run = client_of(result).get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == flat_params(result.params, result.params.finetune)
    tags = run.data.tags
    assert tags["convoy.restored"] == "true"
    assert tags["convoy.stage"] == "finetune"
    assert tags["convoy.weights"] == weights_digest(result.bundle)
    assert tags["convoy.version"] == "digits 1"
    assert run.data.metrics["test/macro_f1"] == 0.9
    losses = client_of(result).get_metric_history(run_id, "val_loss")
    assert [(metric.step, metric.value) for metric in losses] == [(1, 0.9), (2, 0.6)]
    contexts = [
        (item.dataset.name, item.tags[0].value, json.loads(item.dataset.profile)["images"])
        for item in run.inputs.dataset_inputs
    ]
    # MLflow keeps a data set once, by its name and digest.
    assert sorted(contexts) == [
        ("digits training", "training", 9),
        ("digits validation", "validation", 9),
    ]
    assert not list(journal_folder(result.params.resources.storage).glob("*.jsonl"))
    best = {name: run.data.metrics[f"best_{name}"] for name in ("epoch", "val_loss")}
    assert best == {"epoch": 2, "val_loss": 0.6}
    found = find_bundle(run_id, result.params.tracking)
    assert bundle_digest(found) == bundle_digest(result.bundle)
    # Found from now on.
    assert record_result(result, {}) == run_id
    assert len(runs_of(result)) == 1


KILLED = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from pipeline.params import Tracking
from pipeline.runtime.tracking.run_logger import RunLogger
from pipeline.runtime.tracking.run_metadata import RunMetadata
uri = "http://127.0.0.1:9"
tracking = Tracking(uri=uri, experiment={name!r}, system_metrics=False, checkpoints="best")
metadata = RunMetadata("trained", {{}}, {{"convoy.stage": "finetune"}}, {{}})
run_logger = RunLogger(tracking, metadata, Path({journals!r}), Path("none"))
run_logger.log({{"val_loss": 0.5}}, 1)
run_logger.tag("convoy.weights", {weights!r})
run_logger.tag("before", "delivered late")
"""


def test_a_run_that_is_still_to_be_delivered_is_waited_for(result, monkeypatch):
    """Its store was away while it trained, and answers now: nothing is restored."""
    journals = journal_folder(result.params.resources.storage)
    code = KILLED.format(
        root=str(ROOT),
        name=result.params.tracking.experiment,
        journals=str(journals),
        weights=weights_digest(result.bundle),
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    (journal,) = journals.glob("*.jsonl")
    # The store moved here meanwhile.
    address = json.dumps(result.params.tracking.uri)
    journal.write_text(journal.read_text().replace('"http://127.0.0.1:9"', address))
    run_id = record_result(result, {})
    tags = client_of(result).get_run(run_id).data.tags
    assert tags["before"] == "delivered late"
    assert "convoy.restored" not in tags
