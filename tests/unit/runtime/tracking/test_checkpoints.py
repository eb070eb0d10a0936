"""Checkpoints of runs: copies beside the journal, and logged models in a real SQLite store."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.data.packing.preprocess import Preprocessing
from pipeline.errors import PipelineError
from pipeline.params import load_params
from pipeline.runtime.registry.versions import find_bundle
from pipeline.runtime.tracking import checkpoints
from pipeline.runtime.tracking.journal import Journal, unsettled
from pipeline.runtime.tracking.replay import Replay, StoreAwayError
from pipeline.runtime.tracking.run_logger import RunLogger
from pipeline.runtime.tracking.run_metadata import RunMetadata
from pipeline.runtime.tracking.store import open_client
from pipeline.runtime.training.initial_weights import find_initial_weights
from pipeline.vision.bundle.description import Description, read_description
from pipeline.vision.bundle.digest import bundle_digest, weights_digest
from tests.contract.imports import ROOT

PREPROCESSING = Preprocessing(28, 28, 1, "stretch", 0, 8)
DESCRIPTION = Description("lenet5", {}, ("cat", "dog"), PREPROCESSING, (0.3,), (0.3,))


@pytest.fixture(params=["best", "improved"])
def tracking(store, tmp_path, request):
    return store.model_copy(update={"experiment": tmp_path.name, "checkpoints": request.param})


@pytest.fixture
def begin(tracking, tmp_path):
    """Return a function that opens the run of the one training of a test."""
    loggers = []

    def begin(tracking=tracking, name="train-abc"):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        metadata = RunMetadata("train", {}, {"convoy.stage": "train"}, {})
        loggers.append(RunLogger(tracking, metadata, tmp_path / "journal", folder))
        loggers[-1].open()
        return loggers[-1]

    yield begin
    for logger in loggers:
        logger.close()


def weights_of(epoch):
    """Return a file of weights that are those of an epoch, in a checkpoint of a training."""
    file = Path(f"checkpoints/{epoch}/best.safetensors")
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({"w": torch.full((4,), float(epoch))}, file)
    return file


def improve(logger, epoch, val_loss):
    """Train an epoch that is the best so far."""
    logger.log({"val_loss": val_loss, "train_loss": 9.0}, epoch)
    description = replace(DESCRIPTION, validation={"loss": val_loss})
    file = weights_of(epoch)
    logger.checkpoint(file, description, epoch, {"val_loss": val_loss})
    file.unlink()  # the training goes on and replaces it


def models_of(tracking):
    """Return what the store has of all checkpoints: epoch, metrics, READY; and the outputs."""
    client = open_client(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment).experiment_id
    (run,) = client.search_runs([experiment])
    found = client.search_logged_models([experiment])
    outputs = {output.model_id: output.step for output in run.outputs.model_outputs}
    for model in found:
        assert model.source_run_id == run.info.run_id
        assert outputs[model.model_id] == int(model.tags["convoy.epoch"])
        assert str(model.status) == "READY"
    assert len(client.get_metric_history(run.info.run_id, "val_loss")) == int(
        run.data.tags["convoy.records"].split()[0]
    ) - len(client.get_metric_history(run.info.run_id, "train_loss"))
    return run, {
        int(model.tags["convoy.epoch"]): [(m.key, m.step, m.value) for m in model.metrics]
        for model in found
    }


def expected(tracking, *epochs):
    """Return the models of these improvements, given as epoch and loss, that should be there."""
    kept = epochs if tracking.checkpoints == "improved" else epochs[-1:]
    return {epoch: [("val_loss", epoch, loss)] for epoch, loss in kept}


def test_a_run_has_its_checkpoints_as_models_with_step_and_validation_metrics(
    begin, tracking, tmp_path
):
    logger = begin()
    improve(logger, 1, 0.5)
    improve(logger, 3, 0.25)
    logger.log({"val_loss": 0.75, "train_loss": 9.0}, 4)
    logger.end("FINISHED")
    run, models = models_of(tracking)
    assert models == expected(tracking, (1, 0.5), (3, 0.25))
    assert run.data.tags["convoy.records"] == "6 of 6"
    bundle = find_bundle(run.info.run_id, tracking)
    assert weights_digest(bundle) == weights_digest_of(3)
    assert read_description(bundle) == replace(DESCRIPTION, validation={"loss": 0.25})
    logger.close()
    nothing_waits(tmp_path / "journal")


def nothing_waits(journals):
    assert list(unsettled(journals)) == []
    assert list(journals.glob("*.checkpoints")) == []


def weights_digest_of(epoch):
    file = weights_of(epoch)
    bundle = file.rename(file.parent / "model.safetensors").parent
    return weights_digest(bundle)


def test_a_training_starts_from_a_run_by_its_id(begin, tracking):
    logger = begin()
    improve(logger, 1, 0.5)
    improve(logger, 3, 0.25)
    logger.end("FAILED")
    run, _ = models_of(tracking)
    params = load_params(ROOT / "params.yaml").model_copy(update={"tracking": tracking})
    recipe = params.train.model_copy(update={"weights": run.info.run_id})
    start = find_initial_weights(params, recipe)
    assert weights_digest(start.weights) == weights_digest_of(3)
    assert start.origin == bundle_digest(find_bundle(run.info.run_id, tracking))
    assert start.normalization == ((0.3,), (0.3,))


def test_a_run_that_is_not_there(tracking):
    with pytest.raises(PipelineError, match=f"the run {'0' * 32} at sqlite:.* is not there"):
        find_bundle("0" * 32, tracking)


def test_the_ui_ranks_them_by_validation_metrics(begin, tracking):
    logger = begin()
    improve(logger, 1, 0.5)
    improve(logger, 3, 0.25)
    logger.end("FINISHED")
    client = open_client(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment).experiment_id
    order = [{"field_name": "metrics.val_loss", "ascending": True}]
    ranked = client.search_logged_models([experiment], "metrics.val_loss < 0.75", order_by=order)
    epochs = [int(model.tags["convoy.epoch"]) for model in ranked]
    assert epochs == ([3, 1] if tracking.checkpoints == "improved" else [3])


def test_a_training_that_goes_on_replaces_or_adds(begin, tracking):
    first = begin()
    improve(first, 1, 0.5)
    improve(first, 2, 0.4)
    first.end("KILLED")
    first.close()
    assert models_of(tracking)[1] == expected(tracking, (1, 0.5), (2, 0.4))
    again = begin()
    for epoch, loss in ((1, 0.5), (2, 0.4), (3, 0.3)):  # the worker's history comes again
        again.log({"val_loss": loss, "train_loss": 9.0}, epoch)
    improve(again, 2, 0.4)
    improve(again, 3, 0.3)
    again.end("FINISHED")
    run, models = models_of(tracking)
    assert models == expected(tracking, (1, 0.5), (2, 0.4), (3, 0.3))
    assert weights_digest(find_bundle(run.info.run_id, tracking)) == weights_digest_of(3)


def test_replayed_from_the_start_they_are_there_once(begin, tracking, tmp_path, monkeypatch):
    logger = begin()
    improve(logger, 1, 0.5)
    improve(logger, 2, 0.4)
    # What follows is a process that is killed before the end: the journal stays.
    logger._uploader.close()
    journal = Journal(next((tmp_path / "journal").glob("*.jsonl")))
    assert journal.acquire()
    journal.read()
    journal.append({"act": "end", "status": "KILLED", "time_ms": 1})
    places = ("create_logged_model", "log_model_artifacts", "log_batch", "log_outputs")
    client = type(open_client(tracking))
    for name in (*places, "finalize_logged_model", "delete_logged_model"):
        real = getattr(client, name)

        def lost(self, *args, real=real, **kwargs):
            real(self, *args, **kwargs)  # the store did it, and its answer was lost
            raise ConnectionError("lost")

        with monkeypatch.context() as patch:
            patch.setattr(client, name, lost)
            try:
                Replay(tracking, print).deliver(journal)
            except StoreAwayError as error:
                assert "lost" in str(error)  # noqa: PT017
        journal.delivered = 0
    Replay(tracking, print).deliver(journal)
    assert models_of(tracking)[1] == expected(tracking, (1, 0.5), (2, 0.4))
    assert not list(journal.copies.iterdir())
    journal.retire()


def test_second_models_of_requests_that_came_late_are_deleted(begin, tracking):
    logger = begin()
    improve(logger, 1, 0.5)
    client = type(open_client(tracking))
    make = client.create_logged_model

    def twice(self, *args, **kwargs):
        make(self, *args, **kwargs)
        return make(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "create_logged_model", twice)
        logger.end("FINISHED")
    assert models_of(tracking)[1] == expected(tracking, (1, 0.5))


def test_a_killed_run_gets_its_best_from_a_later_process(begin, tracking, tmp_path):
    logger = begin(tracking.model_copy(update={"uri": "http://127.0.0.1:9"}))
    improve(logger, 1, 0.5)
    improve(logger, 2, 0.4)
    logger.close()
    (file,) = (tmp_path / "journal").glob("*.jsonl")
    kept = {folder.name for folder in file.with_suffix(".checkpoints").iterdir()}
    assert len(kept) == (2 if tracking.checkpoints == "improved" else 1)
    file.write_text(file.read_text().replace("http://127.0.0.1:9", tracking.uri))
    (line,) = Replay(tracking, print).settle_left(file.parent)
    assert "which has 4 of 4 values" in line
    run, models = models_of(tracking)
    assert run.info.status == "KILLED"
    assert models == expected(tracking, (1, 0.5), (2, 0.4))
    nothing_waits(tmp_path / "journal")


def test_a_copy_takes_up_no_space(begin, tracking, tmp_path):
    logger, file = begin(tracking.model_copy(update={"uri": "http://127.0.0.1:9"})), weights_of(1)
    logger.checkpoint(file, DESCRIPTION, 1, {"val_loss": 0.5})
    (copy,) = (tmp_path / "journal").glob("*.checkpoints/*/model.safetensors")
    assert copy.samefile(file)


def test_equal_weights_are_uploaded_once(begin, tracking):
    logger = begin()
    improve(logger, 1, 0.5)
    file = weights_of(1)
    logger.checkpoint(file, DESCRIPTION, 2, {"val_loss": 0.5})
    logger.end("FINISHED")
    client = open_client(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment).experiment_id
    (model,) = client.search_logged_models([experiment])
    assert str(model.status) == "READY"


def test_files_that_cannot_be_stored_hold_up_no_figures(begin, tracking, monkeypatch, capsys):
    """The store answers, its artifacts do not: wrong rights to a bucket, say."""
    monkeypatch.setattr("pipeline.runtime.tracking.uploader._PATIENCE_S", 0.5)
    client = type(open_client(tracking))

    def refused(*_):
        raise PermissionError("no right to write artifacts")

    with monkeypatch.context() as patch:
        patch.setattr(client, "log_model_artifacts", refused)
        logger = begin()
        improve(logger, 1, 0.5)
        logger.log({"val_loss": 0.6, "train_loss": 9.0}, 2)
        logger.end("FAILED")
        logger.close()
    assert "no right to write artifacts" in capsys.readouterr().err
    experiment = open_client(tracking).get_experiment_by_name(tracking.experiment).experiment_id
    (run,) = open_client(tracking).search_runs([experiment])
    assert run.info.status == "FAILED"
    assert run.data.tags["convoy.records"] == "4 of 4"
    logger._uploader._thread.join(10)
    assert len(list(Replay(tracking, print).settle_left(logger._journals))) == 1
    assert models_of(tracking)[1] == expected(tracking, (1, 0.5))


def test_a_store_without_logged_models_costs_only_them(begin, tracking, monkeypatch, capsys):
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND

    def unknown(*_, **__):
        raise MlflowException("no such endpoint", error_code=ENDPOINT_NOT_FOUND)

    monkeypatch.setattr(type(open_client(tracking)), "create_logged_model", unknown)
    logger = begin()
    improve(logger, 1, 0.5)
    logger.end("FINISHED")
    assert "goes without checkpoints: no such endpoint" in capsys.readouterr().err
    run, models = models_of(tracking)
    assert (run.info.status, models) == ("FINISHED", {})


def test_none_are_kept_where_none_are_wanted(begin, store, tmp_path):
    tracking = store.model_copy(update={"experiment": tmp_path.name, "checkpoints": "off"})
    logger = begin(tracking)
    improve(logger, 1, 0.5)
    logger.end("FINISHED")
    run, models = models_of(tracking)
    assert models == {}
    with pytest.raises(PipelineError, match="holds neither a registered bundle nor a checkpoint"):
        find_bundle(run.info.run_id, tracking)


def test_weights_that_are_gone_already_are_passed_over(begin, tracking, tmp_path, capsys):
    logger = begin()
    logger.checkpoint(tmp_path / "none.safetensors", DESCRIPTION, 1, {"val_loss": 0.5})
    logger.end("FINISHED")
    assert models_of(tracking)[1] == {}
    assert "warning" not in capsys.readouterr().err


def test_what_the_store_should_have_is_the_last_one_or_all(tmp_path):
    journal = Journal(tmp_path / "a.jsonl")
    assert checkpoints.wanted(journal) == []
    one, two = ({"act": "checkpoint", "keep": "best", "step": step} for step in (1, 2))
    journal.entries = [one, {"act": "tags"}, two]
    assert checkpoints.wanted(journal) == [two]
    journal.entries[-1] = two | {"keep": "improved"}
    assert checkpoints.wanted(journal) == [one, two | {"keep": "improved"}]
