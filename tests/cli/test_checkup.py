import memviz as library
from memviz.explanation import load_checkup


def test_prints_the_verdict_and_keeps_it_beside_the_index(memviz, index, tiny):
    done = memviz("checkup", tiny, "--index", index, "--weights", "random", "--layer", "alexnet.conv2", "--all")
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines() if line]
    assert lines[0] == ["address", "kind", "weights", "verdict", "start", "std", "clearest", "times_chance"]
    units = lines.index(["address", "units", "photographs", "constant", "silent", "unknown"])
    assert lines[units + 1][0] == "alexnet.conv1"
    effects = [line for line in lines if line[1:2] in (["mean"], ["other"])]
    assert [line[0] for line in effects] == ["alexnet", "alexnet", "resnet", "resnet", "alexnet.conv2", "alexnet.conv2"]
    assert any(line[0] == "alexnet:" for line in lines)
    folder = done.out.splitlines()[-1]
    network = library.load_model(tiny, weights=None).fingerprint()
    assert load_checkup(folder).weights == network
    assert folder.endswith(network[:12])

    table = memviz("layers", tiny, "--checkup", folder)
    assert table.out.splitlines()[0].endswith("finding")


def test_photographs_come_from_one_place(memviz, index, photos, tiny):
    done = memviz("checkup", tiny, "--index", index, "--photos", photos)
    assert done.code == 2
    assert "Give --photos or --index, not both." in done.err


def test_an_index_of_other_weights(memviz, index):
    done = memviz("checkup", "memnet", "--weights", "random", "--index", index)
    assert done.code == 1
    assert "was built with other weights" in done.err
