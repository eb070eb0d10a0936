"""The load of nodes and the memory of workers, as real trainings tell of them."""

import pytest

from tests.distributed.small_training import News, few, folder_in, make_job, run

pytestmark = pytest.mark.distributed


def test_a_local_training(cluster, params, sets, tmp_path):
    """Its one node is sampled once for all workers; records tell what the first one took."""
    news, folder = News(wants_system_metrics=True), folder_in(tmp_path)
    resources = few(params, workers=2)
    run(make_job(params, sets), resources, folder, news)
    taken = news.samples
    assert [(node, number) for node, number, *_ in taken] == [("node_0", 1)]
    assert taken[0][3]["system_memory_usage_megabytes"] > 100
    # A process that has loaded torch takes some 200 MB, and a peak never falls.
    peaks = [record["memory_mb"] for record in news.records]
    assert 100 < peaks[0] < 3000
    assert peaks == sorted(peaks)
    assert "gpu_memory_mb" not in news.records[0]


def test_who_does_not_ask_gets_no_samples(cluster, params, sets, tmp_path):
    folder = folder_in(tmp_path)
    run(make_job(params, sets, epochs=1), few(params), folder)
    assert not folder.system.exists()
