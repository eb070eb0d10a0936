import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from pipeline.errors import PipelineError
from pipeline.runtime.registry import aliases, lookup
from pipeline.runtime.registry.aliases import (
    CHALLENGER,
    PREVIOUS,
    ROLLED_BACK_TAG,
    ChampionChangedError,
    aliases_of,
    challenge,
    find_champion,
    promote,
    roll_back,
)
from pipeline.runtime.registry.lookup import StoreGoneError, has_version, lookup_aliases
from pipeline.runtime.tracking.store import connect, open_client


@pytest.fixture
def name(tracking, request):
    """Make a model with the versions 1, 2 and 3, and return its name."""
    client = open_client(tracking)
    name = request.node.name.replace("[", "_").replace("]", "")
    client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version(name, "file:///nowhere", tags={"convoy.bundle": "abc"})
    return name


def test_promotions_keep_the_one_before(tracking, name):
    assert find_champion(tracking, name, "champion") is None
    assert promote(tracking, name, "1", "champion", None) == ["champion"]
    assert challenge(tracking, name, "2") == [CHALLENGER]
    assert promote(tracking, name, "2", "champion", "1") == ["champion"]
    assert promote(tracking, name, "2", "champion", "1") == ["champion"]  # nothing to move
    found = find_champion(tracking, name, "champion")
    assert (found.version, found.bundle) == ("2", "abc")
    assert aliases_of(tracking, name, "1") == [PREVIOUS]
    held = {"champion": "2", PREVIOUS: "1"}
    assert lookup_aliases(tracking.uri, name) == held


def test_only_the_champion_that_was_met_is_replaced(tracking, name):
    promote(tracking, name, "1", "champion", None)
    for supposed in (None, "3"):
        with pytest.raises(ChampionChangedError):
            promote(tracking, name, "2", "champion", supposed)
    assert lookup_aliases(tracking.uri, name) == {"champion": "1"}


def test_back_and_there_again(tracking, name):
    promote(tracking, name, "1", "champion", None)
    promote(tracking, name, "2", "champion", "1")
    assert roll_back(tracking, name, "champion") == ("1", "2")
    client = connect(tracking)
    assert lookup_aliases(tracking.uri, name) == {"champion": "1", PREVIOUS: "2"}
    assert ROLLED_BACK_TAG in client.get_model_version(name, "2").tags
    assert roll_back(tracking, name, "champion") == ("2", "1")
    assert ROLLED_BACK_TAG not in client.get_model_version(name, "2").tags
    assert ROLLED_BACK_TAG in client.get_model_version(name, "1").tags


def test_nothing_to_go_back_to(tracking, name):
    with pytest.raises(PipelineError, match=f"no version of {name} is champion in the registry"):
        roll_back(tracking, name, "champion")
    promote(tracking, name, "1", "champion", None)
    with pytest.raises(PipelineError, match=r"version 1: there is nothing to roll back to"):
        roll_back(tracking, name, "champion")
    with pytest.raises(PipelineError, match="no version of nobody is champion"):
        roll_back(tracking, "nobody", "champion")


class Killed(BaseException):
    """Stands for the end of the process."""


class Mortal:
    """A client that dies just before its n-th change."""

    def __init__(self, client, changes):
        self._client, self._left = client, changes

    def __getattr__(self, method):
        if method.startswith(("set_", "delete_")):
            if self._left == 0:
                raise Killed
            self._left -= 1
        return getattr(self._client, method)


def changes_until_it_ends(tracking, monkeypatch, action, look):
    """Run `action`, killed before its first change, its second and so on; `look` each time."""
    client = connect(tracking)
    for changes in range(10):
        monkeypatch.setattr(aliases, "connect", lambda _, n=changes: Mortal(client, n))
        try:
            action()
        except Killed:
            monkeypatch.setattr(aliases, "connect", connect)
            look()
            continue
        monkeypatch.setattr(aliases, "connect", connect)
        return changes
    raise AssertionError


def test_a_promotion_killed_at_any_moment(tracking, name, monkeypatch):
    """There always is a champion, and going on later ends where one go would have."""
    promote(tracking, name, "1", "champion", None)
    promote(tracking, name, "2", "champion", "1")
    challenge(tracking, name, "3")
    seen = []

    def look():
        seen.append(lookup_aliases(tracking.uri, name))
        assert seen[-1]["champion"] in ("2", "3")

    def action():
        met = find_champion(tracking, name, "champion").version
        promote(tracking, name, "3", "champion", met)

    # Each time it goes on from what the last one left.
    assert changes_until_it_ends(tracking, monkeypatch, action, look) == 4
    assert seen == [
        {"champion": "2", PREVIOUS: "1", CHALLENGER: "3"},
        {"champion": "2", PREVIOUS: "1", CHALLENGER: "3"},  # with the tag of the best champion
        {"champion": "2", PREVIOUS: "2", CHALLENGER: "3"},
        {"champion": "3", PREVIOUS: "2", CHALLENGER: "3"},
    ]
    assert lookup_aliases(tracking.uri, name) == {"champion": "3", PREVIOUS: "2"}


