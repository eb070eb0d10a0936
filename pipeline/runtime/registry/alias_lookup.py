"""A quick look at the registry, without MLflow: its import alone takes longer than the look."""

import json
import sqlite3
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing

from pipeline.runtime.tracking.store import store_file

_TIMEOUT_S = 2.0
_QUERY = "SELECT alias, version FROM registered_model_aliases WHERE name = ?"


class StoreGoneError(Exception):
    """The store that once was there is not there any more."""


def lookup_aliases(uri: str, name: str) -> dict[str, str]:
    """Return the version that each alias of a registered model points at.

    Args:
        uri: of the store; a SQLite file, or a server that is asked by MLflow's REST interface.
        name: of the registered model; one that is not there has no aliases.

    Raises:
        StoreGoneError: the file of the store is gone.
        LookupError: the store cannot be asked this way or does not answer in time.
    """
    file = store_file(uri)
    if file is None:
        return _ask_server(uri, name)
    if not file.exists():
        raise StoreGoneError(uri)
    try:
        with closing(
            sqlite3.connect(f"file:{urllib.parse.quote(str(file))}?mode=ro", uri=True)
        ) as db:
            rows = db.execute(_QUERY, (name,)).fetchall()
    except sqlite3.Error as error:
        raise LookupError(uri) from error
    return {alias: str(version) for alias, version in rows}


def _ask_server(uri: str, name: str) -> dict[str, str]:
    if not uri.startswith(("http://", "https://")):
        raise LookupError(uri)
    query = urllib.parse.urlencode({"name": name})
    address = f"{uri.rstrip('/')}/api/2.0/mlflow/registered-models/get?{query}"
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - http only
            found = json.load(answer)["registered_model"].get("aliases", [])
            return {entry["alias"]: str(entry["version"]) for entry in found}
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return {}
        raise LookupError(uri) from error
    except (OSError, ValueError, KeyError) as error:
        raise LookupError(uri) from error
