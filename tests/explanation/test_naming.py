import numpy as np
import pytest
from scipy.stats import pearsonr

from memviz.errors import LabelError
from memviz.explanation import naming
from memviz.explanation.naming import can_judge, halves, name_units, soft_wpmi


@pytest.fixture(autouse=True)
def few_shuffles(monkeypatch):
    monkeypatch.setattr(naming, "SHUFFLED", 1000)


@pytest.fixture
def world():
    """What 300 photographs show of 30 things, a tenth each; units 0 to 7 answer to things, 8 to 47 to none."""
    random = np.random.default_rng(0)
    shown = (random.random((300, 30)) < 0.1).astype(float)
    units = random.normal(0, 1, (300, 48))
    units[:, :8] = 3 * shown[:, 5:13] + 0.7 * units[:, :8]
    return shown, units


def brute_force(activations, probabilities):
    """SoftWPMI, photograph by photograph."""
    top = max(5, round(0.06 * len(activations)))
    found = np.zeros((activations.shape[1], probabilities.shape[1]))
    for unit in range(activations.shape[1]):
        best = sorted(range(len(activations)), key=lambda photo: -activations[photo, unit])[:top]
        for concept in range(probabilities.shape[1]):
            for rank, photo in enumerate(best):
                sure = 0.998 - rank / top * 0.028
                found[unit, concept] += np.log(1 + sure * (probabilities[photo, concept] - 1) + 1e-7)
    return found - np.log(np.mean(np.exp(found), axis=0))


def test_soft_wpmi_is_that_of_a_loop(world):
    units = world[1]
    probabilities = np.random.default_rng(1).dirichlet(np.ones(4), 300)
    np.testing.assert_allclose(soft_wpmi(units[:, :6], probabilities), brute_force(units[:, :6], probabilities))


def test_units_that_answer_to_something_are_named_and_no_others(world):
    found = name_units(world[1], *[world[0]] * 2, seed=0)
    assert found.candidate[:8].tolist() == list(range(5, 13))
    assert found.accepted.tolist() == [True] * 8 + [False] * 40
    assert found.shuffled < 0.1


def test_the_figure_is_the_correlation_on_the_other_half(world):
    shown, units = world
    found = name_units(units, shown, shown, seed=3)
    choosing, judging = halves(300, 3)
    assert sorted([*choosing, *judging]) == list(range(300))
    assert found.held_out.tolist() == judging.tolist()
    for unit, concept in enumerate(found.candidate):
        assert found.figure[unit] == pytest.approx(pearsonr(units[judging, unit], shown[judging, concept])[0])


def test_the_choice_knows_nothing_of_the_other_half(world):
    shown, units = world
    judging = halves(300, 0)[1]
    changed = units.copy()
    changed[judging] = changed[judging][::-1]
    one, two = (name_units(each, shown, shown, 0).candidate.tolist() for each in (changed, units))
    assert one == two


def test_a_weak_correlation_is_refused_however_sure(world):
    """With 6,000 photographs, a correlation of .2 is far beyond chance, but explains little."""
    random = np.random.default_rng(0)
    shown = (random.random((6000, 5)) < 0.3).astype(float)
    units = random.normal(0, 1, (6000, 40))
    units[:, 0] += 0.45 * shown[:, 2]
    found = name_units(units, shown, shown, 0)
    assert found.candidate[0] == 2
    assert 0.15 < found.figure[0] < 0.3 == found.threshold


def test_of_few_photographs_the_shuffled_control_sets_the_threshold(world):
    shown, units = world
    found = name_units(units[:50], shown[:50], shown[:50], 0)
    assert found.threshold > 0.45
    assert found.accepted[8:].sum() == 0


def test_shuffled_units_are_not_named(world):
    shown, units = world
    accepted = [
        name_units(np.random.default_rng(n).permutation(units), shown, shown, n).accepted.sum() for n in range(5)
    ]
    assert sum(accepted) <= 1


def test_constant_units_and_concepts(world):
    shown, units = world
    units[:, 20], shown[:, 3] = 0.1, 0.7
    found = name_units(units, shown, shown, 0)
    assert found.figure[20] == 0
    assert np.isfinite(found.figure).all()
    assert not found.accepted[20]


def test_what_cannot_be_judged(world):
    shown, units = world
    with pytest.raises(LabelError, match=r"need 40 photographs or more, .* there are 39"):
        halves(39, 0)
    with pytest.raises(LabelError, match="No concept is shown by 5 photographs"):
        name_units(units, shown[:, :0], shown[:, :0], 0)
    shown[:, 4] = 0
    shown[halves(300, 0)[0][:20], 4] = 1  # twenty, all in one half
    assert can_judge(shown, 0).tolist() == [place != 4 for place in range(30)]


def test_global_random_state_stays(world):
    before = np.random.get_state()[1].tolist()
    name_units(world[1], world[0], world[0], 0)
    assert np.random.get_state()[1].tolist() == before
