from memviz.explanation import load_ablations, load_drivers
from memviz.explanation.labels import labels_folder
from memviz.index import load_index


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


def test_tells_the_units_labels(memviz, index, tiny):
    folder = labels_folder(load_index(index))
    folder.mkdir(parents=True)
    rows = [f"alexnet.conv2:{channel},thing {channel}" for channel in range(4)]
    (folder / "labels.csv").write_text("\n".join(["unit,label", *rows]))
    command = ["drivers", tiny, "--index", index, "--weights", "random", "--count", 4, "--layer"]
    lines = memviz(*command, "alexnet.conv2").out.splitlines()
    assert lines[0].split()[-1] == "label"
    told = [line for line in lines if line.startswith("alexnet.conv2")]
    assert told
    assert all(line.endswith(f"  thing {line.split()[1]} (person)") for line in told)
    assert "label" not in memviz(*command, "alexnet.conv1").out.splitlines()[0]


def test_an_unwatched_layer(memviz, index, tiny):
    for option in ("--layer", "--ablate"):
        done = memviz("drivers", tiny, "--index", index, "--weights", "random", option, "alexnet.conv9")
        assert done.code == 1
        assert "alexnet.conv9" in done.err
        assert "alexnet.conv2" in done.err
    assert not (index / "drivers").exists()  # told before the work


def test_units_are_replaced_and_it_is_printed_and_kept(memviz, index, tiny):
    command = [
        "drivers",
        tiny,
        "--index",
        index,
        "--weights",
        "random",
        "--ablate-photographs",
        12,
        "--ablate-units",
        1,
    ]
    done = memviz(*command, "--ablate", "resnet.layer3.20", "--ablate", "resnet@1")
    assert done.code == 0, done.err
    assert "resnet.layer3.20: 3 units replaced on 12 photographs" in done.out
    assert "the strongest units' effect is" in done.out
    kept = load_ablations(load_drivers(done.out.splitlines()[-1]))
    assert [each.address for each in kept] == ["resnet.conv1", "resnet.layer3.20"]
    assert str(kept[1]) in done.out


def test_an_index_of_other_weights(memviz, index):
    done = memviz("drivers", "memnet", "--weights", "random", "--index", index)
    assert done.code == 1
    assert "was built with other weights" in done.err
