import time

import pytest

from memviz.app.config import AppConfig
from memviz.app.held import Held, Photograph, RefusedError


def photograph(size=10, state="scored", client="a"):
    return Photograph("a.png", b"0" * size, client, state=state)


def later(monkeypatch, seconds):
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + seconds)


def test_batches_are_found_by_names_that_nobody_guesses():
    held = Held(AppConfig())
    first, second = held.add([photograph()]), held.add([photograph()])
    assert first.name != second.name
    assert len(first.name) >= 22  # of base64: 128 bits
    assert held.add([photograph()], first.name) is first
    assert len(held.get(first.name).photographs) == 2
    held.forget(first.name)
    for ask in (held.get, lambda name: held.add([photograph()], name)):
        with pytest.raises(RefusedError) as refused:
            ask(first.name)
        assert refused.value.status == 404


def test_closed_pages_are_cancelled_and_then_forgotten(monkeypatch):
    held = Held(AppConfig(grace_seconds=10, kept_seconds=100))
    working, finished, watched = photograph(state="explaining"), photograph(), photograph(state="explaining")
    batch = held.add([working, finished])
    with held.add([watched]).watched():
        assert held.abandoned() == []
        later(monkeypatch, 11)
        assert held.abandoned() == [working]
        assert held.get(batch.name)  # which somebody looks at again
        assert held.abandoned() == []
        later(monkeypatch, 200)
        assert held.abandoned() == [working]
        with pytest.raises(RefusedError):
            held.get(batch.name)
    assert held.size == 10


def test_room_is_made_of_what_is_finished_and_closed_the_oldest_first(monkeypatch):
    held = Held(AppConfig(held=100, grace_seconds=10))
    old = held.add([photograph(40)])
    later(monkeypatch, 1)
    busy = held.add([photograph(30, "queued")])
    with pytest.raises(RefusedError) as refused:
        held.add([photograph(50)])
    assert refused.value.status == 503
    later(monkeypatch, 20)
    new = held.add([photograph(50)])
    assert held.size == 80
    assert held.get(busy.name)
    assert held.get(new.name)
    with pytest.raises(RefusedError):
        held.get(old.name)


def test_a_client_has_so_many_at_a_time():
    held = Held(AppConfig(per_client=3))
    held.add([photograph(state="waiting") for _ in range(2)])
    held.add([photograph(state="waiting", client="b") for _ in range(3)])
    with pytest.raises(RefusedError, match="2 of your photographs") as refused:
        held.add([photograph(state="waiting") for _ in range(2)])
    assert refused.value.status == 429
    held.add([photograph()])
