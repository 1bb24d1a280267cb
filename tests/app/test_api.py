import math
import tempfile
import time

import httpx
import pytest
from PIL import Image
from serving import encoded, picture, until, upload

import memviz


def test_scores_are_those_of_the_model_with_percentiles_of_the_index(start, model, tmp_path):
    app = start()
    contents = [encoded(picture(red), kind) for red, kind in ((10, "PNG"), (120, "JPEG"), (250, "PNG"))]
    rows = app.post("/api/score", *contents).json()
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.png").write_bytes(content)
    truth = model.score([tmp_path / f"{number}.png" for number in range(3)])["memorability"]
    assert [row["score"] for row in rows] == pytest.approx(truth.tolist(), rel=1e-6)
    assert [row["percentile"] for row in rows] == [100 * 1 / 8, 100 * 5 / 8, 100.0]
    assert {(row["target"], row["ranked"], row["error"]) for row in rows} == {("memorability", 8, None)}
    assert app.held.size == 0


def test_an_explanation_is_that_of_the_library(start, model, index, tmp_path):
    app = start()
    (tmp_path / "a.png").write_bytes(encoded())
    answer = app.post("/api/explain", encoded(), names=["a.png"]).json()
    (found,) = memviz.explain(model, tmp_path / "a.png", index, config=app.desk.config.explain)
    mine, its = answer["explanation"], found.to_dict()
    assert mine["sha256"] == its["sha256"]
    assert math.isclose(mine["total"], its["total"], rel_tol=1e-5)
    assert [each["unit"] for each in mine["layers"][0]["raising"]] == [each.unit for each in found.layers[0].raising]
    assert answer["map"].startswith("iVBOR")
    assert app.held.size == 0


def test_of_several_the_bad_ones_are_told(start):
    rows = start().post("/api/score", encoded(), b"text", encoded()[:-60]).json()
    assert [row["score"] is None for row in rows] == [False, True, True]
    assert "not a picture" in rows[1]["error"]
    assert "damaged" in rows[2]["error"] or "truncated" in rows[2]["error"]


def bomb():
    return encoded(Image.new("1", (20_000, 20_000)))


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"GIF89a", 422, ""),
        (b"%PDF-1.4 not a picture", 415, "not a picture"),
        (b"", 422, "empty"),
        (encoded()[:-60], 422, ""),
        (bomb(), 422, "too large"),
    ],
    ids=["header only", "PDF", "empty", "broken off", "bomb"],
)
def test_what_cannot_be_read_is_refused_with_the_reason(start, content, status, said):
    answer = start().post("/api/score", content)
    assert answer.status_code in ((415, 422) if not said else (status,))
    assert said in answer.json()["detail"]


def test_what_is_no_form_is_refused(start):
    app = start()
    assert app.client.post("/api/score", content=encoded()).status_code == 415
    assert app.client.post("/api/score", files={"other": ("a.png", encoded())}).status_code == 422
    assert app.client.post("/api/score", files={"photograph": (None, "text")}).status_code == 422
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert app.client.post("/api/score", content=b"--x\r\nnonsense", headers=broken).status_code == 422
    missing = {"content-type": "multipart/form-data"}
    assert app.client.post("/api/score", content=b"", headers=missing).status_code == 422
    assert app.post("/api/explain", encoded(), encoded()).status_code == 422
    many = start(limits={"files": 2})
    assert many.post("/api/score", *[encoded()] * 3).status_code == 422


@pytest.mark.parametrize("path", ["/api/score", "/api/explain", "/photographs"])
@pytest.mark.parametrize("told", [True, False])
def test_what_is_too_large_is_refused_while_it_comes(start, path, told):
    app = start(limits={"body": 100_000})
    sent = 0

    def body():
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="photograph"; filename="a"\r\n\r\n'
        for _ in range(1000):
            sent += 10_000
            yield b"0" * 10_000

    headers = {"content-type": "multipart/form-data; boundary=x"} | ({"content-length": "10000067"} if told else {})
    try:
        answer = app.client.post(path, content=body(), headers=headers)
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        pass  # the connection may be closed before all is sent
    else:
        assert answer.status_code == 413
        assert "0.1 MB" in answer.json()["detail"]
    assert sent < 10_000_000 or not told
    assert app.held.size == 0
    assert app.get("/health").json() == {"status": "ok"}


