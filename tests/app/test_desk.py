import threading

import pytest
from serving import QUICK, Held, encoded, picture, until

import memviz
from memviz.app.config import AppConfig
from memviz.app.desk import Desk
from memviz.app.held import Photograph, RefusedError
from memviz.errors import ModelError, StoreError
from memviz.models import InputSpec


@pytest.fixture
def desk(model, index):
    opened = Desk(model, index, AppConfig(explain=QUICK, queue=3))
    yield opened
    opened.close()


def given(desk, content=None, client="here"):
    photograph = Photograph("a.png", encoded() if content is None else content, client)
    desk.receive(photograph)
    return photograph


def scored(desk, **options):
    photograph = given(desk, **options)
    until(lambda: photograph.state != "waiting")
    return photograph


def test_what_is_kept_of_an_explained_photograph(desk):
    photograph = scored(desk)
    desk.explain(photograph)
    until(lambda: photograph.state == "explained")
    assert photograph.content == b""
    assert photograph.explanation.picture is None
    assert photograph.map.startswith(b"\x89PNG")
    assert photograph.small.startswith(b"\xff\xd8")
    assert photograph.done == photograph.passes == 9
    assert photograph.size < 100_000


def test_comments_of_a_photograph_are_not_passed_on(desk):
    exif = picture().getexif()
    exif[0x010E] = "who took it"
    photograph = scored(desk, content=encoded(kind="JPEG", exif=exif, comment=b"and where"))
    assert b"who took it" in photograph.content
    assert b"who took it" not in photograph.small
    assert b"and where" not in photograph.small


def test_who_waits_is_told_the_place_and_may_leave(desk):
    desk._explainer = held = Held(desk._explainer)
    first, second, third = (scored(desk) for _ in range(3))
    for each in (first, second, third):
        desk.explain(each)
        desk.explain(each)  # asked for twice, it stands there once
        until(lambda: first.state == "explaining")
    assert [desk.position(each) for each in (first, second, third)] == [0, 1, 2]
    desk.cancel(second)
    assert (second.state, desk.position(third)) == ("cancelled", 1)
    desk.cancel(first)
    until(lambda: held.ended)
    held.go.set()
    until(lambda: third.state == "explained")
    assert first.state == second.state == "cancelled"
    desk.explain(first)  # and may come again
    until(lambda: first.state == "explained")


def test_queues_are_bounded(desk):
    desk._explainer = held = Held(desk._explainer)
    photographs = [scored(desk, client=f"{number}") for number in range(5)]
    desk.explain(photographs[0])
    until(held.began.is_set)
    for each in photographs[1:4]:
        desk.explain(each)
    with pytest.raises(RefusedError, match="Too many") as refused:
        desk.explain(photographs[4])
    assert refused.value.status == 503


def test_what_has_no_score_cannot_be_explained(desk):
    photograph = scored(desk, content=b"nothing")
    assert (photograph.state, photograph.kind, photograph.content) == ("unreadable", "format", b"")
    with pytest.raises(RefusedError) as refused:
        desk.explain(photograph)
    assert refused.value.status == 409


def test_a_failure_is_told_and_the_next_one_goes_on(desk, caplog):
    class Broken:
        def explain(self, *_):
            raise RuntimeError("secret a.png")

    first, second = scored(desk), scored(desk)
    explainer, desk._explainer = desk._explainer, Broken()
    desk.explain(first)
    until(lambda: first.state == "failed")
    assert "secret" not in first.reason
    assert "secret" in caplog.text
    desk._explainer = explainer
    desk.explain(second)
    until(lambda: second.state == "explained")


def test_a_failure_while_it_is_read_is_told_as_well(desk, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("memviz.app.desk.decode_image", fail)
    assert scored(desk).state == "failed"


def test_closing_ends_all_threads(model, index):
    before = threading.active_count()
    desk = Desk(model, index, AppConfig(explain=QUICK))
    desk._explainer = held = Held(desk._explainer)
    desk.explain(scored(desk))
    until(held.began.is_set)
    desk.close()
    until(lambda: threading.active_count() <= before)


def test_the_model_stays_as_it_is_and_fifty_photographs_leave_nothing(model, desk):
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    training = [each.training for each in model.module.modules()]
    for number in range(50):
        photograph = scored(desk, content=encoded(picture(number)))
        assert photograph.state == "scored"
    assert all(before[name].equal(value) for name, value in model.module.state_dict().items())
    assert training == [each.training for each in model.module.modules()]
    assert desk._unscored == []


def test_a_model_without_a_score_and_an_index_of_others_are_refused(model, index):
    plain = memviz.wrap(model.module, InputSpec(size=(32, 32)))
    with pytest.raises(ModelError, match="has no score"):
        Desk(plain, None, AppConfig())
    other = memviz.wrap(type(model.module)().eval(), model.inputs, target="memorability")
    other.module.last.weight.data[0, 0] = 2
    with pytest.raises(StoreError):
        Desk(other, index, AppConfig())
    with pytest.raises(ModelError, match="body=0"):
        AppConfig(body=0)


def test_without_an_index_there_is_no_percentile(model):
    desk = Desk(model, None, AppConfig(explain=QUICK))
    try:
        photograph = scored(desk)
        assert (photograph.percentile, photograph.ranked) == (None, 0)
        desk.explain(photograph)
        until(lambda: photograph.state == "explained")
        assert photograph.explanation.references.source == "package"
    finally:
        desk.close()
