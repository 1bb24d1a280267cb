"""The widgets' front end in a real browser, talking to their Python side."""

import json

import fakes
import ipywidgets
import pytest

from memviz.notebook import compare, photograph, strip, units

LAYER = "alexnet.conv4"
SYNCED = ("unit", "other", "_body", "_detail")
PAGE = """<!doctype html><html lang=en><title>A notebook</title><meta name=color-scheme content='light dark'>
<style>%s:root{%s}</style><main><h1>A notebook</h1>%s</main><script type=module>%s</script>"""
# What anywidget gives a module, for one model: what is set is told to Python, and what Python then has is told back.
STUB = """
window.tell = [];
for (const [place, state] of %s.entries()) {
  const heard = {};
  tell[place] = fresh => {
    for (const [name, value] of Object.entries(fresh)) {
      if (state[name] === value) continue;
      state[name] = value;
      (heard[`change:${name}`] ?? []).forEach(each => each());
    }
  };
  const model = {
    get: name => state[name],
    set: (name, value) => tell[place]({ [name]: value }),
    on: (name, each) => (heard[name] ??= []).push(each),
    save_changes: async () => tell[place](await window.python(place, state.unit, state.other)),
  };
  widget.render({ model, el: document.querySelectorAll("section")[place] });
}
"""


@pytest.fixture
def page(browser, request):
    context = browser.new_context(**getattr(request, "param", {}))
    context.set_default_timeout(10_000)
    opened = context.new_page()
    errors = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda asked: asked.url.startswith("data:") or errors.append(asked.url))
    yield opened
    context.close()
    ipywidgets.Widget.close_all()
    assert errors == []


def state(widget):
    return {name: getattr(widget, name) for name in SYNCED}


@pytest.fixture
def show(page):
    """Renders widgets in a page, and connects them to Python."""
    widgets = []

    def python(place, unit, other):
        widgets[place].unit = unit
        if other:
            widgets[place].other = other
        return state(widgets[place])

    def show(*made, theme=""):
        widgets[:] = made
        states = json.dumps([state(each) for each in made]).replace("</", "<\\/")
        script = made[0]._esm.replace("export default", "const widget =") + STUB % states
        page.set_content(PAGE % (made[0]._css, theme, "<section></section>" * len(made), script))
        page.locator(".memviz .detail").first.wait_for()
        return made[0]

    page.expose_function("python", python)
    return show


def option(page, channel, layer=LAYER):
    return page.locator(f'[data-unit="{layer}:{channel}"]')


def shown(page, channel, layer=LAYER):
    page.get_by_role("group", name=f"Unit {layer}:{channel} of resmem", exact=True).wait_for()


def test_pointing_shows_a_unit_a_click_keeps_it_and_another_lets_go(page, show, index, renders):
    widget = show(strip(index, LAYER, renders))
    shown(page, 0)
    option(page, 4).hover()
    shown(page, 4)
    assert widget.unit == f"{LAYER}:4"
    option(page, 6).click()
    shown(page, 6)
    option(page, 2).hover()
    page.wait_for_timeout(300)
    assert widget.unit == f"{LAYER}:6"
    assert option(page, 6).get_attribute("aria-selected") == "true"
    option(page, 6).click()
    option(page, 2).hover()
    shown(page, 2)
    assert widget.unit == f"{LAYER}:2"


def test_a_pointer_that_passes_over_units_does_not_show_them(page, show, index, renders):
    widget = show(strip(index, LAYER, renders))
    asked = []
    widget.observe(lambda change: asked.append(change["new"]), "unit")
    start, end = (option(page, channel).bounding_box() for channel in (2, 9))
    page.mouse.move(start["x"] + 9, start["y"] + 9)
    page.mouse.move(end["x"] + 9, end["y"] + 9, steps=20)
    shown(page, 9)
    assert asked[-1] == f"{LAYER}:9"
    assert len(asked) < 4


