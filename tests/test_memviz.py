import subprocess
import sys
import types

import pytest

import memviz

PUBLIC = {
    "AccentuateConfig", "accentuate", "drivers",
    "Depth", "DepthConfig", "depth",
    "ExplainConfig", "Explanation", "explain",
    "Checkup", "Index", "InputSpec", "MemvizError", "Model", "RenderConfig", "Renders", "Report", "Runtime", "Start",
    "Teacher", "build_index", "checkup", "evaluate", "build_gallery", "list_models", "load_index", "load_model",
    "build_site", "label_units",
    "Quality", "QualityConfig", "quality",
    "notebook", "objectives", "render", "make_gallery", "sample_photos", "train", "wrap", "TrainConfig", "TrainingJob",
}  # fmt: skip
HEAVY = (
    "torch", "torchvision", "lucent", "numpy", "pandas", "matplotlib", "skimage", "sklearn", "resmem", "rich",
    "pytorch_lightning", "torchmetrics", "optuna", "wandb", "tensorboard", "anywidget",
)  # fmt: skip


def python(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_import_is_light():
    loaded = python(f"import sys, memviz; print([name for name in {HEAVY} if name in sys.modules])")
    assert loaded.strip() == "[]"


@pytest.mark.parametrize("command", ["", "train"])
def test_help_is_light(command):
    """Only typer's own rich is loaded."""
    code = (
        "import contextlib, io, sys; from memviz.cli import main\n"
        f"sys.argv = ['memviz', *{command!r}.split(), '--help']\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main()\n"
        f"print([name for name in {HEAVY} if name in sys.modules and name != 'rich'])"
    )
    assert python(code).strip() == "[]"


def test_models_are_explored_without_what_trains_them():
    loaded = python(
        "import sys, memviz; memviz.load_model; memviz.render; memviz.evaluate\n"
        "print([name for name in ('pytorch_lightning', 'torchmetrics', 'optuna', 'wandb') if name in sys.modules])"
    )
    assert loaded.strip() == "[]"


def test_public_names():
    assert set(memviz.__all__) == PUBLIC == set(dir(memviz))


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_name_loads_and_says_what_it_is(name):
    value = getattr(memviz, name)
    assert callable(value) or isinstance(value, types.ModuleType)
    assert value.__doc__


def test_all_of_it_in_a_fresh_interpreter():
    """A call must not depend on which part was imported first; nothing is printed, warned or set globally."""
    printed = python(
        "import memviz, memviz.rendering.engine, memviz.gallery.page\n"
        "assert callable(memviz.render) and callable(memviz.build_gallery)\n"
        "from memviz import *\n"
        "import torch\n"
        "assert callable(render) and callable(build_gallery) and InputSpec is memviz.InputSpec\n"
        "assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()\n"
        "print(list_models())"
    )
    assert printed == "['resmem', 'resmem-retrain', 'falseresmem', 'memnet', 'm3m', 'memnet-caffe']\n"


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'rendre'"):
        memviz.rendre  # noqa: B018
