import pytest

from memviz import errors
from memviz.errors import MemvizError, did_you_mean, shown

CLASSES = {
    name: value for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)
}


@pytest.mark.parametrize("name", CLASSES)
def test_all_are_memviz_errors_and_drawn_in_the_tree(name):
    assert issubclass(CLASSES[name], MemvizError)
    assert CLASSES[name].__doc__
    assert f"{name} " in errors.__doc__ or f"{name}\n" in errors.__doc__


def test_the_tree_draws_nothing_else():
    drawn = {word for word in errors.__doc__.split() if word.endswith("Error")}
    assert drawn == set(CLASSES)


@pytest.mark.parametrize(
    ("name", "builtin"),
    [("LayerError", LookupError), ("ImageError", ValueError), ("LabelError", ValueError), ("RecipeError", ValueError)],
)
def test_are_also_what_python_would_raise(name, builtin):
    assert issubclass(CLASSES[name], builtin)


def test_weights_errors_are_model_errors():
    assert issubclass(errors.WeightsError, errors.ModelError)


@pytest.mark.parametrize(
    ("given", "valid", "expected"),
    [
        ("resmen", ["memnet", "resmem", "m3m"], "Close names: resmem, memnet."),
        ("xyz", ["memnet", "resmem"], "Valid names: memnet, resmem."),
        ("xyz", [f"a{i}" for i in range(9)], "Valid names: a0, a1, a2, a3, a4 ...."),
        ("xyz", (name for name in ("a", "b")), "Valid names: a, b."),
    ],
)
def test_did_you_mean(given, valid, expected):
    assert did_you_mean(given, valid) == expected


def test_shown_writes_no_value_out_of_bounds():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "a value that is nested too deeply"
    assert shown(10**10_000) == "a number of thousands of digits"
    assert shown("x" * 1_000) == "'" + "x" * 99 + "..."
    assert shown([1, "a"]) == "[1, 'a']"
