"""Work that is spread over a cluster, and the driver's files, on a local cluster of four cores."""

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path

import pytest
import ray

from pipeline.errors import PipelineError
from pipeline.parallel import is_spread, map_chunks
from pipeline.runtime.ray import spread as module
from pipeline.runtime.ray.driver_files import DriverFiles
from pipeline.runtime.ray.spread import spread_over_cluster
from tests.waiting import wait_until

pytestmark = pytest.mark.distributed
CORES = 4


@dataclass(frozen=True)
class Entered:
    """Inputs that lie in a folder of this machine."""

    folder: Path

    def enter(self):
        os.chdir(self.folder)


@pytest.fixture
def spread(cluster, params, tmp_path):
    """The block's work is spread; returns how often its inputs were published."""
    published = []

    def publish():
        published.append(1)
        return Entered(tmp_path)

    with spread_over_cluster(params.resources, publish):
        yield published
    assert not is_spread()


def doubled(piece):
    for number in piece:
        Path(f"begun-{number}").touch()
    return [2 * number for number in piece]


def test_results_come_in_order_and_inputs_are_published_once(spread):
    for items in (range(11), range(3)):
        pieces = list(map_chunks(doubled, items, chunk=2, label="work"))
        assert [n for piece in pieces for n in piece] == [2 * n for n in items]
    assert list(map_chunks(doubled, [], chunk=2, label="work")) == []
    assert spread == [1]
    assert len(list(Path().glob("begun-*"))) == 11


def test_no_more_tasks_are_under_way_than_two_for_each_core(spread, monkeypatch):
    monkeypatch.setattr(module, "_TASK_S", 0.0)  # a piece each
    results = map_chunks(doubled, range(100), chunk=1, label="work")
    assert next(results) == [0]
    wait_until(lambda: len(list(Path().glob("begun-*"))) == 2 * CORES)
    assert next(results) == [2]
    wait_until(lambda: len(list(Path().glob("begun-*"))) == 2 * CORES + 1)
    results.close()


def task_of(_):
    return ray.get_runtime_context().get_task_id()


def test_quick_pieces_share_a_task(spread):
    tasks = list(map_chunks(task_of, range(500), chunk=1, label="work"))
    sizes = [len(list(same)) for _, same in groupby(tasks)]
    assert len(sizes) == len(set(tasks))  # each holds consecutive pieces
    assert sizes[: 2 * CORES] == [1] * (2 * CORES)  # nothing is known yet
    assert all(after <= 2 * before for before, after in pairwise(sizes))
    assert max(sizes) > 8


def refused(_):
    raise PipelineError("a.png is no image")


def test_a_mistake_that_the_work_finds_is_raised_as_it_is(spread):
    with pytest.raises(PipelineError, match=r"^a\.png is no image$"):
        list(map_chunks(refused, [1], chunk=1, label="work"))


def killed_once(mark, piece):
    with suppress(FileExistsError):
        mark.touch(exist_ok=False)
        os._exit(9)
    return piece


def test_a_piece_whose_worker_dies_is_done_again(spread, tmp_path):
    work = partial(killed_once, tmp_path / "killed")
    assert list(map_chunks(work, [1, 2], chunk=1, label="work")) == [[1], [2]]


def write(files, folder):
    for number in range(20):
        files.append(folder / "deep" / "lines", f"{number}\n")
        files.replace(folder / "last", f"{number}\n")
    return files.exists(folder / "last"), files.exists(folder / "none")


def test_a_worker_writes_files_of_the_driver_in_order(cluster, tmp_path):
    files = DriverFiles()
    found = cluster.get(cluster.remote(write).options(num_cpus=1).remote(files, tmp_path))
    assert found == (True, False)  # an answer comes after all that was asked before
    assert (tmp_path / "deep" / "lines").read_text() == "".join(f"{n}\n" for n in range(20))
    assert (tmp_path / "last").read_text() == "19\n"


def test_without_the_driver_there_is_no_file(cluster, tmp_path):
    files = DriverFiles()
    (tmp_path / "stop").touch()
    assert files.exists(tmp_path / "stop")
    cluster.kill(files._actor)
    assert not files.exists(tmp_path / "stop")
    files.append(tmp_path / "stop", "lost")  # no error: its worker ends by itself
