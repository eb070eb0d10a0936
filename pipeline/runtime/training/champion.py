"""The champion, as what a training may start from."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pipeline.errors import PipelineError
from pipeline.params import Params
from pipeline.runtime.storage.job_context import current_job
from pipeline.runtime.tracking.run_metadata import flat_params
from pipeline.vision.bundle.description import read_description

_CACHE = Path(".convoy/champions")  # one folder per bundle


@dataclass(frozen=True)
class Champion:
    """The registered version that holds the alias.

    Attributes:
        weights: folder of its bundle, in that of params.yaml.
        digest: of the bundle: sha256, hex.
        name: of the registered model.
        version: its number, as text.
        split: how its images were split: the params of its run, by name, as the run has them.
    """

    weights: Path
    digest: str
    name: str
    version: str
    split: dict[str, str]

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"

    @classmethod
    def of(cls, sent: Mapping[str, Any]) -> Self:
        """Read what a job got of its sender."""
        return cls(**{**sent, "weights": Path(sent["weights"])})

    def values(self) -> dict[str, Any]:
        """Return what a job gets: JSON values."""
        return asdict(self) | {"weights": str(self.weights)}


def find_champion(params: Params) -> Champion | None:
    """Return the champion of today, None if there is none.

    In a job it is the one that its sender found: not every cluster reaches the store.

    Args:
        params: the registered model, its alias and the store.

    Raises:
        PipelineError: the store does not answer, or does not hold the champion's bundle.
    """
    if job := current_job():
        sent = job.weights.get("start")
        return Champion.of(sent) if sent else None
    from pipeline.runtime.registry import aliases
    from pipeline.runtime.registry.lookup import lookup_holder
    from pipeline.runtime.registry.versions import cached_bundle
    from pipeline.runtime.tracking.store import explained, open_client, tracking_uri

    name, alias, tracking = params.register_.name, params.register_.alias, params.tracking
    uri = tracking_uri(tracking)
    with suppress(LookupError):  # MLflow is more patient, and says what is wrong
        if lookup_holder(uri, name, alias) is None:
            return None
    found = aliases.find_champion(tracking, name, alias)
    if found is None:
        return None
    if found.bundle is None:
        raise PipelineError(
            f"{name} version {found.version}, the {alias}, was not registered by Convoy; point the"
            " alias at a version that was, or set start.mode to cold"
        )
    bundle = cached_bundle(tracking, name, found.version, found.bundle, _CACHE)
    client = open_client(tracking)
    with explained(uri):
        run_id = client.get_model_version(name, found.version).run_id
        recorded = client.get_run(run_id).data.params
    split = {key: value for key, value in recorded.items() if key in _split(params)}
    return Champion(bundle, found.bundle, name, found.version, split)


def misfit(champion: Champion, params: Params, shape: tuple[int, int, int]) -> str | None:
    """Say why a training cannot start from the champion, None if it can.

    With another split, it may have been trained on images that are for validation and test today:
    both would flatter it. Other classes are no reason: the head is then new.

    Args:
        champion: of today.
        params: of the training.
        shape: of the packed images: height, width, channels.
    """
    described = read_description(champion.weights)
    channels, height, width = described.shape
    model, split = params.section("model"), _split(params)
    for what, found, expected in (
        ("model.name", described.network, model["name"]),
        ("model.args", described.args, model["args"]),
        ("images of height, width and channels", [height, width, channels], list(shape)),
        *((key, champion.split.get(key, "not recorded"), split[key]) for key in sorted(split)),
    ):
        if found != expected:
            return f"{champion} was trained with {what} {found}, and today it is {expected}"
    return None


def _split(params: Params) -> dict[str, str]:
    """Return the params that decide which images train, named and written as a run has them."""
    whole = flat_params(params, params.train)
    return {key: value for key, value in whole.items() if key.startswith("split.")}