def test_arrow_keys_go_on(page, show, index, renders):
    widget = show(strip(index, LAYER, renders, order="drive"))  # 5, 4, 3, 2, 1, 0, 11, ...
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    shown(page, 4)
    assert option(page, 4).evaluate("each => each === document.activeElement")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    shown(page, 5)
    page.keyboard.press("End")
    shown(page, 6)
    assert widget.unit == f"{LAYER}:6"
    assert "Unit 6" in page.get_by_role("status").inner_text()


def test_units_are_turned_over_by_buttons_keys_and_choice(page, show, index, renders):
    widget = show(units(index, LAYER, renders))
    page.get_by_role("button", name="Next unit").click()
    shown(page, 1)
    page.keyboard.press("ArrowRight")
    shown(page, 2)
    page.get_by_role("combobox").select_option(f"{LAYER}:7")
    shown(page, 7)
    page.get_by_role("button", name="Previous unit").click()
    shown(page, 6)
    assert widget.unit == f"{LAYER}:6"
    assert page.get_by_role("combobox").input_value() == f"{LAYER}:6"


def test_python_chooses_too(page, show, index, renders):
    widget = show(units(index, LAYER, renders))
    widget.unit = f"{LAYER}:8"
    page.evaluate("state => tell[0](state)", state(widget))
    shown(page, 8)
    assert page.get_by_role("combobox").input_value() == f"{LAYER}:8"


def test_each_side_of_a_comparison_is_turned_over(page, show, index, renders):
    widget = show(compare(index, f"{LAYER}:2", "resnet.layer2.3:5", renders))
    page.get_by_role("group", name="Second unit").get_by_role("button", name="Next unit").click()
    shown(page, 6, "resnet.layer2.3")
    shown(page, 2)
    assert (widget.unit, widget.other) == (f"{LAYER}:2", "resnet.layer2.3:6")


def test_the_slider_fades_the_map(page, show, index, renders):
    widget = show(photograph(fakes.explanation(), index, renders))
    opacity = "each => getComputedStyle(each).opacity"
    page.emulate_media(reduced_motion="reduce")
    page.get_by_role("slider").fill("20")
    assert float(page.locator(".map").evaluate(opacity)) == pytest.approx(0.2)
    option(page, 2).hover()
    shown(page, 2)
    assert widget.unit == f"{LAYER}:2"


def test_two_widgets_on_one_page_are_apart(page, show, index, renders):
    one, two = strip(index, LAYER, renders), strip(index, LAYER, renders)
    show(one, two)
    option(page, 3).last.hover()
    shown(page, 3)
    shown(page, 0)
    assert (one.unit, two.unit) == (f"{LAYER}:0", f"{LAYER}:3")


THEMES = {
    "jupyter-dark": "--jp-layout-color0:#111111;--jp-content-font-color1:rgba(255,255,255,1)",
    "jupyter-light": "--jp-layout-color0:#ffffff;--jp-content-font-color1:rgba(0,0,0,0.87)",
    "none": "",
}


@pytest.mark.parametrize("page", [{"color_scheme": scheme} for scheme in ("light", "dark")], indirect=True)
@pytest.mark.parametrize("theme", THEMES)
def test_they_are_accessible(page, accessible, show, index, renders, other_index, theme):
    made = [
        strip(index, "resnet.layer2.3", renders),
        units(index, f"{LAYER}:1", renders),
        compare(index, f"{LAYER}:2", f"{LAYER}:3", renders, other=other_index),
        photograph(fakes.explanation(), index, renders),
    ]
    for widget in made:
        for live in (True, False):
            if live:
                show(widget, theme=THEMES[theme])
            else:
                page.set_content(PAGE % ("", THEMES[theme], widget.to_html(), ""))
            accessible(page)


@pytest.mark.parametrize("page", [{"viewport": {"width": 360, "height": 740}}], indirect=True)
def test_in_a_narrow_window_nothing_sticks_out(page, index, renders, other_index):
    for widget in (
        strip(index, LAYER, renders),
        compare(index, f"{LAYER}:2", f"{LAYER}:3", renders, other=other_index),
        photograph(fakes.explanation(), index, renders),
    ):
        page.set_content(widget.to_html())
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
