"""The pages without a browser: forms and links, who is let in, and what an answer allows."""

import csv
import io
import json

import pytest
from serving import encoded, picture, until

import memviz
from memviz.app import create_app
from memviz.errors import StoreError


def test_without_scripts_a_photograph_is_scored_and_explained(start, site):
    app = start(site=site)
    assert 'enctype="multipart/form-data"' in app.get("/").text
    page = app.give(encoded())
    until(lambda: app.batch(page).photographs[0].state == "explained")  # one alone is explained at once
    text = app.get(page).text
    assert "Higher than" in text
    assert f'src="{page}/0/map.png"' in text
    assert 'href="/site/conv/0/"' in text
    assert app.get("/site/conv/0/").status_code == 200
    for name in ("small.jpg", "seen.jpg", "map.png"):
        assert app.get(f"{page}/0/{name}").headers["content-type"].startswith("image/")
    assert app.get(f"{page}/0/explanation.json").json()["photograph"] == "photo0.png"


def test_while_there_is_work_the_page_comes_again_without_scripts(start, hold):
    app = start()
    held = hold(app)
    page = app.give(encoded())
    until(held.began.is_set)
    assert '<noscript><meta http-equiv="refresh"' in app.get(page).text
    held.go.set()
    until(lambda: app.batch(page).photographs[0].state == "explained")
    assert "http-equiv" not in app.get(page).text


def test_of_several_those_are_explained_that_are_asked_for(start):
    app = start()
    page = app.give(encoded(picture(10)), b"no picture", encoded(picture(250)))
    app.scored(page)
    assert [each.state for each in app.batch(page).photographs] == ["scored", "unreadable", "scored"]
    answer = app.client.post(f"{page}/2/explain")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{page}#photograph-2")
    until(lambda: app.batch(page).photographs[2].state == "explained")
    assert app.batch(page).photographs[0].state == "scored"
    more = app.post(f"/photographs?batch={page.rpartition('/')[2]}", encoded())
    assert more.headers["location"] == page
    app.scored(page)
    rows = list(csv.DictReader(io.StringIO(app.get(f"{page}/scores.csv").text)))
    assert [row["photograph"] for row in rows] == ["photo0.png", "photo1.png", "photo2.png", "photo0.png"]
    assert float(rows[0]["memorability"]) < float(rows[2]["memorability"])
    assert (rows[1]["memorability"], "not a picture" in rows[1]["error"]) == ("", True)


@pytest.mark.parametrize(
    "name",
    ['"><script>alert(1)</script>.png', "=1+1.png", "a\r\nb.png", "../../etc/passwd", "é" * 500 + ".png", "\ud800.png"],
)
def test_names_of_files_are_only_words(start, name):
    app = start()
    body = b'--x\r\nContent-Disposition: form-data; name="photograph"; filename="'
    body += name.encode("utf-8", "surrogatepass").replace(b"\r\n", b"%0D%0A").replace(b'"', b"%22")
    body += b'"\r\n\r\n' + encoded() + b"\r\n--x--\r\n"
    answer = app.client.post("/photographs", content=body, headers={"content-type": "multipart/form-data; boundary=x"})
    page = answer.headers["location"]
    app.scored(page)
    text = app.get(page).text
    assert "<script>alert" not in text
    assert "/etc" not in text
    row = next(csv.reader(io.StringIO(app.get(f"{page}/scores.csv").text.split("\n", 1)[1])))
    assert row[0][0] not in "=+-@"


def test_results_come_as_events(start):
    app = start()
    page = app.give(encoded())
    parts = []
    with app.client.stream("GET", f"{page}/changes") as events:
        for line in events.iter_lines():
            if line.startswith("data: "):
                parts.append(json.loads(line.removeprefix("data: ")))
                if "map.png" in parts[-1]["html"]:
                    break
    assert {each["id"] for each in parts} <= {"photograph-0", "status-0"}
    assert all(f'id="{each["id"]}"' in each["html"] for each in parts)


def test_a_closed_page_cancels_its_work(start, hold):
    app = start(limits={"grace_seconds": 3})
    held = hold(app)
    page = app.give(encoded())
    with app.client.stream("GET", f"{page}/changes") as events:
        lines = events.iter_lines()
        next(lines)
        until(held.began.is_set)
        until(lambda: app.batch(page).watchers == 1)
    until(lambda: held.ended)
    until(lambda: "Cancelled" in app.get(page).text)
    app.client.post(f"{page}/forget")
    assert app.get(page).status_code == 404
    assert app.held.size == 0


