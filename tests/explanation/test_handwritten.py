import csv
import io

import pytest

from memviz.errors import LabelError
from memviz.explanation.handwritten import Entry, add_entries, read_entries
from memviz.layers import Layer, LayerTable
from memviz.layers.unit import Unit

LAYERS = LayerTable(
    Layer(address, "Conv2d", 8, 1, 1, None, None, None, ordinal, False)
    for address, ordinal in (("net.a", "net@1"), ("net.b", "net@2"))
)
HARD = [
    "plain",
    'a "quoted", comma',
    "two\nlines",
    "cr\r\nlf",
    "Fußball ⚽ 犬",
    "  spaces  ",
    "semi;colon",
    "=1+1",
    "none",
]


def read(path):
    return list(read_entries(path, LAYERS).values())


@pytest.mark.parametrize("text", HARD)
def test_round_trip(tmp_path, text):
    wanted = [Entry(Unit("net.a", 3), text, text, text), Entry(Unit("net.b", 0), "other")]
    add_entries(tmp_path / "labels.csv", wanted)
    found = read(tmp_path / "labels.csv")
    assert [(each.unit, each.label, each.by, each.note) for each in found] == [
        (each.unit, each.label, each.by, each.note) for each in wanted
    ]


def test_another_reader_of_csv_reads_the_same(tmp_path):
    add_entries(tmp_path / "labels.csv", [Entry(Unit("net.a", n), text) for n, text in enumerate(HARD[:8])])
    text = (tmp_path / "labels.csv").read_bytes().decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["label"] for row in rows] == HARD[:8]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_what_a_person_wrote_stays_as_it_is(tmp_path, end):
    path = tmp_path / "labels.csv"
    before = f'label;unit;mood;note\n"a;b";net@2:4;good;\n\n;net.a:1;;"not\nyet"{end}'
    path.write_bytes(before.encode())
    add_entries(path, [Entry(Unit("net.a", 7), "x;y", note="new")])
    assert path.read_bytes().decode("utf-8-sig").startswith(before)
    assert [(str(each.unit), each.label, each.note, each.line) for each in read(path)] == [
        ("net.b:4", "a;b", "", 2),
        ("net.a:1", "", "not\nyet", 4),
        ("net.a:7", "x;y", "new", 6),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv"]


def test_columns_that_new_labels_need(tmp_path):
    (tmp_path / "labels.csv").write_text("unit,label\n")
    with pytest.raises(LabelError, match="has no column by"):
        add_entries(tmp_path / "labels.csv", [Entry(Unit("net.a", 7), "x", by="AN")])


def test_toml(tmp_path):
    path = tmp_path / "labels.toml"
    path.write_text(
        """# my labels
[[label]]
unit = "net@1:5"
label = 'dog "faces"'
by = "AN"  # me
note = '''
[[label]]
unit = "of a text"
'''
[[ label ]]
label = "Fußball"
unit = "net.b:0"
"""
    )
    one, two = read(path)
    assert one == Entry(Unit("net.a", 5), 'dog "faces"', "AN", '[[label]]\nunit = "of a text"\n', 2)
    assert two == Entry(Unit("net.b", 0), "Fußball", line=10)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty. Begin with unit,label,by,note"),
        ("unit,name\nnet.a:1,x\n", "line 1: there is no column 'label'"),
        ("unit,label,label\n", "line 1: the column 'label' occurs twice"),
        ("unit,label\nnet.c:1,x\n", "line 2: There is no layer 'net.c'. Close names: net.b, net.a"),
        ("unit,label\nnet.a:8,x\n", "line 2: net.a has units 0 to 7; given was 8"),
        ("unit,label\n\nnet.a,x\n", "line 3: 'net.a': write a unit as address:channel"),
        ("unit,label\nnet@3:1,x\n", "line 2: There is no layer 'net@3'. Its convolutions are net@1 to net@2."),
        ('unit,label\nnet.a:1,"x\ny"\nnet@1:1,z\n', "line 4: net.a:1 was labelled in line 2 already"),
        ("unit,label\nnet.a:1,x,y\n", "line 2: 3 cells, where line 1 has 2 columns"),
        ('unit,label\nnet.a:1,"x\n', "line 2: .*Write a quote in a text as two double quotes"),
        ('unit,label\nnet.a:1,"x"y\n', "line 2: "),
    ],
)
def test_broken_csv(tmp_path, text, message):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(LabelError, match=message):
        read(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[label]]\nunit = "net.a:1\n', "is no TOML file: .*line 2"),
        ('[[labels]]\nunit = "net.a:1"\n', "'labels' is unknown. Begin each label with"),
        ('[label]\nunit = "net.a:1"\n', "begin each label with"),
        ('label = [{unit = "net.a:1", label = "x"}]\n', "begin each label with a line"),
        ('\n[[label]]\nunit = "net.a:1"\n', "line 2: the label is missing"),
        ('[[label]]\nunit = "net.a:1"\nlabels = "x"\n', "line 1: 'labels' is unknown. Close names: label"),
        ('[[label]]\nunit = "net.a:1"\nlabel = 5\n', "line 1: label = 5 is no text"),
        (
            '[[label]]\nunit = "net.a:1"\nlabel = "x"\n[[label]]\nunit = "net.a:1"\nlabel = "y"\n',
            "line 4: net.a:1 was labelled in line 1 already",
        ),
    ],
)
def test_broken_toml(tmp_path, text, message):
    (tmp_path / "labels.toml").write_text(text)
    with pytest.raises(LabelError, match=message):
        read(tmp_path / "labels.toml")


def test_what_is_no_text(tmp_path):
    (tmp_path / "labels.csv").write_bytes("unit,label\nnet.a:1,Füße\n".encode("latin-1"))
    with pytest.raises(LabelError, match="is not in UTF-8"):
        read(tmp_path / "labels.csv")
    with pytest.raises(LabelError, match=r"labels are in a \.csv or a \.toml file"):
        read(tmp_path / "labels.xlsx")
    with pytest.raises(LabelError, match="No such file"):
        read(tmp_path / "none.csv")
