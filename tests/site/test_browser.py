"""The site in a real browser."""

import pytest

import memviz
from memviz.explanation.labels import labels_folder


@pytest.fixture
def site(index, renders, tmp_path):
    labels = labels_folder(index)
    labels.mkdir(parents=True)
    rows = ["unit,label", "resnet.layer2.3:7,fine stripes", "alexnet.conv1:0,stripes of a layer that is not shown", ""]
    (labels / "labels.csv").write_text("\n".join(rows))
    return memviz.build_site(index, out=tmp_path / "site", renders=[renders], progress=False).parent


def test_from_home_to_a_unit_and_on_by_keyboard(page, site):
    page.goto((site / "index.html").as_uri())
    page.get_by_role("link", name="resnet.layer2.3").click()
    page.locator(".grid a").nth(5).click()
    page.wait_for_url(f"{site.as_uri()}/resnet/layer2.3/5/index.html")  # and for its script
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/6/index.html")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**/5/index.html")
    assert page.locator(".whole img").first.evaluate("image => image.naturalWidth") > 50


@pytest.mark.parametrize(
    ("text", "target"),
    [("layer2.3:7", "/resnet/layer2.3/7/"), ("STRIPES", "/resnet/layer2.3/7/"), ("conv4", "/alexnet/conv4/")],
)
@pytest.mark.parametrize("start", ["index.html", "alexnet/conv4/3/index.html"])
def test_search_finds_addresses_and_labels(page, site, text, target, start):
    page.goto((site / start).as_uri())
    page.keyboard.press("/")
    page.keyboard.type(text)
    page.locator("#found a").first.wait_for()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{target}index.html")


def test_search_says_that_nothing_is_found(page, site):
    page.goto((site / "index.html").as_uri())
    page.get_by_label("Find a unit").fill("<b>nowhere")
    page.locator("#found p").wait_for()  # until what is searched is there
    assert page.locator("#found").inner_text() == "Nothing by that name."


def test_units_are_ordered_and_filtered_and_the_address_keeps_it(page, site):
    page.goto((site / "resnet" / "layer2.3" / "index.html").as_uri())
    numbers = "cells => cells.filter(cell => !cell.hidden).map(cell => Number(cell.dataset.unit))"
    page.get_by_label("Order").select_option("drive")
    assert page.locator(".grid li").evaluate_all(numbers) == [5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6]
    page.get_by_label("Show").select_option("lowering")
    assert page.locator(".grid li").evaluate_all(numbers) == [11, 10, 9, 8, 7, 6]
    assert page.locator(".tools output").inner_text() == "6 of 12 units"
    page.reload()
    assert page.locator(".grid li").evaluate_all(numbers) == [11, 10, 9, 8, 7, 6]


@pytest.mark.parametrize("page", [{"java_script_enabled": False}], indirect=True)
def test_without_scripts_everything_but_search_is_there(page, site):
    page.goto((site / "index.html").as_uri())
    assert not page.get_by_role("searchbox").is_visible()
    page.get_by_role("link", name="alexnet.conv4").click()
    page.locator(".grid a").nth(3).click()
    page.locator("a[rel=next]").click()
    page.wait_for_url(f"{site.as_uri()}/alexnet/conv4/4/index.html")


@pytest.mark.parametrize(
    "page",
    [{"viewport": {"width": 360, "height": 740}, "color_scheme": scheme} for scheme in ("light", "dark")],
    indirect=True,
)
@pytest.mark.parametrize("path", ["index.html", "alexnet/conv4/index.html", "alexnet/conv4/5/index.html"])
def test_on_a_phone_nothing_sticks_out(page, site, path):
    page.goto((site / path).as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("page", [{"color_scheme": scheme} for scheme in ("light", "dark")], indirect=True)
@pytest.mark.parametrize(
    "path",
    ["index.html", "alexnet/conv4/index.html", "alexnet/conv4/5/index.html", "alexnet/conv4/1/index.html"],
)
def test_it_is_accessible(page, site, path, accessible):
    page.goto((site / path).as_uri())
    accessible(page)
