"""A quick look at the registry, without MLflow: its import alone takes longer than the look."""

import json
import sqlite3
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPException
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.runtime.tracking.store import (
    BUNDLE_TAG,
    check_address,
    client_of,
    explained,
    store_file,
)

_TIMEOUT_S = 2.0
_ALIASES = "SELECT alias, version FROM registered_model_aliases WHERE name = ?"
# MLflow keeps a row, and the tags, of a version that was deleted.
_VERSIONS = """
    SELECT 1 FROM model_versions JOIN model_version_tags USING (name, version)
    WHERE name = ? AND version = ? AND key = ? AND value = ?
    AND current_stage != 'Deleted_Internal'
"""


class StoreGoneError(Exception):
    """The store that once was there is not there any more."""


class _NotThisWayError(Exception):
    """The store answers, but only MLflow can ask it: it wants a password, or is no server."""


def lookup_aliases(uri: str, name: str) -> dict[str, str]:
    """Return the version that each alias of a registered model points at.

    Args:
        uri: of the store. A SQLite file and a server are asked directly, others by MLflow.
        name: of the registered model; one that is not there has no aliases.

    Raises:
        StoreGoneError: the file of the store is gone.
        LookupError: the store does not answer, or not in time.
        PipelineError: the address is not one that MLflow takes.
    """
    if (file := store_file(uri)) is not None:
        return {alias: str(version) for alias, version in _rows(file, _ALIASES, name)}
    try:
        answer = _ask_server(uri, "registered-models/get", {"name": name})
    except _NotThisWayError:
        query = f"name = '{name}'"
        found = _ask_mlflow(uri, lambda client: client.search_registered_models(query))
        return {alias: str(version) for model in found for alias, version in model.aliases.items()}
    known = answer["registered_model"].get("aliases", []) if answer else []
    return {entry["alias"]: str(entry["version"]) for entry in known}


def lookup_holder(uri: str, name: str, alias: str) -> str | None:
    """Return the version that holds an alias; None where none does, or there is no store yet.

    Arguments and errors are those of `lookup_aliases`, but for a store that is gone.
    """
    try:
        return lookup_aliases(uri, name).get(alias)
    except StoreGoneError:
        return None  # a first training makes it


def has_version(uri: str, name: str, version: str, bundle: str) -> bool:
    """Whether a version of a registered model is there, and is the bundle of this digest.

    Arguments and errors are those of `lookup_aliases`.
    """
    if (file := store_file(uri)) is not None:
        return bool(_rows(file, _VERSIONS, name, int(version), BUNDLE_TAG, bundle))
    try:
        answer = _ask_server(uri, "model-versions/get", {"name": name, "version": version})
    except _NotThisWayError:
        query = f"name = '{name}' and tags.`{BUNDLE_TAG}` = '{bundle}'"
        found = _ask_mlflow(uri, lambda client: client.search_model_versions(query))
        return version in {str(one.version) for one in found}
    tags = answer["model_version"].get("tags", []) if answer else []
    return {"key": BUNDLE_TAG, "value": bundle} in tags


def _rows(file: Path, query: str, *values: str | int) -> list[Any]:
    if not file.exists():
        raise StoreGoneError(file)
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
            return database.execute(query, values).fetchall()
    except sqlite3.Error as error:
        raise LookupError(file) from error


def _ask_server(uri: str, what: str, query: dict[str, str]) -> dict[str, Any] | None:
    """Ask by MLflow's REST interface; return None where there is no such thing."""
    check_address(uri)
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme not in ("http", "https") or parts.username is not None:
        raise _NotThisWayError
    address = f"{uri.rstrip('/')}/api/2.0/mlflow/{what}?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - http only
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise _NotThisWayError from error
    except (OSError, ValueError, HTTPException) as error:
        raise LookupError(uri) from error


def _ask_mlflow(uri: str, request: Callable[[Any], Any]) -> Any:
    try:
        with explained(uri):
            return request(client_of(uri))
    except PipelineError as error:
        raise LookupError(uri) from error