@pytest.mark.parametrize("changes", [0, 1, 2])
def test_a_rollback_killed_at_any_moment(tracking, name, monkeypatch, changes):
    """The way back is open until it has been taken, and nothing steps up again unasked."""
    promote(tracking, name, "1", "champion", None)
    promote(tracking, name, "2", "champion", "1")
    client = connect(tracking)
    monkeypatch.setattr(aliases, "connect", lambda _: Mortal(client, changes))
    with pytest.raises(Killed):
        roll_back(tracking, name, "champion")
    held = lookup_aliases(tracking.uri, name)
    assert held == {"champion": "1" if changes == 2 else "2", PREVIOUS: "1"}
    assert (ROLLED_BACK_TAG in client.get_model_version(name, "2").tags) == (changes > 0)
    monkeypatch.setattr(aliases, "connect", connect)
    if changes < 2:
        assert roll_back(tracking, name, "champion") == ("1", "2")


RACER = """
import sys
from pipeline.params import Tracking
from pipeline.runtime.registry.aliases import ChampionChangedError, promote
from pipeline.runtime.tracking.store import connect
uri, name, version = sys.argv[1:]
tracking = Tracking(uri=uri, experiment="tests", system_metrics=False, checkpoints="best")
connect(tracking).get_registered_model(name)
print("ready", flush=True)
sys.stdin.readline()
try:
    promote(tracking, name, version, "champion", "1")
    print("won")
except ChampionChangedError:
    print("lost")
"""


def test_two_promotions_at_once_end_in_one_champion(tracking, name):
    promote(tracking, name, "1", "champion", None)
    racers = {
        version: subprocess.Popen(
            [sys.executable, "-c", RACER, tracking.uri, name, version],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for version in ("2", "3")
    }
    assert [racer.stdout.readline() for racer in racers.values()] == ["ready\n"] * 2
    for racer in racers.values():
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = {version: racer.communicate(timeout=60)[0].strip() for version, racer in racers.items()}
    assert sorted(said.values()) == ["lost", "won"]
    (winner,) = (version for version, word in said.items() if word == "won")
    assert lookup_aliases(tracking.uri, name) == {"champion": winner, PREVIOUS: "1"}


class Server(BaseHTTPRequestHandler):
    """What MLflow 3.17 answers, as far as it matters."""

    ANSWERS: ClassVar = {
        "registered-models/get?name=m": {
            "registered_model": {
                "aliases": [
                    {"alias": "champion", "version": "6"},
                    {"alias": "previous", "version": "1"},
                ]
            }
        },
        "model-versions/get?name=m&version=6": {
            "model_version": {"tags": [{"key": "convoy.bundle", "value": "abc"}]}
        },
        "model-versions/get?name=m&version=1": {"model_version": {}},
    }

    def do_GET(self):
        answer = self.ANSWERS.get(self.path.removeprefix("/api/2.0/mlflow/"))
        self.send_response(200 if answer else 404)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_):
        pass


def test_a_glance_at_a_server():
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert lookup_aliases(address, "m") == {"champion": "6", "previous": "1"}
        assert lookup_aliases(address, "nobody") == {}
        assert has_version(address, "m", "6", "abc")
        assert not has_version(address, "m", "6", "abd")
        assert not has_version(address, "m", "1", "abc")
        assert not has_version(address, "m", "7", "abc")
        server.shutdown()


def test_a_glance_finds_a_version_until_it_is_deleted(tracking, name, monkeypatch):
    """By SQLite, and by MLflow itself where only that can ask, as with PostgreSQL."""
    client = connect(tracking)
    promote(tracking, name, "1", "champion", None)
    for left in ("123", "13"):
        for directly in (True, False):
            with monkeypatch.context() as patch:
                if not directly:
                    patch.setattr(lookup, "store_file", lambda _: None)
                found = [n for n in "1234" if has_version(tracking.uri, name, n, "abc")]
                assert found == list(left)
                assert not has_version(tracking.uri, name, "1", "abd")
                assert lookup_aliases(tracking.uri, name) == {"champion": "1"}
        if "2" in left:
            client.delete_model_version(name, "2")


def test_a_glance_at_what_is_not_there(tracking):
    open_client(tracking)
    assert lookup_aliases(tracking.uri, "nobody") == {}
    with pytest.raises(StoreGoneError):
        lookup_aliases("sqlite:////nowhere/mlflow.db", "nobody")
    with pytest.raises(LookupError):
        lookup_aliases("http://127.0.0.1:1", "nobody")
    with pytest.raises(PipelineError, match="is a folder"):
        lookup_aliases("./mlruns", "nobody")
    assert not Path("mlflow.db").exists()