def test_samples_are_scored_like_uploads(start):
    app = start()
    assert app.get("/samples/coffee.jpg").content.startswith(b"\xff\xd8")
    page = app.client.post("/samples/coffee").headers["location"]
    app.scored(page)
    assert "coffee" in app.get(page).text
    assert app.client.post("/samples/passwd").status_code == 404


@pytest.mark.parametrize("up", ["..", "%2e%2e", "..%2f..", "....//", "%00", "\\..", "%c0%ae%c0%ae", "/etc/passwd"])
def test_no_route_leads_to_other_files(start, site, up, tmp_path):
    app = start(site=site)
    (tmp_path / "secret.txt").write_text("secret")
    page = app.give(encoded())
    routes = ("/site/{}", "/site/conv/{}", "/static/{}", "/samples/{}.jpg", "/photographs/{}", page + "/0/{}", "/{}")
    for route in routes:
        for target in (up, f"{up}/secret.txt", f"{up}/index/manifest.json", f"{up}/{up}/etc/passwd"):
            with app.raw(b"GET " + route.format(target).encode(), b"connection: close") as asked:
                answer = b"".join(iter(lambda: asked.recv(65536), b""))
            status = int(answer.split(b" ", 2)[1])
            assert status in (307, 400, 404, 405, 422) or (status == 200 and b"<!doctype html>" in answer), answer[:300]
            assert b"secret" not in answer
            assert b"root:" not in answer


def test_numbers_that_are_none(start):
    app = start()
    page = app.give(encoded())
    for number in ("1", "-1", "x", "9" * 40):
        for path in (f"{page}/{number}/small.jpg", f"{page}/{number}/explanation.json"):
            assert app.get(path).status_code in (404, 422)
        assert app.client.post(f"{page}/{number}/explain").status_code in (404, 422)
    assert (
        app.get("/photographs/nowhere", headers={"accept": "text/html"}).text.count("<h1>This is not possible</h1>")
        == 1
    )


def test_browsers_are_told_to_load_nothing_from_elsewhere(start, site):
    app = start(site=site)
    page = app.give(encoded())
    until(lambda: app.batch(page).photographs[0].state == "explained")
    for path in ("/", "/about", "/api", page, "/site/", "/static/app.js", "/nowhere"):
        headers = app.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "http" not in policy
        assert ("unsafe-inline" in policy) == path.startswith("/site/")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    for path in ("/", "/about", "/api", page):
        text = app.get(path).text
        assert " style=" not in text
        assert "<style" not in text
        assert "onclick" not in text
    assert app.get(page).headers["cache-control"] == "no-store"


def test_other_sites_pages_may_not_send_nor_read(start):
    app = start()
    cross = {"sec-fetch-site": "cross-site"}
    assert app.post("/photographs", encoded(), headers=cross).status_code == 403
    assert app.post("/api/score", encoded(), headers=cross).status_code == 403
    assert app.get("/", headers={"host": "evil.example"}).status_code == 421
    assert app.get("/", headers={"host": "localhost:99"}).status_code == 200
    assert app.held.size == 0


def test_with_a_token_nobody_else_is_let_in(start):
    app = start(token="one-token", hosts=None)
    html = {"accept": "text/html"}
    for path in ("/", "/openapi.json", "/api", "/site/", "/photographs/x", "/samples/coffee.jpg"):
        assert app.get(path).status_code == 401
        assert app.get(path, headers=html).headers["location"] == "/token"
    assert app.post("/api/score", encoded()).status_code == 401
    assert app.post("/api/score", encoded(), headers={"authorization": "Bearer wrong"}).status_code == 401
    assert app.post("/api/score", encoded(), headers={"authorization": "Bearer one-token"}).status_code == 200
    assert app.get("/health").status_code == 200
    assert app.get("/static/style.css").status_code == 200
    assert app.client.post("/token", data={"token": "wrong"}).status_code == 401
    assert app.get("/?token=wrong").status_code == 401
    entered = app.get("/?token=one-token")
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert "HttpOnly" in entered.headers["set-cookie"]
    assert "SameSite=strict" in entered.headers["set-cookie"]
    assert app.get("/").status_code == 200  # by the cookie
    other = start(token="one-token", hosts=None)
    assert other.client.post("/token", data={"token": "one-token"}).status_code == 303
    assert other.get("/").status_code == 200
    assert "Authorization: Bearer TOKEN" in other.get("/api").text


def test_a_site_of_other_weights_is_refused(model, site):
    other = memviz.wrap(type(model.module)().eval(), model.inputs, target="memorability")
    other.module.last.weight.data[0, 0] = 2
    with pytest.raises(StoreError, match="other weights"):
        create_app(other, site=site)
    with pytest.raises(StoreError):
        create_app(model, site=site.parent)
