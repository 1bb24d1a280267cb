import memviz as library


def test_prints_the_watched_layers(memviz, tiny):
    done = memviz("layers", tiny)
    header, *lines = [line.split() for line in done.out.splitlines()]
    watched = library.load_model(tiny, weights=None).layers.watched()
    assert done.code == 0
    assert header == ["address", "kind", "ordinal", "channels", "output", "stride", "receptive", "field"]
    assert [line[0] for line in lines] == [layer.address for layer in watched]
    assert ["alexnet.conv2", "Conv2d", "alexnet@2", "4", "8x8", "4", "7x7"] in lines
    assert ["resnet.layer3.20", "Block", "(block)", "4", "16x16", "2", "17x17"] in lines
    assert "--all shows every module" in done.err


def test_all_prints_every_module(memviz, tiny):
    done = memviz("layers", tiny, "--all")
    lines = [line.split() for line in done.out.splitlines()[1:]]
    everything = library.load_model(tiny, weights=None).layers
    assert [line[0] for line in lines] == [layer.address for layer in everything]
    assert ["head", "Linear", "1", "1x1", "all"] in lines
    assert done.err == ""


def test_the_published_architectures_need_no_weights(memviz):
    """Before 500 MB are read, one may look which layers there are."""
    done = memviz("layers", "memnet")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines()[1:]] == [f"alexnet.conv{i}" for i in range(1, 6)]


def test_models(memviz):
    done = memviz("models")
    assert done.code == 0
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == library.list_models()
    assert "non-commercial" in lines[1].lower()
    assert "give a file" in lines[4]


def test_what_is_known_of_published_weights_is_said(memviz):
    done = memviz("layers", "resmem")
    assert "alexnet of the published weights: weights at their random start; no effect on the score." in done.err
    assert "published weights" not in memviz("layers", "memnet").err
