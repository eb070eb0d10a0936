"""Databases that are killed, or restored from a backup, while a run is recorded."""

import importlib.util
import shutil

import pytest

from pipeline.runtime.tracking.store import open_client
from tests.distributed.servers import POSTGRES, Postgres, Server
from tests.distributed.tracking.recording import (
    at,
    begin,
    finish,
    nothing_is_left,
    runs_of,
    the_run,
    train,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.distributed

needs_postgres = pytest.mark.skipif(
    not (POSTGRES / "postgres").exists() or importlib.util.find_spec("psycopg2") is None,
    reason=f"needs psycopg2 and PostgreSQL in {POSTGRES} (Debian's package postgresql-15)",
)


@pytest.fixture
def postgres():
    postgres = Postgres()
    yield postgres
    postgres.remove()


@needs_postgres
@pytest.mark.parametrize("direct", [False, True])
def test_a_database_that_is_killed_and_started_again(postgres, tracking, warned, tmp_path, direct):
    """PostgreSQL, behind a server that lives, and without one."""
    postgres.start()
    server = Server(tmp_path, postgres.uri)
    try:
        if not direct:
            server.start()
        tracking = at(tracking, postgres.uri if direct else server.address)
        run_logger = begin(tracking)
        train(run_logger, meanwhile={8: postgres.kill, 20: lambda: warned() and postgres.start()})
        finish(run_logger)
        the_run(tracking)
        nothing_is_left()
    finally:
        server.kill()


@needs_postgres
def test_a_server_on_postgres_that_is_killed_and_started_again(
    postgres, tracking, warned, tmp_path
):
    postgres.start()
    server = Server(tmp_path, postgres.uri)
    server.start()
    try:
        tracking = at(tracking, server.address)
        run_logger = begin(tracking)
        train(run_logger, meanwhile={8: server.kill, 20: lambda: warned() and server.start()})
        finish(run_logger)
        the_run(tracking)
        nothing_is_left()
    finally:
        server.kill()


def test_a_store_that_lost_what_it_had_gets_it_again(server, tracking, tmp_path):
    """As when it is restored from a backup."""
    server.start()
    tracking = at(tracking, server.address)
    run_logger = begin(tracking)
    backup = tmp_path / "backup.db"

    def restore():
        server.kill()
        shutil.copy(backup, tmp_path / "server.db")
        server.start()

    client = open_client(tracking)
    wait_until(lambda: runs_of(client, tracking), what="no run")
    meanwhile = {10: lambda: shutil.copy(tmp_path / "server.db", backup), 20: restore}
    train(run_logger, meanwhile=meanwhile)
    finish(run_logger)
    the_run(tracking)
    nothing_is_left()
