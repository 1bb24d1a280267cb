"""Pages in Debian's Chromium, as fixtures. Of a test that fails a screenshot is kept, below `screenshots/`."""

import os
import re
import shutil
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
KEPT = Path(os.environ.get("MEMVIZ_SCREENSHOTS", "screenshots"))
# axe reads style sheets anew, which pages from disk may not; a server ends what is listened to; and leaving a page
# ends what it still loads.
HARMLESS = ("xhr", "eventsource", "net::ERR_ABORTED")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    opened = item.funcargs.get("page") if call.when == "call" and report.failed else None
    if opened is not None and hasattr(opened, "screenshot"):
        path = KEPT / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', item.nodeid)}.png"
        try:
            opened.screenshot(path=path, full_page=True)
        except Exception as error:  # the test's own failure is what matters
            report.sections.append(("screenshot", f"none: {error}"))
        else:
            report.sections.append(("screenshot", str(path.absolute())))
    return report


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, request):
    """A page, of a context with the options that a test gives as its parameter; no script on it may fail."""
    context = browser.new_context(**getattr(request, "param", {}))
    opened = context.new_page()
    errors = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on(
        "requestfailed",
        lambda failed: {failed.resource_type, failed.failure}.isdisjoint(HARMLESS) and errors.append(failed.url),
    )
    yield opened
    context.close()
    assert errors == []


@pytest.fixture
def accessible():
    """Checks a page with axe."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")

    def check(page):
        found = axe.Axe().run(page)
        assert found.violations_count == 0, found.generate_report()

    return check
