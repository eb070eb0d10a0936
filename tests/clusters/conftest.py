"""One Ray cluster of a head and two nodes, with an S3 server, for all tests here."""

import pytest

from tests.clusters.ray_cluster import RayCluster
from tests.clusters.s3 import S3
from tests.waiting import wait_until

# A silent node is dead after about 6 s instead of 60 s.
_WAITS = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 2,
    "gcs_rpc_server_reconnect_timeout_s": 20,
    "raylet_liveness_self_check_interval_ms": 2000,
}


@pytest.fixture(scope="package")
def _started(tmp_path_factory):
    """Yield the cluster and the S3 server, both started."""
    folder = tmp_path_factory.mktemp("cluster")
    cluster = RayCluster(folder, waits=_WAITS)
    try:
        with S3(folder, cluster.outside) as s3:
            cluster.env |= s3.variables
            cluster.start()
            yield cluster, s3
            cluster.heal()
            left = cluster.of_jobs
            wait_until(lambda: not left(), 30)  # of jobs that have ended
    finally:
        cluster.close()


@pytest.fixture
def cluster(_started):
    """Return the cluster, whole; each test may break it."""
    cluster, _ = _started
    cluster.heal()
    return cluster


@pytest.fixture
def s3(_started):
    """Return the S3 server, which all hosts and the tests reach, running."""
    _, s3 = _started
    s3.heal()
    return s3
