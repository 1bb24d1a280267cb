"""The application in a real browser."""

import pytest
from serving import encoded, picture, until


@pytest.fixture
def files(tmp_path):
    """Three photographs on disk, one of them none."""
    folder = tmp_path / "given"
    folder.mkdir()
    picture(240).save(folder / "red.png")
    (folder / "text.png").write_text("no picture")
    picture(20).save(folder / "dark.jpg")
    return [str(folder / name) for name in ("red.png", "text.png", "dark.jpg")]


def explained(page):
    page.locator(".why").first.wait_for()


def test_upload_score_map_and_on_to_a_unit(start, page, site, files):
    app = start(site=site)
    page.goto(app.base)
    assert not page.get_by_role("button", name="Score").is_visible()  # it is sent as soon as it is chosen
    page.get_by_label("Choose photographs").set_input_files(files[0])
    page.locator(".score").wait_for()
    explained(page)
    assert page.locator(".score b").inner_text() == f"{app.batch(page.url).photographs[0].score:.3f}"
    assert page.get_by_alt_text("The map over the photograph").evaluate("image => image.naturalWidth") > 0
    assert page.locator(".units img").first.evaluate("image => image.naturalWidth") > 0
    page.locator(".units .picture").first.click()
    page.wait_for_url("**/site/conv/*/")
    page.get_by_role("searchbox").fill("conv:1")
    page.locator("#found a").first.click()
    page.wait_for_url("**/site/conv/1/index.html")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/site/conv/2/index.html")


def test_several_at_once_of_which_one_is_bad(start, page, files):
    app = start()
    page.goto(app.base)
    page.get_by_label("Choose photographs").set_input_files(files)
    page.wait_for_url("**/photographs/*")
    page.locator("article.scored").nth(1).wait_for()
    page.locator("article.unreadable").wait_for()
    assert page.locator("article").count() == 3
    assert "It cannot be read: not a picture" in page.locator("article.unreadable").inner_text()
    page.get_by_role("button", name="Why this score?").first.click()
    explained(page)
    assert page.locator(".why").count() == 1
    with page.expect_download() as table:
        page.get_by_role("link", name="Scores as a table").click()
    assert table.value.suggested_filename == "scores.csv"
    page.get_by_label("More photographs").set_input_files(files[0])
    page.locator("article").nth(3).wait_for()
    page.get_by_role("button", name="Forget them now").click()
    page.wait_for_url(f"{app.base}/")
    assert app.held.size == 0


def test_dropped_and_pasted(start, page):
    app = start()
    give = """([bytes, kind]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "given.png", { type: "image/png" }));
        const event = kind === "drop" ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
            : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
        document.body.dispatchEvent(event);
    }"""
    for kind in ("drop", "paste"):
        page.goto(app.base)
        page.evaluate(give, [list(encoded()), kind])
        page.wait_for_url("**/photographs/*")
        page.locator(".score").wait_for()
        assert page.locator("article h2").inner_text() == "given.png"


def test_what_is_refused_is_told(start, page, tmp_path):
    app = start(limits={"body": 50_000})
    large = tmp_path / "large.bmp"
    picture(size=(200, 200)).save(large)
    page.goto(app.base)
    page.get_by_label("Choose photographs").set_input_files(large)
    page.get_by_text("larger than 0.05 MB").wait_for()
    assert page.url == f"{app.base}/"
    assert page.get_by_label("Choose photographs").is_enabled()


def test_progress_is_shown_and_may_be_cancelled(start, page, hold, files):
    app = start()
    held = hold(app)
    page.goto(app.base)
    page.get_by_label("Choose photographs").set_input_files(files[0])
    page.get_by_label("Being explained").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Cancelled.").wait_for()
    until(lambda: held.ended)
    held.go.set()
    page.get_by_role("button", name="Why this score?").click()
    explained(page)


def test_a_closed_tab_cancels_its_work(browser, start, hold, files):
    app = start(limits={"grace_seconds": 2})
    held = hold(app)
    context = browser.new_context()
    opened = context.new_page()
    opened.goto(app.base)
    opened.get_by_label("Choose photographs").set_input_files(files[0])
    opened.get_by_label("Being explained").wait_for()
    context.close()
    until(lambda: held.ended)


def test_by_keyboard_alone(start, page):
    app = start()
    page.goto(app.base)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.get_by_role("button", name="coffee").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/photographs/*")
    explained(page)


@pytest.mark.parametrize("page", [{"java_script_enabled": False}], indirect=True)
def test_without_scripts(start, page, files):
    app = start()
    page.goto(app.base)
    page.locator("#files").set_input_files(files)
    page.get_by_role("button", name="Score").click()
    page.locator("article.unreadable").wait_for()
    until(lambda: not any(each.working for each in app.batch(page.url).photographs))
    page.reload()
    page.get_by_role("button", name="Why this score?").first.click()
    until(lambda: app.batch(page.url.partition("#")[0]).photographs[0].state == "explained")
    page.reload()
    explained(page)


@pytest.mark.parametrize("page", [{"java_script_enabled": False}], indirect=True)
def test_the_token_is_asked_for(start, page):
    app = start(token="one", hosts=None)
    page.goto(app.base)
    page.get_by_label("Token").fill("two")
    page.get_by_role("button", name="Enter").click()
    page.get_by_text("This is not the token.").wait_for()
    page.get_by_label("Token").fill("one")
    page.get_by_role("button", name="Enter").click()
    page.get_by_role("heading", name="How memorable is this photograph?").wait_for()


@pytest.mark.parametrize(
    "page",
    [{"viewport": {"width": 360, "height": 740}, "color_scheme": scheme} for scheme in ("light", "dark")],
    indirect=True,
)
def test_on_a_phone_nothing_sticks_out_and_all_is_accessible(start, page, site, files, accessible):
    app = start(site=site)
    for path in ("/", "/about", "/api", "/nowhere"):
        page.goto(app.base + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        accessible(page)
    page.goto(app.base)
    page.get_by_label("Choose photographs").set_input_files(files)
    page.locator("article.unreadable").wait_for()
    page.get_by_role("button", name="Why this score?").first.click()
    explained(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    accessible(page)
