import numpy as np
import pytest
import torch

from memviz.errors import StoreError
from memviz.index import topk
from memviz.index.topk import TopK

UNITS, IMAGES = 37, 150


def activations(seed=0):
    """Values with many ties, both zeros, subnormal and huge numbers; positions that name the pair."""
    random = np.random.default_rng(seed)
    values = random.integers(-3, 4, size=(IMAGES, UNITS)).astype(np.float32)
    values[:, ::3] = random.normal(size=(IMAGES, len(range(0, UNITS, 3))))
    values[random.random(values.shape) < 0.1] = -0.0
    values[random.random(values.shape) < 0.02] = 1e-42
    values[random.random(values.shape) < 0.02] = -3e38
    positions = np.arange(values.size, dtype=np.int32).reshape(values.shape)
    return values, positions


def brute_force(values, positions, k, sign):
    images = np.arange(len(values))
    rows = np.stack([np.lexsort((images, -sign * column))[:k] for column in values.T])
    units = np.arange(values.shape[1])[:, None]
    return values[rows, units], rows, positions[rows, units]


def feed(state, values, positions, order, batch_size):
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        state.update(torch.from_numpy(values[part]), torch.from_numpy(positions[part]), torch.from_numpy(part))
    return state


def check(state, values, positions, k):
    for ranking, sign in ((state.top(), 1), (state.bottom(), -1)):
        for found, expected in zip(ranking, brute_force(values, positions, k, sign), strict=True):
            np.testing.assert_array_equal(found.numpy(), expected)
    np.testing.assert_allclose(state.mean().numpy(), values.mean(0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(state.std().numpy(), values.std(0, dtype=np.float64), rtol=1e-12)


@pytest.mark.parametrize("k", [1, 16, 150, 200])
@pytest.mark.parametrize("batch_size", [1, 7, 64, 150])
def test_equals_brute_force_for_any_batch_size_and_order(k, batch_size):
    values, positions = activations()
    order = np.random.default_rng(batch_size).permutation(IMAGES)
    check(feed(TopK(UNITS, k), values, positions, order, batch_size), values, positions, k)


@pytest.mark.parametrize("cuts", [[10], [0, 75], [3, 20, 149]])
def test_shards_merge_to_the_whole(cuts):
    values, positions = activations(seed=1)
    shards = np.split(np.random.default_rng(2).permutation(IMAGES), cuts)
    states = [feed(TopK(UNITS, 16), values, positions, shard, 9) for shard in shards]
    whole = TopK(UNITS, 16)
    for state in reversed(states):
        whole.merge(state)
    check(whole, values, positions, 16)


def test_units_beyond_one_chunk(monkeypatch):
    monkeypatch.setattr(topk, "_CHUNK", 5)
    values, positions = activations(seed=3)
    check(feed(TopK(UNITS, 16), values, positions, np.arange(IMAGES), 11), values, positions, 16)


def test_largest_image_numbers_keep_their_order():
    state = TopK(1, 2)
    images = torch.tensor([2**32 - 1, 0, 2**31])
    state.update(torch.tensor([[-1.0], [-1.0], [-1.0]]), torch.zeros(3, 1, dtype=torch.int32), images)
    assert state.top().images.tolist() == state.bottom().images.tolist() == [[0, 2**31]]


def test_zeros_are_equal_and_positive():
    state = TopK(1, 3)
    state.update(torch.tensor([[0.0], [-0.0], [0.0]]), torch.zeros(3, 1, dtype=torch.int32), torch.tensor([2, 1, 0]))
    for ranking in (state.top(), state.bottom()):
        assert ranking.images.tolist() == [[0, 1, 2]]
        assert not ranking.values.signbit().any()


def test_saved_state_continues_as_if_nothing_had_happened(tmp_path):
    values, positions = activations(seed=4)
    half = feed(TopK(UNITS, 16), values, positions, np.arange(64), 8)
    torch.save(half.to_dict(), tmp_path / "state.pt")
    loaded = TopK.from_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    rest = np.arange(64, IMAGES)
    for state in (half, loaded):
        feed(state, values, positions, rest, 8)
    check(loaded, values, positions, 16)
    assert all(torch.equal(a, b) for a, b in zip(half.top(), loaded.top(), strict=True))
    assert torch.equal(half.std(), loaded.std())


def test_nothing_seen():
    state = TopK(2, 4)
    assert state.top().values.shape == (2, 0)
    assert state.std().tolist() == [0.0, 0.0]


def test_states_of_other_shape_do_not_merge():
    with pytest.raises(StoreError, match="k=3"):
        TopK(2, 4).merge(TopK(2, 3))
