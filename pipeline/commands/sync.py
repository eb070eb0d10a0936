"""`convoy sync`: delivers to the tracking store what trainings could not."""

from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.params import Params
from pipeline.runtime.tracking.journal import held, left_behind, spool_folder
from pipeline.runtime.tracking.replay import Delivery, StoreAwayError
from pipeline.runtime.tracking.store import (
    check_address,
    lasting_address,
    shown,
    store_file,
    tracking_uri,
)
from pipeline.runtime.tracking.uploader import say, told


def run(params: Params) -> None:
    """Deliver what is left for the store of params.yaml, and print what became of it.

    Raises:
        PipelineError: the store does not take it now.
    """
    uri = tracking_uri(params.tracking)
    check_address(uri)
    spools = spool_folder(params.resources.storage)
    store = lasting_address(uri)
    here, elsewhere = _waiting(spools, store)
    for other, records in elsewhere.items():
        print(f"{records} records wait for another store: MLFLOW_TRACKING_URI={other} convoy sync")
    for name in held(spools):
        print(f"{name} belongs to a training that runs, and delivers by itself")
    if not here:
        print(f"nothing is left to deliver to {shown(uri)}")
        return
    try:
        for settled in Delivery(params.tracking, say).settle_left(spools):
            print(told(settled))
    except StoreAwayError as error:
        left, _ = _waiting(spools, store)
        advice = "" if store_file(uri) else "; start the server"
        raise PipelineError(
            f"the MLflow store at {shown(uri)} does not take what is left, {left} records in"
            f" {spools}: {error}{advice} and run convoy sync again"
        ) from error


def _waiting(spools: Path, store: str) -> tuple[int, dict[str, int]]:
    """Count the records that processes which are gone left for the store, and for others."""
    found: dict[str, int] = {}
    for spool in left_behind(spools):
        unended = int(spool.status is None)  # whose process was killed
        found[spool.store] = found.get(spool.store, 0) + spool.waiting + unended
    here = found.pop(store, 0)
    return here, {name: number for name, number in found.items() if name and number}
