import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawing import render
from torch import nn

from memviz.errors import LayerError, RenderError
from memviz.layers import Layer, capture
from memviz.rendering.lucent import ObjectiveBatch, lucent_names, resolve_lucent
from memviz.rendering.objectives import (
    Channel,
    Direction,
    Excitation,
    Lucent,
    Neuron,
    Objective,
    Score,
    UnitObjective,
    as_objective,
)

with warnings.catch_warnings(action="ignore"):  # kornia, which lucent imports, uses torch.jit.script
    from lucent.optvis import objectives as lucent
    from lucent.optvis.render import hook_model


def maps(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def values(objectives, activations, names=None):
    count = sum(objective.images for objective in objectives)
    layers = {name: Layer(name, "", 5, 7, 4, None, None, None, None, False) for name in activations if name}
    model = SimpleNamespace(layers=layers, device=torch.device("cpu"))
    batch = ObjectiveBatch(objectives, model, names or {})
    return batch(activations, torch.zeros(count, 3, 8, 8), (8, 8)).tolist()


def test_values_equal_their_definitions():
    a, b, out = maps(8, 5, 7, 4), maps(8, 3, seed=1), maps(8, 1, seed=2)
    vector = [1.0, -2.0, 0.0, 0.5, 3.0]
    found = values(
        [
            Channel("a", 3),
            Neuron("a", 2),
            Neuron("a", 2, (0, 0)),
            Direction("a", vector),
            2 * Channel("b", 1) - 0.5 * Neuron("a", 4, (6, 3)) + Direction("b", [0, 0, -7]),
            -Score(),
            Excitation("a", 1),
            -3 * Excitation("b", 0) + Excitation("a", 1),
        ],
        {"a": a, "b": b, "": out},
    )
    a, b, out = a.double().numpy(), b.double().numpy(), out.double().numpy()
    unit = np.array(vector) / np.linalg.norm(vector)
    expected = [
        a[0, 3].mean(),
        a[1, 2, 3, 2],
        a[2, 2, 0, 0],
        (a[3] * unit[:, None, None]).sum(0).mean(),
        2 * b[4, 1] - 0.5 * a[4, 4, 6, 3] - b[4, 2],
        -out[5, 0],
        np.where(a[6, 1] > 0, a[6, 1], a[6, 1] / 2).mean(),
        -3 * max(b[7, 0], b[7, 0] / 2) + np.where(a[7, 1] > 0, a[7, 1], a[7, 1] / 2).mean(),
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_value_does_not_depend_on_companions_or_place():
    a = maps(4, 5, 6, 6)
    objectives = [Channel("a", 3), Neuron("a", 3), Direction("a", [1, 2, 3, 4, 5]), Channel("a", 0) + Channel("a", 3)]
    together = values(objectives, {"a": a})
    alone = [values([objectives[i]], {"a": a[i : i + 1]})[0] for i in range(4)]
    backwards = values(objectives[::-1], {"a": a.flip(0)})[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-7)
    np.testing.assert_allclose(together, backwards, atol=1e-7)


def test_arithmetic():
    a, b = Channel("a", 0), Neuron("b", 1)
    activations = {"a": maps(1, 2, 3, 3), "b": maps(1, 2, 3, 3, seed=1)}
    va, vb = values([a], activations)[0], values([b], activations)[0]
    for objective, expected in (
        (a + b, va + vb),
        (a - b, va - vb),
        (-a, -va),
        (3 * a, 3 * va),
        (a * 0.25, 0.25 * va),
        (-2 * (a + 0.5 * b) - a, -3 * va - vb),
        (sum([a, b, b]), va + 2 * vb),
        (a + a, 2 * va),
    ):
        assert values([objective], activations)[0] == pytest.approx(expected, abs=1e-6), str(objective)
    for wrong in (lambda: a + 1, lambda: 1 + a, lambda: a - 2):
        with pytest.raises((TypeError, AttributeError)):
            wrong()


def test_objectives_are_named_by_what_they_show():
    assert str(Channel("alexnet.conv4", 3)) == "channel(alexnet.conv4:3)"
    assert str(Excitation("alexnet.conv4", 3)) == "excitation(alexnet.conv4:3)"
    assert str(Neuron("alexnet.conv4", 3)) == "neuron(alexnet.conv4:3)"
    assert str(-Score()) == "-1 * score"
    assert str(Channel("a", 3) + 0.5 * Channel("b", 7)) == "channel(a:3) + 0.5 * channel(b:7)"


def test_the_names_of_different_objectives_differ():
    """They seed the pictures."""
    names = [
        str(objective)
        for objective in (
            Neuron("a", 3),
            Neuron("a", 3, (0, 0)),
            Neuron("a", 3, (0, 1)),
            Direction("a", [1, 2]),
            Direction("a", [2, 1]),
            Direction("b", [1, 2]),
        )
    ]
    assert len(set(names)) == len(names)


def test_one_name_is_one_objective():
    with pytest.raises(RenderError, match="an objective 'channel' in memviz"):

        class Channel(UnitObjective):
            """Another."""


def test_a_direction_has_length_one_whatever_was_given():
    assert Direction("a", [3.0, 4.0]) == Direction("a", torch.tensor([30.0, 40.0])) == Direction("a", np.array([6, 8]))
    for wrong in ([0.0, 0.0], [1.0, float("nan")], [float("inf"), 1.0], []):
        with pytest.raises(RenderError, match="finite"):
            Direction("a", wrong)


def test_validate_resolves_ordinals_and_refuses_what_is_not_there(small):
    table = small.layers
    assert (2 * Channel("@3", 1) - Score()).validate(table) == 2 * Channel("body.3", 1) - Score()
    for objective, message in (
        (Channel("body.4", 0), r"no layer 'body.4'.*body\.3"),
        (Channel("@9", 0), r"@1 to @3"),
        (Channel("body.3", 5), r"units 0 to 4; given was 5"),
        (Neuron("body.3", -1), r"units 0 to 4; given was -1"),
        (Direction("body.3", [1, 2]), r"5 channels; the direction has 2"),
        (Channel("stem.0", 0) + Channel("body.3", 99), r"given was 99"),
    ):
        with pytest.raises(LayerError, match=message):
            objective.validate(table)


@pytest.mark.parametrize("position", [(7, 0), (0, 4), (-1, 0), (0, -1)])
def test_a_position_outside_of_the_map_is_refused(position):
    with pytest.raises(LayerError, match=r"\(0, 0\) to \(6, 3\).*given was"):
        values([Neuron("a", 0, position)], {"a": maps(1, 2, 7, 4)})


def test_a_network_of_many_outputs_has_no_score():
    with pytest.raises(RenderError, match="10 numbers"):
        values([Score()], {"": maps(1, 10)})
    assert values([Score(), Score()], {"": torch.tensor([3.0, 4.0])}) == [3.0, 4.0]


def test_as_objective():
    assert as_objective(Score()) == Score()
    given = lucent.channel("a", 0)
    assert as_objective(given) == Lucent(given)
    for wrong in ("a:0", 3, None):
        with pytest.raises(RenderError, match="is no objective"):
            as_objective(wrong)


def test_lucents_names(small):
    names = lucent_names(small.module)
    assert resolve_lucent("body_3", names) == "body.3"
    assert resolve_lucent("body.3", names) == "body.3"
    assert resolve_lucent("labels", names) == ""
    with pytest.raises(LayerError, match="body_3"):
        resolve_lucent("body_33", names)


# Lucent's objectives, and over how many pictures: on the network `small`.
_BODY = torch.linspace(-1, 1, 5)
LUCENT = {
    "channel": (lambda: lucent.channel("body_3", 2), 1),
    "channel of a whole batch": (lambda: lucent.channel("body_3", 2), 3),
    "channel of one in a batch": (lambda: lucent.channel("body_3", 2, batch=1), 3),
    "neuron": (lambda: lucent.neuron("stem_0", 1), 1),
    "neuron at a place": (lambda: lucent.neuron("stem_0", 1, x=3, y=5), 1),
    "direction": (lambda: lucent.direction("body_3", _BODY), 1),
    "direction_neuron": (lambda: lucent.direction_neuron("body_3", _BODY), 1),
    "channel_weight": (lambda: lucent.channel_weight("body_3", _BODY), 1),
    "localgroup_weight": (lambda: lucent.localgroup_weight("body_3", _BODY, x=2, y=3, wx=2, wy=4), 1),
    "localgroup_weight of none": (lambda: lucent.localgroup_weight("body_3", x=2, y=3), 1),
    "neuron_weight": (lambda: lucent.neuron_weight("body_3", _BODY), 1),
    "neuron_weight of none": (lambda: lucent.neuron_weight("body_3", None, x=1, y=1), 1),
    "blur_input_each_step": (lambda: lucent.blur_input_each_step(), 1),
    "channel_interpolate": (lambda: lucent.channel_interpolate("stem_0", 1, "body_3", 4), 4),
    "alignment": (lambda: lucent.alignment("body_3"), 3),
    "diversity": (lambda: lucent.diversity("body_3"), 3),
    "labels": (lambda: lucent.channel("labels", 0), 1),
    "sum": (lambda: lucent.channel("body_3", 2) + lucent.neuron("stem_0", 1), 1),
    "multiple": (lambda: 3 * lucent.channel("body_3", 2), 1),
    "negation": (lambda: -lucent.channel("body_3", 2), 1),
    "Objective.sum": (lambda: lucent.Objective.sum([lucent.channel("body_3", 2), lucent.channel("stem_0", 0)]), 1),
    "channel - diversity": (lambda: lucent.channel("body_3", 2) - 0.1 * lucent.diversity("stem_0"), 2),
    "channel - blur": (lambda: lucent.channel("body_3", 2) - 1e-3 * lucent.blur_input_each_step(), 1),
    "a function": (lambda: lambda model: -model("body_3")[:, 0].amax(), 2),
}


def lucents_own(objective, module, pictures):
    """What lucent computes with its own hooks, which it registers as `render_vis` does."""
    hook = hook_model(module, lambda: pictures)
    module(pictures)
    return objective(hook)


@pytest.mark.parametrize("name", LUCENT)
def test_lucents_objective_has_lucents_value_on_the_finished_pictures(small, name):
    make, images = LUCENT[name]
    objective = Lucent(make(), images=images)
    renders = render(small, objective=objective, size=32, steps=3)
    assert renders.images.shape == (images, 3, 32, 32)
    assert len(renders.table) == images
    # In-place ReLUs overwrite what lucent's hooks keep; memviz's are safe, so lucent gets a network without.
    for part in small.module.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False
    loss = float(lucents_own(make(), small.module, renders.images).detach())
    assert renders.table["value"].sum() == pytest.approx(-loss, rel=1e-4, abs=1e-5)
    assert loss != 0


@pytest.mark.parametrize("name", LUCENT)
def test_lucents_objective_improves(small, name):
    """Also those of several pictures, whose gradients go to each of them."""
    make, images = LUCENT[name]
    objective = Lucent(make(), images=images)
    reached = [
        render(
            small, objective=objective, size=32, steps=steps, transforms=None, learning_rate=0.02, refinement=None
        ).table["value"].sum()
        for steps in (1, 12)
    ]  # fmt: skip
    assert reached[1] > reached[0]


def test_dotted_names_are_taken_as_well(small):
    renders = render(small, objective=lucent.channel("body.3", 2), size=16, steps=2)
    with capture(small.module, ["body.3"]) as found, torch.no_grad():
        small.module(renders.images)
    assert renders.table["value"].item() == pytest.approx(found["body.3"][0, 2].mean().item(), abs=1e-5)


def test_lucents_and_ours_draw_together(small):
    ours, theirs = Channel("body.3", 2), lucent.channel("body_3", 2)
    together = render(small, objective=[ours, theirs, Lucent(theirs, images=2)], size=16, steps=5)
    assert len(together) == 4
    for place, objective in enumerate([ours, theirs]):
        alone = render(small, objective=objective, size=16, steps=5)
        torch.testing.assert_close(together.images[place], alone.images[0], rtol=0, atol=1e-4)


def test_an_objective_of_several_pictures_says_so_when_it_gets_one(small):
    with pytest.raises(RenderError, match=r"images=4"):
        render(small, objective=lucent.diversity("body_3"), size=16, steps=2)


def test_a_lucent_objective_of_an_unknown_layer_names_the_close_ones(small):
    with pytest.raises(LayerError, match="body_3"):
        render(small, objective=lucent.channel("body_33", 0), size=16, steps=2)


def test_sum_over_two_layers_equals_the_manual_sum(small):
    objective = Channel("stem.0", 1) - 0.5 * Channel("body.3", 4)
    renders = render(small, objective=objective, size=16, steps=4)
    with capture(small.module, ["stem.0", "body.3"]) as found, torch.no_grad():
        small.module(renders.images)
    expected = found["stem.0"][0, 1].mean() - 0.5 * found["body.3"][0, 4].mean()
    assert renders.table["value"].item() == pytest.approx(expected.item(), abs=1e-5)
    assert isinstance(objective, Objective)
