"""Aliases of a registered model: who is champion, who was, and how to go back.

MLflow sets one alias at a time, without compare-and-set. So changes take turns by a lock, which
guards the processes of one user on one machine (of all users, where the store is a file); against
others on a shared server, each change reads again what it found and what it left. Every step
leaves each alias at a whole version: what is pointed at was registered before, and the alias that
people use moves in one step.
"""

from dataclasses import dataclass
from typing import Any

from pipeline.errors import PipelineError
from pipeline.params import Tracking
from pipeline.runtime.tracking.store import (
    BUNDLE_TAG,
    connect,
    explained,
    one_at_a_time,
    open_client,
    shown,
    tracking_uri,
)

PREVIOUS = "previous"
CHALLENGER = "challenger"
ROLLED_BACK_TAG = "convoy.rolled_back"
# Of a version that was promoted: the version that was the best champion by then, perhaps itself.
BEST_TAG = "convoy.best"


class ChampionChangedError(Exception):
    """The champion is not the one that the candidate was judged against."""


@dataclass(frozen=True)
class Champion:
    """The version that holds the alias, or once did.

    Attributes:
        version: its number, as text.
        bundle: digest of its bundle; None for a version that Convoy did not register.
        best: the version that was the best champion when this one was promoted, perhaps itself;
            None where Convoy did not promote it.
    """

    version: str
    bundle: str | None
    best: str | None = None


def find_champion(tracking: Tracking, name: str, alias: str) -> Champion | None:
    """Return who holds `alias` of the model `name`, None if nobody does."""
    client = open_client(tracking)
    with explained(tracking_uri(tracking)):
        version = _aliases(client, name).get(alias)
        if version is None:
            return None
        found = client.get_model_version(name, version)
    return Champion(version, found.tags.get(BUNDLE_TAG), found.tags.get(BEST_TAG))


def find_best(tracking: Tracking, name: str, champion: Champion) -> Champion | None:
    """Return the best champion of the model `name` so far.

    The tag stands at the champion's version, so that a rollback brings back the one that counted
    then.

    Returns:
        None where it is the champion itself. Also where that version was deleted or rolled back:
        a person has decided against it.
    """
    if champion.best in (None, champion.version):
        return None
    client = open_client(tracking)
    with explained(tracking_uri(tracking)):
        known = client.search_model_versions(f"name = '{name}'")
    found = next((one for one in known if str(one.version) == champion.best), None)
    if found is None or ROLLED_BACK_TAG in found.tags:
        return None
    return Champion(str(found.version), found.tags.get(BUNDLE_TAG), found.tags.get(BEST_TAG))


def promote(
    tracking: Tracking,
    name: str,
    version: str,
    alias: str,
    instead_of: str | None,
    *,
    best: str | None = None,
) -> list[str]:
    """Point `alias` at the version, and `previous` at the one that had it.

    Args:
        tracking: the store.
        name: of the registered model.
        version: that is promoted; whole.
        alias: such as 'champion'.
        instead_of: the version that `alias` points at, as far as the caller knows; None for no
            version.
        best: the version that is the best champion from now on; None for this one.

    Returns:
        All aliases of the version.

    Raises:
        ChampionChangedError: `alias` points elsewhere by now; nothing was moved, or another
            machine moved it last.
    """
    client = connect(tracking)
    with explained(tracking_uri(tracking)), one_at_a_time(tracking):
        aliases = _aliases(client, name)
        if aliases.get(alias) not in (instead_of, version):
            raise ChampionChangedError
        # This order: killed in between, there is still a champion, and the next call completes
        # what this one began.
        client.set_model_version_tag(name, version, BEST_TAG, best or version)
        if instead_of is not None and instead_of != version:
            client.set_registered_model_alias(name, PREVIOUS, instead_of)
        client.set_registered_model_alias(name, alias, version)
        if aliases.get(CHALLENGER) == version:
            client.delete_registered_model_alias(name, CHALLENGER)
        aliases = _aliases(client, name)
    if aliases.get(alias) != version:
        raise ChampionChangedError
    return _of(aliases, version)


def challenge(tracking: Tracking, name: str, version: str) -> list[str]:
    """Point `challenger` at the version, and return all its aliases."""
    client = connect(tracking)
    with explained(tracking_uri(tracking)), one_at_a_time(tracking):
        client.set_registered_model_alias(name, CHALLENGER, version)
        return _of(_aliases(client, name), version)


def aliases_of(tracking: Tracking, name: str, version: str) -> list[str]:
    """Return the aliases of a version."""
    client = connect(tracking)
    with explained(tracking_uri(tracking)):
        return _of(_aliases(client, name), version)


def roll_back(tracking: Tracking, name: str, alias: str) -> tuple[str, str]:
    """Make `previous` the champion again, and the champion `previous`.

    The version that steps down is tagged, so that it is not promoted again by itself; the one
    that returns loses such a tag.

    Returns:
        The version that holds `alias` now, and the one that held it.

    Raises:
        PipelineError: there is no champion, or nothing to go back to.
    """
    client = connect(tracking)
    where = f"in the registry at {shown(tracking_uri(tracking))}"
    with explained(tracking_uri(tracking)), one_at_a_time(tracking):
        aliases = _aliases(client, name)
        champion, previous = aliases.get(alias), aliases.get(PREVIOUS)
        if champion is None:
            held = ", ".join(f"{one} is version {number}" for one, number in aliases.items())
            raise PipelineError(
                f"no version of {name} is {alias} {where} ({held or 'it has no aliases'}); set the"
                " alias in MLflow, or change register.name or register.alias in params.yaml"
            )
        if previous is None or previous == champion:
            raise PipelineError(
                f"no version of {name} is {PREVIOUS} {where}, other than the {alias}, version"
                f" {champion}: there is nothing to roll back to"
            )
        # Tagged first: killed in between, what was to step down is not promoted again. Then the
        # alias that people use; `previous` keeps the way back until that is done.
        client.set_model_version_tag(name, champion, ROLLED_BACK_TAG, "true")
        client.set_registered_model_alias(name, alias, previous)
        client.set_registered_model_alias(name, PREVIOUS, champion)
        if ROLLED_BACK_TAG in client.get_model_version(name, previous).tags:
            client.delete_model_version_tag(name, previous, ROLLED_BACK_TAG)
        holder = _aliases(client, name).get(alias)
    if holder != previous:
        raise PipelineError(
            f"another process made version {holder} of {name} the {alias} at the same time {where};"
            " look at the registry and, if need be, run convoy rollback again"
        )
    return previous, champion


def _aliases(client: Any, name: str) -> dict[str, str]:
    """Return the version that each alias of a model points at; nothing for an unknown model."""
    found = client.search_registered_models(f"name = '{name}'")
    return {alias: str(version) for model in found for alias, version in model.aliases.items()}


def _of(aliases: dict[str, str], version: str) -> list[str]:
    return sorted(alias for alias, held in aliases.items() if held == version)
