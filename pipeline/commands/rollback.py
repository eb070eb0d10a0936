"""`convoy rollback`: the champion before becomes the champion again."""

from pipeline.errors import PipelineError
from pipeline.params import Params
from pipeline.runtime.registry.aliases import PREVIOUS, roll_back
from pipeline.runtime.registry.lookup import StoreGoneError, lookup_aliases
from pipeline.runtime.tracking.store import shown, tracking_uri


def run(params: Params) -> None:
    """Swap the champion and the version before it, and say so.

    Raises:
        PipelineError: there is no such store, no champion, or nothing to go back to.
    """
    name, alias = params.register_.name, params.register_.alias
    uri = tracking_uri(params.tracking)
    try:
        lookup_aliases(uri, name)
    except StoreGoneError as error:
        raise PipelineError(
            f"there is no MLflow store at {shown(uri)} yet: nothing was ever registered; run dvc"
            " repro first, or change tracking.uri in params.yaml"
        ) from error
    except LookupError:
        pass  # MLflow itself finds out
    now, before = roll_back(params.tracking, name, alias)
    print(f"{name}: {alias} is version {now} again; version {before} is {PREVIOUS} now")
    print(
        f"version {before} is not promoted again by itself; convoy rollback once more swaps back,"
        " and the report of the next dvc repro says so"
    )
