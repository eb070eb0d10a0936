"""The SQLite file of a store: made whole or not at all.

MLflow makes its tables by some fifty migrations, which take seconds. A process that is killed
meanwhile, or a full disk, leaves a file with half of them, which MLflow never opens again.
"""

import sqlite3
import sys
from contextlib import closing
from itertools import count
from pathlib import Path

from tqdm import tqdm

from pipeline.files import atomic_path

_FIRST = "experiments"  # MLflow's first table; it gets its first row when all tables are there


def ensure_database(file: Path) -> None:
    """Make an empty store at `file`, if there is none; the caller has the store's lock.

    A file of unfinished migrations, in which nothing was ever recorded, is set aside. One that
    holds something, or cannot be read, stays: what to do with it is for its owner to say.
    """
    if file.exists() and file.stat().st_size:
        if _is_unfinished(file):
            _set_aside(file)
        else:
            return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for left in file.parent.glob(f".{file.name}.*"):  # by a process that was killed
        left.unlink()
    with atomic_path(file) as temporary:
        artifacts = file.resolve().parent / "mlartifacts"
        SqlAlchemyStore(f"sqlite:///{temporary.resolve()}", artifacts.as_uri())._dispose_engine()


def _is_unfinished(file: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
            names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
            if _FIRST in names:
                return database.execute(f"SELECT 1 FROM {_FIRST}").fetchone() is None  # noqa: S608
            return f"_alembic_tmp_{_FIRST}" in names  # a migration was about to rename it
    except sqlite3.Error:
        return False


def _set_aside(file: Path) -> None:
    names = (file.with_name(f"{file.name}.unfinished-{number}") for number in count(1))
    aside = next(name for name in names if not name.exists())
    for suffix in ("-wal", "-shm", "-journal"):  # of SQLite, which belong to this very file
        if (beside := Path(f"{file}{suffix}")).exists():
            beside.replace(f"{aside}{suffix}")
    file.replace(aside)
    words = f"{file} was never finished and holds no run; it is {aside.name} now"
    tqdm.write(f"warning: {words}, and {file} is a new one", file=sys.stderr)
