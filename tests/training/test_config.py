import pytest

from memviz.errors import TrainingError
from memviz.training.config import Runtime, TrainConfig


def test_a_file_and_changes_over_it(tmp_path):
    (tmp_path / "run.toml").write_text("momentum = 0\nepochs = 3\nfractions = [0.5, 0.25, 0.25]\nflip = false\n")
    read = TrainConfig.read(tmp_path / "run.toml", ["epochs=7", " learning_rate = 1e-3 ", "initialization=torch"])
    assert read == TrainConfig(
        momentum=0.0, epochs=7, fractions=(0.5, 0.25, 0.25), flip=False, learning_rate=1e-3, initialization="torch"
    )
    assert TrainConfig.read(tmp_path / "run.toml").epochs == 3


def test_nothing_given_is_the_default():
    assert TrainConfig.read() == TrainConfig()


def test_values_have_the_type_of_their_default():
    """A mapping from JSON or TOML gives what the constructor would: types decide whether two runs are the same."""
    read = TrainConfig.from_dict({"learning_rate": 1, "steps_per_epoch": 5, "fractions": [0.5, 0.5, 0]})
    assert (read.learning_rate, type(read.learning_rate)) == (1.0, float)
    assert read.steps_per_epoch == 5
    assert read.fractions == (0.5, 0.5, 0)
    assert type(TrainConfig.read(changes=["weight_decay=0"]).weight_decay) is float


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(),
        TrainConfig(steps_per_epoch=2, fractions=(0.6, 0.4, 0.0)),
        TrainConfig(recipe="paper", branch_gradient_scale=100.0),
    ],
)
def test_round_trip(config):
    assert TrainConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("learning_rat=1", r"no setting 'learning_rat'. Close names: learning_rate"),
        ("epochs", r"'epochs': write name=value"),
        ("epochs=2.5", r"epochs must be of the kind of 20; given was 2.5"),
        ("epochs=0", r"epochs must be 1 or more; given was 0"),
        ("epochs=many", r"epochs must be of the kind"),
        ("steps_per_epoch=half", r"steps_per_epoch"),
        ("steps_per_epoch=0", r"steps_per_epoch must be 1 or more"),
        ("flip=1", r"flip must be of the kind"),
        ("flip=yes", r"flip must be of the kind"),
        ("seed=true", r"seed must be of the kind of 0; given was True"),
        ("seed=9223372036854775808", r"seed must be a whole number of 64 bits; given was 9223372036854775808"),
        ("seed=-9223372036854775809", r"seed must be"),
        ("learning_rate=true", r"learning_rate must be of the kind"),
        ("learning_rate=0", r"learning_rate must be above 0"),
        ("learning_rate=nan", r"learning_rate must be above 0"),
        ("learning_rate=inf", r"learning_rate must be above 0"),
        ("momentum=1", r"momentum must be from 0 to below 1"),
        ("weight_decay=-1", r"weight_decay must be 0 or more"),
        ("weight_decay=nan", r"weight_decay must be 0 or more"),
        ("branch_gradient_scale=10", r"belongs to recipe=paper, and the steps of adamw hardly .*; given was 10\.0"),
        ("branch_gradient_scale=0", r"branch_gradient_scale must be above 0"),
        ("branch_gradient_scale=-1", r"branch_gradient_scale must be above 0"),
        ("branch_gradient_scale=nan", r"branch_gradient_scale must be above 0"),
        ("branch_gradient_scale=inf", r"branch_gradient_scale must be above 0"),
        ("branch_gradient_scale=much", r"branch_gradient_scale must be of the kind of 1\.0; given was 'much'"),
        ("initialization=xavier", r"initialization must be one of he, normalized, torch; given was 'xavier'"),
        ("selection=best", r"selection must be one of mse, paper; given was 'best'"),
        ("fractions=[0.5, 0.5]", r"fractions must be three that make 1"),
        ("fractions=[1.0, 0.0, 0.0]", r"fractions must be three that make 1, for training and validation above 0"),
        ("fractions=[0.8, 0.3, -0.1]", r"fractions must be three that make 1"),
        ('fractions=["a", "b", "c"]', r"fractions"),
        ("fractions=0.8", r"fractions must be of the kind"),
    ],
)
def test_what_is_refused(change, message):
    with pytest.raises(TrainingError, match=message):
        TrainConfig.read(changes=[change])


def test_gradients_are_scaled_where_their_size_counts():
    read = TrainConfig.read(changes=["branch_gradient_scale=10", "recipe=paper"])
    assert (read.branch_gradient_scale, type(read.branch_gradient_scale)) == (10, float)
    with pytest.raises(TrainingError, match="the steps of lars hardly depend"):
        TrainConfig(recipe="lars", branch_gradient_scale=10.0)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(TrainingError, match=r"missing\.toml: No such file"):
        TrainConfig.read(tmp_path / "missing.toml")
    (tmp_path / "bad.toml").write_text("epochs: 3")
    with pytest.raises(TrainingError, match=r"bad\.toml is not a TOML file"):
        TrainConfig.read(tmp_path / "bad.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xe9t\xe9\nepochs = 3\n")
    with pytest.raises(TrainingError, match=r"latin\.toml is not a TOML file"):
        TrainConfig.read(tmp_path / "latin.toml")


@pytest.mark.parametrize("wrong", [{"devices": 0}, {"nodes": 0}, {"workers": 0}, {"logger": "mlflow"}])
def test_runtime(wrong):
    with pytest.raises(TrainingError, match=f"{next(iter(wrong))} must be .*; given was"):
        Runtime(**wrong)
