"""What becomes known of a trained model later, on the run that trained it.

Evaluation, test-time augmentation and registration happen in other processes than the training,
perhaps on another day, or come out of DVC's cache. They find the run by the digest of the weights.
"""

import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from pipeline.data.shards.statistics import images_digest
from pipeline.errors import PipelineError
from pipeline.files import read_json
from pipeline.params import Tracking
from pipeline.runtime.tracking.journal import spool_folder
from pipeline.runtime.tracking.provenance import provenance
from pipeline.runtime.tracking.replay import Delivery, StoreAwayError
from pipeline.runtime.tracking.run_logger import start_run
from pipeline.runtime.tracking.run_metadata import WEIGHTS_TAG, best_metrics, gather_facts
from pipeline.runtime.tracking.store import (
    STAGE_TAG,
    explained,
    one_at_a_time,
    open_client,
    shown,
    tracking_uri,
)
from pipeline.runtime.tracking.trained import Result
from pipeline.runtime.tracking.uploader import say, told
from pipeline.vision.bundle.digest import weights_digest

RESULTS_TAG = "convoy.results"
RESTORED_TAG = "convoy.restored"

_NO_METRICS = ("epoch", "kept")  # of the records in a history


def record_result(result: Result, tags: Mapping[str, str]) -> str:
    """Put metrics, files and tags onto the run that trained the model, unless they are there.

    Figures that have changed are logged anew; the run shows the latest.

    Args:
        result: the model.
        tags: that may change while the figures stay.

    Returns:
        The id of the run. Where the run is not in this store (the result came out of DVC's cache,
        say), one is made from what is known.

    Raises:
        PipelineError: no MLflow store answers.
    """
    tracking = result.params.tracking
    client = open_client(tracking)
    with explained(tracking_uri(tracking)):
        with one_at_a_time(tracking):  # two processes with the same result make one run
            run_id = _find_run(client, result) or _find_late_run(client, result)
            run_id = run_id or _restore_run(client, result)
        run = client.get_run(run_id)
        new = {name: text for name, text in tags.items() if run.data.tags.get(name) != text}
        digest = result.digest
        if run.data.tags.get(RESULTS_TAG) != digest:
            _log_metrics(client, run, result.metrics)
            for name, path in result.files.items():
                client.log_artifact(run_id, str(path), str(Path(name).parent))
            new[RESULTS_TAG] = digest  # the last, so that what is cut short comes again
        for name, text in new.items():
            client.set_tag(run_id, name, text)
    return run_id


def _find_run(client: Any, result: Result) -> str | None:
    """Find the newest run that trained these weights."""
    tracking = result.params.tracking
    experiment = client.get_experiment_by_name(tracking.experiment)
    digest = weights_digest(result.bundle)
    runs = client.search_runs(
        [experiment.experiment_id],
        f"tags.`{WEIGHTS_TAG}` = '{digest}' and tags.`{STAGE_TAG}` = '{result.trained.stage}'",
        max_results=1,
    )
    return str(runs[0].info.run_id) if runs else None


def _find_late_run(client: Any, result: Result) -> str | None:
    """Deliver what trainings could not, which may be the very run, and look again."""
    spools = spool_folder(result.params.resources.storage)
    with suppress(StoreAwayError):  # it answers, but takes one of them not now
        for settled in Delivery(result.params.tracking, say).settle_left(spools):
            say(told(settled), "tracking")
    return _find_run(client, result)


def _restore_run(client: Any, result: Result) -> str:
    """Make a run of a training that this store knows nothing of."""
    params, trained = result.params, result.trained
    facts = gather_facts(params, trained, images_digest(trained.images))
    recorder = start_run(
        params.tracking,
        name=facts.name,
        params=facts.params,
        tags=facts.tags | provenance(trained.inputs) | {RESTORED_TAG: "true"},
        datasets=facts.datasets,
        spools=spool_folder(params.resources.storage),
        folder=Path(params.resources.storage) / "restored",  # none: nobody will go on with it
    )
    with closing(recorder):
        for record in read_json(result.history):
            metrics = {name: value for name, value in record.items() if name not in _NO_METRICS}
            recorder.log(metrics, record["epoch"])
            if record["kept"]:
                recorder.log(best_metrics(record), 0)
        recorder.end("FINISHED", {WEIGHTS_TAG: weights_digest(result.bundle)})
    found = _find_run(client, result)
    if found is None:
        raise _not_taken(params.tracking)
    return found


def _log_metrics(client: Any, run: Any, metrics: Mapping[str, float]) -> None:
    """Log those whose value is new, at step 0: what is logged with a model there is the model's."""
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    known = run.data.metrics
    changed = [
        Metric(name, float(value), now_ms, 0)
        for name, value in metrics.items()
        if known.get(name) != value
    ]
    client.log_batch(run.info.run_id, metrics=changed)


def _not_taken(tracking: Tracking) -> PipelineError:
    return PipelineError(
        f"the MLflow store at {shown(tracking_uri(tracking))} does not take a run just now; run"
        " convoy sync, then convoy register again"
    )
