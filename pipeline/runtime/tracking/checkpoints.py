"""Checkpoints of a run: bundles that wait beside its journal, and MLflow's logged models.

With `tracking.checkpoints: best`, a better one replaces the one that waits. It is uploaded when the
run has ended, by a later process if this one was killed. With `improved`, each is uploaded as it
comes.
"""

import hashlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pipeline.files import fresh_folder
from pipeline.runtime.tracking.journal import Entry, Journal
from pipeline.runtime.tracking.store import WEIGHTS_TAG, kept_environment
from pipeline.vision.bundle.description import Description, write_description
from pipeline.vision.bundle.digest import WEIGHTS_FILE

EPOCH_TAG = "convoy.epoch"
_TYPE = "convoy.bundle"
_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"  # set in `store.prepare_environment`


def keep_copy(journal: Journal, weights: Path, description: Description) -> str:
    """Keep a bundle beside the journal and return the digest of its weights.

    Weights are linked where the file system allows it, so that a copy takes up no space.

    Raises:
        OSError: the weights are gone, or the copy cannot be written.
    """
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with fresh_folder(journal.copies / digest) as new:
        try:
            os.link(weights, new / WEIGHTS_FILE)
        except OSError:  # another file system, or just deleted
            shutil.copyfile(weights, new / WEIGHTS_FILE)
        write_description(new, description, digest)
    return digest


def wanted(journal: Journal) -> list[Entry]:
    """Return the entries of the checkpoints that the store should have in the end."""
    written = [entry for entry in journal.entries if entry["act"] == "checkpoint"]
    return written if written and written[-1]["keep"] == "improved" else written[-1:]


def upload(
    client: Any, run_id: str | None, entry: Entry, bundle: Path, wanted: Collection[Entry]
) -> None:
    """Make a checkpoint's logged model, or complete one that an earlier request made.

    It becomes READY last: one that is READY has everything. Then others that are not wanted are
    deleted, and second ones, which a late request made.

    Args:
        client: a `MlflowClient`.
        run_id: of its run.
        entry: of the journal.
        bundle: the copy that `keep_copy` made.
        wanted: see `wanted`.
    """
    run, digest = client.get_run(run_id), entry["weights"]
    known = [model for model in logged_models(client, run) if model.tags[WEIGHTS_TAG] == digest]
    if not known:
        tags = {WEIGHTS_TAG: digest, EPOCH_TAG: str(entry["step"])}
        where, name = run.info.experiment_id, f"epoch-{entry['step']}"
        known = [client.create_logged_model(where, name, run_id, tags, model_type=_TYPE)]
    if not is_ready(known[0]):
        _complete(client, run, known[0].model_id, entry, bundle)
    left = {other["weights"] for other in wanted}
    for model in logged_models(client, run):
        if model.tags[WEIGHTS_TAG] not in left:
            client.delete_logged_model(model.model_id)
        left.discard(model.tags[WEIGHTS_TAG])


def _complete(client: Any, run: Any, model_id: str, entry: Entry, bundle: Path) -> None:
    from mlflow.entities import LoggedModelOutput, Metric

    run_id, step = run.info.run_id, entry["step"]
    with kept_environment(_TIMEOUT):  # a server answers when it has stored a file: 1 s per MiB
        size = (bundle / WEIGHTS_FILE).stat().st_size
        os.environ[_TIMEOUT] = str(int(os.environ[_TIMEOUT]) + size // 2**20)
        client.log_model_artifacts(model_id, str(bundle))
    # Value and time are those of the run's own metric, which MLflow then keeps once.
    metrics = [
        Metric(name, value, time_ms, step, model_id=model_id)
        for name, (value, time_ms) in entry["values"].items()
    ]
    client.log_batch(run_id, metrics=metrics, synchronous=True)
    if model_id not in {output.model_id for output in run.outputs.model_outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step)])
    client.finalize_logged_model(model_id, "READY")


def logged_models(client: Any, run: Any) -> list[Any]:
    """Return a run's checkpoints at the store: those that are READY first, then by age."""
    where, query = [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"
    page = client.search_logged_models(where, query)
    found = list(page)
    while page.token:
        page = client.search_logged_models(where, query, page_token=page.token)
        found += page
    ours = [model for model in found if model.model_type == _TYPE]
    return sorted(ours, key=lambda m: (not is_ready(m), m.creation_timestamp, m.model_id))


def is_ready(model: Any) -> bool:
    """Whether a logged model has everything."""
    return str(model.status) == "READY"
