import os
from contextlib import suppress

import pytest
from helpers import one_thread as one_thread
from helpers import write_noise

# Ray reads these when it is imported, which is while tests are collected: no statistics, and under `uv run` no copies
# of the working directory, from which each worker would install everything anew.
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}


@pytest.fixture(scope="module")
def cluster():
    """Three nodes of a core each: a head, and two of which a test may kill one."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'memviz[ray]'")
    from ray.cluster_utils import Cluster

    made = Cluster()
    try:
        made.add = lambda: made.add_node(
            num_cpus=1, object_store_memory=100 * 2**20, include_dashboard=False, wait=False
        )
        for _ in range(3):
            made.add()
        made.wait_for_nodes()
        yield made
    finally:
        with suppress(Exception):
            made.shutdown()


@pytest.fixture(scope="module")
def connected(cluster):
    """Three workers, one after the other given all work of the tests."""
    from memviz.cluster import on_ray

    with on_ray(cluster.address, threads=1):
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eleven blocks of photographs, the last one not whole, and one that cannot be read."""
    folder = write_noise(tmp_path_factory.mktemp("cluster") / "photos", 700, 24)
    (folder / "333.png").write_text("no picture")
    return folder
