"""Filled regions, on pictures of which it is known what surrounds what."""

import numpy as np
import pytest
import torch

from memviz.explanation.region import Level, RegionCheck, fill, random_regions, top_region


def test_what_has_the_other_sign_does_not_belong_to_a_region():
    found = torch.tensor([[1.0, 0.0, -2.0], [5.0, -1.0, 0.0]])
    assert top_region(found, 0.5, "raises").tolist() == [[True, False, False], [True, False, False]]
    assert top_region(found, 0.2, "raises").tolist() == [[False, False, False], [True, False, False]]
    assert top_region(found, 0.5, "lowers").tolist() == [[False, False, True], [False, True, False]]
    assert top_region(found.abs(), 0.5, "lowers") is None


def test_random_regions_have_the_same_size_and_lie_elsewhere():
    region = np.zeros((20, 30), dtype=bool)
    region[2:8, 3:15] = True
    region[2, 3] = False  # so that mirrored ones differ
    found = random_regions(region, 50, np.random.default_rng(0))
    assert all(each.sum() == region.sum() for each in found)
    assert max((each & region).sum() / region.sum() for each in found) <= 0.5
    assert len({each.tobytes() for each in found}) > 40
    again = random_regions(region, 50, np.random.default_rng(0))
    assert all(np.array_equal(*both) for both in zip(found, again, strict=True))
    # Where half of the picture belongs to it, some overlap cannot be avoided.
    half = np.ones((4, 4), dtype=bool)
    half[:, 2:] = False
    assert all(each.sum() == 8 for each in random_regions(half, 9, np.random.default_rng(0)))


def test_a_region_is_filled_from_outside_alone():
    picture = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    region = np.zeros((40, 40), dtype=bool)
    region[5:35, 5:35] = True  # wider than the first blur reaches
    one = fill(picture, region)
    changed = picture.clone()
    changed[:, torch.from_numpy(region)] = 7.0
    assert torch.equal(one, fill(changed, region))
    assert torch.equal(one[:, ~torch.from_numpy(region)], picture[:, ~torch.from_numpy(region)])
    assert one.min() >= picture.min()
    assert one.max() <= picture.max()
    # A ramp is continued, and plain surroundings stay plain.
    ramp = torch.linspace(0, 1, 40).expand(3, 40, 40)
    strip = np.zeros((40, 40), dtype=bool)
    strip[:, 18:22] = True
    torch.testing.assert_close(fill(ramp, strip), ramp, atol=0.06, rtol=0)
    plain = torch.full((3, 40, 40), 0.3)
    torch.testing.assert_close(fill(plain, region), plain)


@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_tiny_pictures(side):
    picture = torch.rand(3, side, side + 1)
    region = np.zeros((side, side + 1), dtype=bool)
    region[0, 0] = True
    filled = fill(picture, region)
    assert filled.isfinite().all()
    outside = picture[:, ~torch.from_numpy(region)]
    assert (filled[:, 0, 0] <= outside.amax(1) + 1e-6).all()


LITTLE = "as much, so the map says little here."


def check(side, before, filled, *random):
    levels = [Level(1 / (1 + np.exp(-logit)), logit) for logit in (before, filled, *random)]
    return RegionCheck(side, 0.2, levels[0], levels[1], tuple(levels[2:]))


@pytest.mark.parametrize(
    ("made", "stronger", "end"),
    [
        (check("raises", 1.0, 0.0, 0.5, 1.2), 0, "None of the 2 random regions lowers it as far."),
        (
            check("raises", 1.0, 0.0, 0.5, -1.2),
            1,
            f"1 of the 2 random regions does {LITTLE}",
        ),
        (check("raises", 1.0, 0.0, 0.0, -1.2), 2, f"2 of the 2 random regions do {LITTLE}"),
        (check("raises", 1.0, 1.1, 0.5, 1.2), 1, "So it does not do what the map says."),
        (check("lowers", 1.0, 1.4, 0.5, 1.2), 0, "None of the 2 random regions raises it as far."),
        (
            check("lowers", 1.0, 1.4, 1.5, 1.2),
            1,
            f"1 of the 2 random regions does {LITTLE}",
        ),
        (check("lowers", 1.0, 1.0, 1.5, 1.2), 2, "So what the map marks does not matter here."),
    ],
)
def test_the_words_say_what_the_numbers_say(made, stronger, end):
    assert made.stronger == stronger
    assert made.sentence.endswith(end)
    before, filled = made.before.score, made.filled.score
    moved = f"{'falls' if filled < before else 'rises'} from {before:.3f} to {filled:.3f}"
    assert f"it {moved if filled != before else f'stays at {before:.3f}'}; with" in made.sentence
    scores = [each.score for each in made.random]
    assert f"becomes {np.mean(scores):.3f} on average ({min(scores):.3f} to {max(scores):.3f})" in made.sentence
