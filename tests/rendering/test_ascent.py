import math

import pytest
import torch

from memviz.rendering import ascent
from memviz.rendering.ascent import GAIN, PATIENCE, WINDOW, ascend


def climb(goals, steps, groups=None, rate=0.05, free=0, start=None):
    """Climbs 10 - (x - goal)^2, one number a picture; what was left at each step, and how many steps were counted."""
    goals = torch.tensor(goals)
    groups = groups or [range(i, i + 1) for i in range(len(goals))]
    seen, counted = [], []

    def view(left):
        own = goals[[row for group in left for row in groups[group]]]

        def values(step, parameters):
            seen.append((step, list(left)))
            return 10 - (parameters[:, 0] - own) ** 2

        return values

    begin = torch.zeros(len(goals), 1) if start is None else torch.tensor(start)[:, None]
    found, reached = ascend(begin, [rate] * steps, groups, view, free, counted.append)
    return found[:, 0], reached, seen, sum(counted)


def test_it_climbs_and_leaves_what_it_was_given_alone():
    start = torch.zeros(2, 1)
    found, reached = ascend(
        start,
        [0.1] * 200,
        [range(1), range(1, 2)],
        lambda left: lambda step, p: 1e-9 - (p[:, 0] - 3) ** 2,
        0,
        lambda n: n,
    )
    torch.testing.assert_close(found, torch.full((2, 1), 3.0), atol=0.2, rtol=0)
    assert reached.tolist() == [True, True]
    assert start.tolist() == [[0.0], [0.0]]


def test_who_no_longer_gains_leaves_and_the_others_are_not_disturbed():
    steps = 160
    found, _, seen, counted = climb([0.001, 30.0], steps)
    alone, _, _, _ = climb([30.0], steps)
    assert seen[0] == (0, [0, 1])
    assert seen[-1] == (steps - 1, [1])
    leaves = next(step for step, left in seen if left == [1])
    assert leaves % WINDOW == 0
    assert leaves < steps / 2
    assert counted == 2 * steps
    # Adam's memory of the one that stays is kept.
    torch.testing.assert_close(found[1:], alone, rtol=0, atol=1e-5)


def test_all_may_leave():
    _, _, seen, counted = climb([0.001, 0.001], 500)
    assert len(seen) < 100
    assert counted == 2 * 500


def test_what_no_gradient_reaches_leaves_after_patience():
    found, reached, seen, counted = climb([0.0, 30.0], 40)
    assert reached.tolist() == [False, True]
    assert found[0] == 0
    assert [left for _, left in seen].count([0, 1]) == PATIENCE
    assert counted == 80


def test_pictures_of_one_objective_leave_together():
    _, _, seen, _ = climb([0.001, 30.0, 0.001], 64, groups=[range(2), range(2, 3)])
    assert seen[-1] == (63, [0])


def test_nothing_is_judged_before_the_gradients_are_free():
    _, reached, seen, _ = climb([0.0, 30.0], 40, free=20)
    assert [left for _, left in seen].count([0, 1]) == 20 + PATIENCE
    assert reached.tolist() == [False, True]


@pytest.mark.parametrize("gain", [GAIN, -math.inf])
def test_few_steps(monkeypatch, gain):
    monkeypatch.setattr(ascent, "GAIN", gain)
    for steps in (0, 1, WINDOW, PATIENCE):
        _, reached, seen, counted = climb([0.0, 30.0], steps)
        assert len(seen) == steps
        assert counted == 2 * steps
        assert reached.tolist() == [False, steps > 0]
