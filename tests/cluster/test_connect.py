"""What is known before any work: where there is no cluster, and what a node's places are."""

import signal
import sys

import pytest

from memviz.cluster import on_ray
from memviz.errors import ClusterError


@pytest.fixture
def _ray():
    pytest.importorskip("ray", reason="needs Ray: pip install 'memviz[ray]'")


@pytest.mark.usefixtures("_ray")
def test_where_there_is_no_cluster():
    before = signal.getsignal(signal.SIGTERM)
    said = r"no Ray cluster to connect to at '127.0.0.1:1' .*ray start --head"
    with pytest.raises(ClusterError, match=said), on_ray("127.0.0.1:1"):
        pass
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("address", "device", "message"),
    [("ray://head:10001", "auto", "Ray Client"), ("auto", "mps", "give auto, cpu or cuda")],
)
def test_what_cannot_be_asked_for(address, device, message):
    with pytest.raises(ClusterError, match=message), on_ray(address, device=device):
        pass


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"pip install 'memviz\[ray\]'"), on_ray():
        pass


@pytest.mark.usefixtures("_ray")
@pytest.mark.parametrize(
    ("device", "threads", "resources", "expected"),
    [
        ("auto", 2, {"CPU": 5.0}, [(2, False)] * 2),
        ("auto", 8, {"CPU": 4.0}, [(4, False)]),
        ("auto", 8, {"CPU": 16.0, "GPU": 4.0}, [(4, True)] * 4),
        ("cpu", 8, {"CPU": 16.0, "GPU": 4.0}, [(8, False)] * 2),
        ("cuda", 8, {"CPU": 16.0}, []),
        ("auto", 1, {"memory": 1.0}, []),
    ],
)
def test_the_places_of_a_node(device, threads, resources, expected):
    from memviz.cluster.crew import RayCrew

    node = {"NodeID": "a", "NodeManagerAddress": "10.0.0.1", "Resources": resources}
    assert [(place.cpus, place.gpu) for place in RayCrew(device, threads).places_of(node)] == expected
