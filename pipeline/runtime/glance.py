"""A quick look at the registry, without MLflow: its import alone takes longer than the look."""

import json
import sqlite3
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing

from pipeline.runtime.tracking import store_file

_TIMEOUT_S = 2.0
_QUERY = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"


class StoreGoneError(Exception):
    """The store that once was there is not there any more."""


def version_of_alias(uri: str, name: str, alias: str) -> str | None:
    """Return the version that an alias of a registered model points at, None for no alias.

    Args:
        uri: of the store; a SQLite file, or a server that is asked by MLflow's REST interface.
        name: of the registered model.
        alias: such as 'champion'.

    Raises:
        StoreGoneError: the file of the store is gone.
        LookupError: the store cannot be asked this way or does not answer in time.
    """
    file = store_file(uri)
    if file is None:
        return _ask_server(uri, name, alias)
    if not file.exists():
        raise StoreGoneError(uri)
    try:
        with closing(
            sqlite3.connect(f"file:{urllib.parse.quote(str(file))}?mode=ro", uri=True)
        ) as db:
            row = db.execute(_QUERY, (name, alias)).fetchone()
    except sqlite3.Error as error:
        raise LookupError(uri) from error
    return str(row[0]) if row else None


def _ask_server(uri: str, name: str, alias: str) -> str | None:
    if not uri.startswith(("http://", "https://")):
        raise LookupError(uri)
    query = urllib.parse.urlencode({"name": name, "alias": alias})
    address = f"{uri.rstrip('/')}/api/2.0/mlflow/registered-models/alias?{query}"
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - http only
            return str(json.load(answer)["model_version"]["version"])
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise LookupError(uri) from error
    except (OSError, ValueError, KeyError) as error:
        raise LookupError(uri) from error
