"""The forced choice, against a computation of its definition pair by pair."""

import math

import numpy as np
import pytest

from memviz.errors import ImageError
from memviz.explanation.forced_choice import (
    SHUFFLES,
    Tasks,
    accuracy,
    check_photographs,
    evidence,
    score,
    set_tasks,
    shuffled,
)

COUNT = 60


def draw(seed=0, tasks=6, explanations=4):
    random = np.random.default_rng(seed)
    return set_tasks(random.normal(size=COUNT), explanations, tasks, 0.25, random)


def unit_vectors(count=COUNT, seed=1):
    vectors = np.random.default_rng(seed).normal(size=(count, 5))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_hand(vectors, high, low, positive, negative, temperature):
    """The paper's formula, one cosine at a time."""

    def similar(query, explanations):
        return sum(float(vectors[query] @ vectors[each]) for each in explanations) / len(explanations)

    total = solved = 0.0
    for plus, minus in zip(high, low, strict=True):
        evidence = similar(plus, positive) - similar(minus, positive)
        if len(negative):
            evidence -= similar(plus, negative) - similar(minus, negative)
        total += 1 / (1 + math.exp(-evidence / temperature))
        solved += evidence > 0
    return solved / len(high), total / len(high)


@pytest.mark.parametrize("negatives", [True, False])
def test_accuracy_and_score_are_those_of_the_formula(negatives):
    tasks, vectors = draw(), unit_vectors()
    negative = tasks.least if negatives else tasks.least[:0]
    found = evidence(vectors @ vectors.T, tasks, tasks.most, negative)
    solved, soft = by_hand(vectors, tasks.high, tasks.low, tasks.most, negative, 0.16)
    assert accuracy(found) == pytest.approx(solved)
    assert score(found, 0.16) == pytest.approx(soft)
    assert 0 < solved < 1


def test_explanations_are_the_extremes_and_queries_lie_between_them_and_the_quarter():
    values = np.random.default_rng(0).permutation(COUNT).astype(float)
    tasks = set_tasks(values, 4, 11, 0.25, np.random.default_rng(0))
    assert values[tasks.most].tolist() == [59, 58, 57, 56]
    assert values[tasks.least].tolist() == [0, 1, 2, 3]
    # 15 in a quarter, of which 11 are no explanations: each is asked once.
    assert sorted(values[tasks.high]) == list(range(45, 56))
    assert sorted(values[tasks.low]) == list(range(4, 15))
    more = set_tasks(values, 4, 30, 0.25, np.random.default_rng(0))
    assert set(values[more.high]) <= set(range(45, 56))
    assert len(more.high) == 30


def test_units_that_cannot_be_asked_about():
    random = np.random.default_rng(0)
    assert set_tasks(np.full(COUNT, 3.0), 4, 2, 0.25, random) is None
    assert set_tasks(np.linspace(0, 1e-9, COUNT), 4, 2, 0.25, random) is None
    few = np.zeros(COUNT)
    few[:10] = 1  # fewer than the quarter: the rest of it is like the lowest quarter
    assert set_tasks(few, 4, 2, 0.25, random) is None
    few[:20] = 1
    assert set_tasks(few, 4, 2, 0.25, random) is not None


def test_photographs_of_equal_activation_come_in_any_order():
    values = np.zeros(COUNT)
    values[:30] = 1
    least = {tuple(sorted(set_tasks(values, 4, 2, 0.25, np.random.default_rng(seed)).least)) for seed in range(5)}
    assert len(least) == 5


@pytest.mark.parametrize(
    ("count", "explanations", "quantile", "message"),
    [
        (39, 9, 0.25, "39 photographs are too few: a 0.25 part of them must hold 9 explanations.*Give 40 or more"),
        (100, 0, 0.25, "explanations=0"),
        (100, 9, 0.6, r"quantile=0\.6"),
        (100, 9, 0.0, r"quantile=0\.0"),
    ],
)
def test_what_no_task_can_be_set_with(count, explanations, quantile, message):
    with pytest.raises(ImageError, match=message):
        check_photographs(count, explanations, quantile)


def test_an_encoder_that_knows_the_unit_solves_all_and_a_blind_one_half():
    values = np.random.default_rng(3).normal(size=COUNT)
    tasks = set_tasks(values, 4, 8, 0.25, np.random.default_rng(0))
    excited = np.where(values > 0, 1.0, -1.0)
    seeing, blind = np.outer(excited, excited), np.ones((COUNT, COUNT))
    assert accuracy(evidence(seeing, tasks, tasks.most, tasks.least)) == 1
    assert accuracy(evidence(-seeing, tasks, tasks.most, tasks.least)) == 0
    assert accuracy(evidence(blind, tasks, tasks.most, tasks.least)) == 0.5  # a tie is no success, and no failure
    assert score(evidence(blind, tasks, tasks.most, tasks.least), 0.16) == 0.5


def test_a_random_encoder_is_at_chance():
    vectors = unit_vectors()
    solved = [
        accuracy(evidence(vectors @ vectors.T, tasks, tasks.most, tasks.least))
        for tasks in (draw(seed, tasks=10) for seed in range(300))
    ]
    assert np.mean(solved) == pytest.approx(0.5, abs=0.03)


def test_a_query_among_the_explanations_of_another_unit_does_not_explain_itself():
    cosines = np.array([[1.0, 0.1, 0.2], [0.1, 1.0, 0.6]])
    tasks = Tasks(np.array([0]), np.array([1]), np.array([0]), np.array([1]))
    assert evidence(cosines, tasks, np.array([0, 2]), np.array([], int)).tolist() == pytest.approx([0.2 - 0.35])
    assert np.isnan(evidence(cosines, tasks, np.array([0]), np.array([], int))).all()
    assert np.isnan(accuracy(np.array([np.nan])))


def test_shuffled_tells_units_apart_or_not():
    """Units of two kinds, whose explanations help within the kind and mislead the others; and units all alike."""
    random = np.random.default_rng(0)
    base = random.normal(size=COUNT)
    like = np.outer(np.sign(base), np.sign(base))

    def ask(signs):
        tasks = [set_tasks(sign * base, 4, 4, 0.25, random) for sign in signs]
        given = [(each.most, each.least) for each in tasks]
        return shuffled(like, tasks, given, np.random.default_rng(0))

    assert ask([1, 1, 1, 1]).tolist() == [1, 1, 1, 1]
    np.testing.assert_allclose(ask([1, 1, -1, -1]), 1 / 3)
    assert np.isnan(ask([1])).all()


def test_each_unit_is_tried_with_others_alone(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "memviz.explanation.forced_choice.evidence",
        lambda cosines, tasks, positive, negative: seen.append((tasks, positive)) or np.array([1.0]),
    )
    found = shuffled(np.eye(2), list(range(40)), [(unit, unit) for unit in range(40)], np.random.default_rng(0))
    assert (found == 1).all()
    assert all(own != other for own, other in seen)
    assert len(set(seen)) == len(seen) == 40 * SHUFFLES
    assert np.bincount([other for _, other in seen]).tolist() == [SHUFFLES] * 40
