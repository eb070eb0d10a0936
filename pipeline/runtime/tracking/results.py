"""What becomes known of a trained model later, on the run that trained it.

Evaluation and registration happen in other processes than the training, perhaps on another day, or
come out of DVC's cache. They find the run by the digest of the weights.
"""

import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from pipeline.data.shards.statistics import images_digest
from pipeline.errors import PipelineError
from pipeline.files import read_json
from pipeline.runtime.tracking import store
from pipeline.runtime.tracking.journal import journal_folder
from pipeline.runtime.tracking.replay import Replay, StoreAwayError
from pipeline.runtime.tracking.run_logger import RunLogger
from pipeline.runtime.tracking.run_metadata import (
    best_metrics,
    epoch_metrics,
    gather_metadata,
    val_metrics,
)
from pipeline.runtime.tracking.trained import Result
from pipeline.runtime.tracking.uploader import say
from pipeline.vision.bundle.description import read_description
from pipeline.vision.bundle.digest import WEIGHTS_FILE, weights_digest

RESULTS_TAG = "convoy.results"
RESTORED_TAG = "convoy.restored"

_NO_METRICS = ("kept", "precision", "memory_format")  # of the records in a history


def record_result(result: Result, tags: Mapping[str, str]) -> str:
    """Put metrics, files and tags onto the run that trained the model, unless they are there.

    Figures that have changed are logged again; the run shows the latest.

    Args:
        result: the model.
        tags: that may change while the figures stay.

    Returns:
        The id of the run. Where the run is not in this store (the result came out of DVC's cache,
        say), one is made from what is known.

    Raises:
        PipelineError: no MLflow store answers.
    """
    from mlflow.entities import Metric

    client = store.open_client(result.params.tracking)
    with store.explained(store.tracking_uri(result.params.tracking)):
        # Two processes with one result make one run.
        with store.one_at_a_time(result.params.tracking):
            run_id = _find_run(client, result) or _find_late_run(client, result)
            run_id = run_id or _restore_run(client, result)
        known, digest = client.get_run(run_id).data, result.digest
        new = {name: text for name, text in tags.items() if known.tags.get(name) != text}
        if known.tags.get(RESULTS_TAG) != digest:
            now_ms = int(time.time() * 1000)
            # At step 0: what is logged with a model there is the model's.
            changed = [
                Metric(name, float(value), now_ms, 0)
                for name, value in result.metrics.items()
                if known.metrics.get(name) != value
            ]
            client.log_batch(run_id, metrics=changed)
            for name, path in result.files.items():
                client.log_artifact(run_id, str(path), str(Path(name).parent))
            new[RESULTS_TAG] = digest  # the last, so that what is cut short comes again
        for name, text in new.items():
            client.set_tag(run_id, name, text)
    return run_id


def _find_run(client: Any, result: Result) -> str | None:
    """Find the newest run that trained these weights."""
    experiment = client.get_experiment_by_name(result.params.tracking.experiment)
    query = f"tags.`{store.WEIGHTS_TAG}` = '{weights_digest(result.bundle)}'"
    query += f" and tags.`{store.STAGE_TAG}` = '{result.trained.stage}'"
    runs = client.search_runs([experiment.experiment_id], query, max_results=1)
    return str(runs[0].info.run_id) if runs else None


def _find_late_run(client: Any, result: Result) -> str | None:
    """Deliver what trainings could not, which may be the very run, and look again."""
    journals = journal_folder(result.params.resources.runs)
    with suppress(StoreAwayError):  # it answers, but does not take one of them now
        for line in Replay(result.params.tracking, say).settle_left(journals):
            say(line, "tracking")
    return _find_run(client, result)


def _restore_run(client: Any, result: Result) -> str:
    """Make a run of a training that this store does not have."""
    params, trained = result.params, result.trained
    metadata = gather_metadata(params, trained, images_digest(trained.images))
    metadata.tags[RESTORED_TAG] = "true"
    nowhere = Path(params.resources.runs) / "restored"  # nobody will go on with it
    logger = RunLogger(params.tracking, metadata, journal_folder(params.resources.runs), nowhere)
    with closing(logger):
        for record in read_json(result.history):
            metrics = {k: v for k, v in record.items() if k not in _NO_METRICS}
            logger.log(epoch_metrics(metrics), record["epoch"])
            if record["kept"]:
                logger.log(best_metrics(record), 0)
                weights = result.bundle / WEIGHTS_FILE
                logger.checkpoint(
                    weights, read_description(result.bundle), record["epoch"], val_metrics(record)
                )
        logger.end("FINISHED", {store.WEIGHTS_TAG: weights_digest(result.bundle)})
    found = _find_run(client, result)
    if found is None:
        where = store.shown(store.tracking_uri(params.tracking))
        raise PipelineError(
            f"the MLflow store at {where} does not take a run now; run convoy sync, then convoy"
            " register again"
        )
    return found
