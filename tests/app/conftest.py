from contextlib import ExitStack

import pytest
from serving import QUICK, App, Held, Reddish, picture, served

import memviz
from memviz.app import AppConfig, create_app
from memviz.models import InputSpec


@pytest.fixture
def model():
    spec = InputSpec(size=(32, 32), resize=32)
    named = {"fc": ["red", "green", "blue"]}
    return memviz.wrap(Reddish().eval(), spec, "reddish", target="memorability", named=named)


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "index photographs"
    folder.mkdir()
    for number in range(8):
        picture(30 * number, seed=number).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def index(model, photographs, tmp_path):
    return memviz.build_index(model, photographs, out=tmp_path / "index", progress=False)


@pytest.fixture
def site(index, tmp_path):
    return memviz.build_site(index, out=tmp_path / "site", progress=False).parent


@pytest.fixture
def start(model, index):
    """Starts applications, which end with the test."""
    with ExitStack() as stack:

        def begin(**options):
            limits = {"explain": QUICK} | options.pop("limits", {})
            app = create_app(model, **{"index": index, "config": AppConfig(**limits)} | options)
            running = App(app, stack.enter_context(served(app)))
            stack.callback(running.client.close)
            return running

        yield begin


@pytest.fixture
def hold():
    """Holds up the explanations of an application."""

    def of(app):
        app.desk._explainer = Held(app.desk._explainer)
        return app.desk._explainer

    return of
