import itertools
import random

import pytest
import torch

from memviz.index.moments import Moments


def blocks(count, units=5):
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(3 + place % 4, units, generator=generator).double() * 10**place for place in range(count)]
    nodes = [(len(each), each.mean(0), (each - each.mean(0)).square().sum(0)) for each in values]
    return torch.cat(values), nodes


def added(nodes, order):
    moments = Moments()
    for place in order:
        moments.add(0, place, nodes[place])
    return moments


@pytest.mark.parametrize("count", [1, 2, 5, 8, 11])
def test_the_bits_do_not_depend_on_the_order(count):
    values, nodes = blocks(count)
    whole = added(nodes, range(count))
    assert len(whole.nodes) == count.bit_count()
    orders = list(itertools.permutations(range(count))) if count < 6 else [range(count)[::-1]]
    for order in orders:
        assert all(
            torch.equal(one, other)
            for one, other in zip(added(nodes, order).total()[1:], whole.total()[1:], strict=True)
        )
    total, mean, squares = whole.total()
    assert total == whole.count == len(values)
    torch.testing.assert_close(mean, values.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(squares, (values - values.mean(0)).square().sum(0), rtol=1e-12, atol=0)


@pytest.mark.parametrize("cuts", [(3,), (1, 2, 9), (4, 8), (5, 6)])
def test_nor_on_the_cuts(cuts):
    _, nodes = blocks(11)
    parts = [added(nodes, range(*ends)) for ends in itertools.pairwise([0, *cuts, 11])]
    random.Random(0).shuffle(parts)
    merged = Moments()
    for part in parts:
        merged.merge(part)
    for one, other in zip(merged.total()[1:], added(nodes, range(11)).total()[1:], strict=True):
        assert torch.equal(one, other)


def test_a_block_that_was_cut_is_counted_once():
    values, nodes = blocks(6)
    moments = Moments()
    for node, place in zip(nodes, (0, 0, 1, 1, 0, 1), strict=True):
        moments.add(0, place, node)
    total, mean, _ = moments.total()
    assert total == len(values)
    torch.testing.assert_close(mean, values.mean(0), rtol=1e-12, atol=0)


def test_of_no_images_there_is_nothing():
    assert Moments().total() is None
    assert Moments().count == 0
