from memviz.explanation import load_drivers


def test_ranks_the_units_and_keeps_them_in_the_index(memviz, index, tiny):
    done = memviz("drivers", tiny, "--index", index, "--weights", "random", "--layer", "alexnet.conv2", "--count", 2)
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines() if line]
    assert lines[0] == ["address", "channel", "name", "drive", "strength", "contribution", "sd", "consistency"]
    rows = [line for line in lines if line[0] == "alexnet.conv2"]
    drives = [float(row[2]) for row in rows]
    assert drives == sorted(drives, reverse=True)
    folder = done.out.splitlines()[-1]
    found = load_drivers(folder)
    assert folder == str(index / "drivers" / "200-0")
    assert found.photographs == 12
    assert "12 photographs" in done.out


def test_an_unwatched_layer(memviz, index, tiny):
    done = memviz("drivers", tiny, "--index", index, "--weights", "random", "--layer", "alexnet.conv9")
    assert done.code == 1
    assert "the index does not watch it" in done.err


def test_an_index_of_other_weights(memviz, index):
    done = memviz("drivers", "memnet", "--weights", "random", "--index", index)
    assert done.code == 1
    assert "was built with other weights" in done.err
