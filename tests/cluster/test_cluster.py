"""Work on three nodes, against one process; nodes and workers are lost on the way."""

import os
from dataclasses import replace

import pytest
import tiny
import torch
from flaky import Flaky
from helpers import undisturbed
from indexes import same
from torch import nn

import memviz
from memviz.errors import ClusterError, ModelError
from memviz.index.scan import ScanState
from memviz.models import InputSpec
from memviz.models.model import Scoring
from memviz.models.score_file import score_to_csv
from memviz.rendering import network
from memviz.rendering.cost import plan
from memviz.rendering.network import network_jobs, render_jobs
from memviz.rendering.outcome import render_network
from memviz.work import employing, work

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(
        "MEMVIZ_TEST_CLUSTER" not in os.environ,
        reason="takes three minutes, and Ray gives up starting on a busy machine: MEMVIZ_TEST_CLUSTER=1 runs it",
    ),
]
pytest.importorskip("ray", reason="needs Ray: pip install 'memviz[ray]'")


def flaky(**options):
    network = tiny.Scored(Flaky(tiny.built("Branches"), **options)).eval()
    return memviz.wrap(network, InputSpec(size=(24, 24), resize=28), "flaky", "memorability")


def build(model, photos, out):
    with pytest.warns(UserWarning, match=r"1 of 700 photographs cannot be read"):
        return memviz.build_index(model, photos, out=out, k=4, progress=False)


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    """What one process makes."""
    out = tmp_path_factory.mktemp("whole") / "index"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with employing(None):
        build(flaky(), photos, out)
    torch.set_num_threads(threads)
    return out


def interrupted(model, photos, out, monkeypatch, merges):
    """Ends an index by Ctrl-C after some results; how many photographs are done."""
    merge, seen = ScanState.merge, []

    def limited(state, other):
        merge(state, other)
        seen.append(other)
        if len(seen) == merges:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ScanState, "merge", limited)
        with pytest.raises(KeyboardInterrupt):
            memviz.build_index(model, photos, out=out, k=4, progress=False)
    return ScanState.load(out.with_name("index.partial") / "state.pt").done


def test_a_cluster_continues_one_machine_although_a_node_dies(cluster, connected, photos, whole, tmp_path, monkeypatch):
    from memviz.cluster import crew
    from memviz.index import scanner

    with employing(None), monkeypatch.context() as patch:
        patch.setattr(scanner, "GIVE_EVERY_SECONDS", 0.0)
        assert interrupted(flaky(), photos, tmp_path / "index", monkeypatch, merges=2) == 128
    works, lost, merge, failed = [], [], ScanState.merge, crew._Work._failed

    def kill_one(state, other):
        """After the first result, a node dies whose worker has something in hand."""
        merge(state, other)
        nodes = {node.node_id: node for node in cluster.worker_nodes}
        if not lost:
            place = next(place for place in works[0]._calls.values() if place.given and place.node in nodes)
            lost.append(place.given)
            cluster.remove_node(nodes[place.node], allow_graceful=False)

    monkeypatch.setattr(crew, "BUNDLE_SECONDS", 1.0)
    monkeypatch.setattr(crew._Work, "_look", lambda work, look=crew._Work._look: (works.append(work), look(work)))
    monkeypatch.setattr(ScanState, "merge", kill_one)
    monkeypatch.setattr(crew._Work, "_failed", lambda *given: (lost.append(given), failed(*given)))
    build(flaky(pause=0.1), photos, tmp_path / "index")
    assert len(lost) >= 2
    assert same(whole, tmp_path / "index")


def test_one_machine_continues_what_a_cluster_began(connected, photos, whole, tmp_path, monkeypatch):
    with undisturbed():
        assert 0 < interrupted(flaky(), photos, tmp_path / "index", monkeypatch, merges=3) < 700
    with employing(None):
        build(flaky(), photos, tmp_path / "index")
    assert same(whole, tmp_path / "index")


def test_scores_although_a_worker_is_killed(connected, photos, tmp_path):
    with employing(None), pytest.warns(UserWarning, match="333.png"):
        score_to_csv(flaky(), photos, tmp_path / "one.csv", progress=False)
    with pytest.warns(UserWarning, match="333.png"):
        score_to_csv(flaky(once=tmp_path / "died"), photos, tmp_path / "other.csv", progress=False)
    assert (tmp_path / "died").exists()
    assert (tmp_path / "one.csv").read_text() == (tmp_path / "other.csv").read_text()


def test_drivers_although_a_disk_is_full(connected, whole, photos, tmp_path):
    index = memviz.load_index(whole, photos)
    with employing(None):
        one = memviz.drivers(flaky(), index, sample=None, out=tmp_path / "one", progress=False)
    model = flaky(once=tmp_path / "full", dies=False)
    other = memviz.drivers(model, index, sample=None, out=tmp_path / "other", progress=False)
    assert (tmp_path / "full").exists()
    assert (one.path / "drivers.parquet").read_bytes() == (other.path / "drivers.parquet").read_bytes()


def test_a_fault_of_the_model_ends_the_work(connected, photos, tmp_path):
    model = flaky()
    model.module.network.network.left[0].weight.data[0] = torch.nan
    with pytest.raises(ModelError, match="gave no finite activation"):
        memviz.build_index(model, photos, out=tmp_path / "index", progress=False)


def test_a_module_that_cannot_be_sent(connected, photos):
    model = flaky()
    model.module.lock = __import__("threading").Lock()
    with pytest.raises(ModelError, match="flaky cannot be sent to other processes"):
        model.score(photos, progress=False)


def test_nodes_that_do_not_see_the_photographs_are_named(connected, monkeypatch):
    from memviz.cluster import crew

    monkeypatch.setattr(crew, "is_there", lambda path: True)
    scoring = Scoring(["/nowhere/a.png"], 16, 1)
    said = r"node does not see /nowhere/a.png: photographs must lie on a file system that all nodes see"
    with pytest.warns(UserWarning, match=said), pytest.raises(ClusterError, match=said):
        list(work(flaky(), scoring, scoring.shards(), lambda count=1: None))


def test_pictures_of_a_network(connected, tmp_path, monkeypatch):
    """Files and table are those of one process, that had begun."""
    monkeypatch.setattr(network, "SHARE", 2)
    module = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 3, 3)).eval()
    model = memviz.wrap(module, InputSpec(size=(24, 24)))
    jobs = network_jobs(model, config=memviz.RenderConfig(size=16, steps=3))
    with employing(None):
        one = render_network(model, jobs, tmp_path / "one", progress=False)
        render_jobs(model, [replace(jobs[0], units=(0, 1))], tmp_path / "crew", progress=False)
    monkeypatch.setattr(network.Painter, "draw", None)  # of this process
    crew = render_network(model, jobs, tmp_path / "crew", progress=False, estimate=plan(model, jobs, tmp_path / "crew"))
    folders = tmp_path / "one", tmp_path / "crew"
    pictures = [{path.name: path.read_bytes() for path in folder.rglob("*-0*.png")} for folder in folders]
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) == 8
    assert crew.drop(columns="seconds").equals(one.drop(columns="seconds"))