def test_slow_bodies_are_ended(start):
    app = start(limits={"silence_seconds": 0.3})

    def body():
        yield b"--x\r\n"
        time.sleep(2)
        yield b"--x--\r\n"

    answer = app.client.post("/api/score", content=body(), headers={"content-type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 408


def test_bodies_that_are_read_at_one_time_are_bounded(start):
    app = start(limits={"body": 1000_000, "bodies": 1500_000})
    form = b"content-type: multipart/form-data; boundary=x"
    with app.raw(b"POST /api/score", form, b"content-length: 900000") as waiting:
        waiting.sendall(b"--x")
        until(lambda: app.post("/api/score", encoded()).status_code == 200)
        with app.raw(b"POST /api/score", form, b"content-length: 900000") as refused:
            answer = refused.recv(1000).lower()
    assert answer.startswith(b"http/1.1 503")
    assert b"retry-after" in answer
    assert app.post("/api/score", encoded()).status_code == 200  # and is given back


def test_uploads_that_are_broken_off_leave_nothing(start):
    app = start(limits={"body": 1000_000, "bodies": 1500_000})
    form = b"content-type: multipart/form-data; boundary=x"
    for number in range(50):
        with app.raw(b"POST /api/score", form, b"content-length: 900000") as leaving:
            leaving.sendall(b"--x\r\n" + b"0" * (1000 * number))
    until(lambda: app.post("/api/score", encoded()).status_code == 200)
    with app.raw(b"POST /api/score", form, b"content-length: 900000"):
        assert app.post("/api/score", encoded()).status_code == 200
    assert app.held.size == 0


def test_clients_queues_and_memory_are_bounded(start, hold):
    app = start(limits={"explanations_per_client": 1, "per_client": 4, "queue": 1})
    held = hold(app)
    first = app.give(encoded())
    until(held.began.is_set)
    second, third = (app.give(encoded()) for _ in range(2))
    until(lambda: app.batch(second).photographs[0].state == "queued")
    until(lambda: app.batch(third).photographs[0].state == "scored")  # there is no room in the queue
    refused = app.client.post(f"{third}/0/explain", headers={"accept": "application/json"})
    assert refused.status_code == 429
    assert refused.headers["retry-after"]
    assert app.post("/api/score", *[encoded()] * 3).status_code == 429
    held.go.set()
    until(lambda: app.batch(first).photographs[0].state == "explained")
    small = start(limits={"held": 1000})
    answer = small.post("/api/score", encoded(picture(size=(200, 200))))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")


def test_an_explanation_ends_with_its_connection(start, hold):
    app = start()
    held = hold(app)
    with pytest.raises(httpx.ReadTimeout), httpx.Client(base_url=app.base, timeout=1) as client:
        client.post("/api/explain", files=upload(encoded()))
    until(lambda: held.ended)
    assert app.held.size == 0


def test_nothing_that_is_uploaded_is_written_to_disk(start, tmp_path, monkeypatch):
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    touched = []
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", lambda self: touched.append(self))
    large = encoded(Image.effect_noise((1500, 1500), 80).convert("RGB"))
    assert len(large) > 1024 * 1024  # where Starlette would begin to
    assert start().post("/api/score", large).status_code == 200
    assert list(spool.iterdir()) == []
    assert touched == []


def test_the_description_names_both_requests_and_loads_nothing_from_elsewhere(start):
    app = start()
    described = app.get("/openapi.json").json()
    assert {"/api/score", "/api/explain"} == set(described["paths"])
    schema = described["paths"]["/api/score"]["post"]
    assert "photograph" in schema["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert {"200", "413", "415", "422", "429", "503"} <= set(schema["responses"])
    assert app.get("/docs").status_code == 404
    assert "curl -F photograph=@one.jpg" in app.get("/api").text


def test_many_at_once_all_get_their_own_score(start):
    from concurrent.futures import ThreadPoolExecutor

    app = start()
    reds = [2 * number for number in range(100)]

    def ask(red):
        with httpx.Client(base_url=app.base, timeout=60) as client:
            return client.post("/api/score", files=upload(encoded(picture(red)))).json()[0]["score"]

    with ThreadPoolExecutor(100) as clients:
        scores = list(clients.map(ask, reds))
    assert scores == sorted(scores)
    assert len(set(scores)) == 100
    assert app.held.size == 0
