"""A run that is recorded while something happens, and what must be in the store afterwards."""

import shutil
import time
from pathlib import Path

from pipeline.runtime.tracking.run_logger import RunLogger
from pipeline.runtime.tracking.run_metadata import RunMetadata
from pipeline.runtime.tracking.store import open_client

EPOCHS = 30
NAMES = ("train_loss", "val_loss", "train/images_per_s")


def begin(tracking, name="train"):
    folder = Path("runs", f"{name}-abc").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    params = {f"p{number}": str(number) for number in range(120)}
    data = {"name": "packed", "digest": "12ab", "source_type": "local", "source": "data/packed"}
    metadata = RunMetadata(
        name, params, {"convoy.stage": name}, {"training": data | {"profile": "{}"}}
    )
    run_logger = RunLogger(tracking, metadata, Path(".convoy/journal"), folder)
    run_logger.open()
    return run_logger


def train(run_logger, epochs=range(1, EPOCHS + 1), pause_s=0.1, meanwhile=()):
    """Record epochs, and before some of them let something happen."""
    meanwhile = dict(meanwhile)
    longest_s = 0.0
    for epoch in epochs:
        meanwhile.get(epoch, lambda: None)()
        start_s = time.perf_counter()
        run_logger.log({name: epoch + index / 10 for index, name in enumerate(NAMES)}, epoch)
        run_logger.tag("convoy.epoch", str(epoch))
        longest_s = max(longest_s, time.perf_counter() - start_s)
        time.sleep(pause_s)
    assert longest_s < 1.5  # nobody waited for the store, which may take 2 s for an answer


def finish(run_logger, status="FINISHED"):
    start_s = time.monotonic()
    run_logger.end(status, {"convoy.bundle": "digest"})
    seconds = time.monotonic() - start_s
    shutil.rmtree("runs", ignore_errors=True)
    run_logger.close()
    return seconds


def runs_of(client, tracking):
    """Return all runs of the experiment."""
    experiment = client.get_experiment_by_name(tracking.experiment)
    return client.search_runs([experiment.experiment_id])


def the_run(tracking, status="FINISHED", epochs=EPOCHS):
    """Check that the store has one run with all of its records, each once, in order."""
    client = open_client(tracking)
    (run,) = runs_of(client, tracking)
    assert run.info.status == status
    assert (run.info.end_time is not None) == (status != "RUNNING")
    assert run.data.params == {f"p{number}": str(number) for number in range(120)}
    assert run.data.tags["convoy.epoch"] == str(epochs)
    assert len(run.inputs.dataset_inputs) == 1
    for index, name in enumerate(NAMES):
        found = client.get_metric_history(run.info.run_id, name)
        found.sort(key=lambda metric: metric.timestamp)
        expected = [(epoch, epoch + index / 10) for epoch in range(1, epochs + 1)]
        assert [(metric.step, metric.value) for metric in found] == expected
    assert run.data.tags["convoy.records"] == f"{len(NAMES) * epochs} of {len(NAMES) * epochs}"
    return run


def at(tracking, address):
    return tracking.model_copy(update={"uri": address})


def nothing_is_left():
    assert list(Path(".convoy/journal").iterdir()) == []
