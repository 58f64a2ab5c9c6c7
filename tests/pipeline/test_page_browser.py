"""The page in a real browser: no errors, no requests, fits wide and narrow screens, and its filter works."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurespeed.pipeline.page import gather, render
from featurespeed.records import read_table
from tests.pipeline.test_page import TEMPLATE, run  # noqa: F401  (the fixture of a small run)

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}: apt-get install chromium"),
]


@pytest.fixture
def page_file(run) -> Path:  # noqa: F811
    path = run.claims.with_name("index.html")
    path.write_text(render(TEMPLATE, gather(run, path, "smoke", read_table)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_page_loads_clean_and_fits(browser, page_file, tmp_path, width):
    view = browser.new_page(viewport={"width": width, "height": 900})
    complaints: list[str] = []
    view.on("console", lambda message: complaints.append(message.text))
    view.on("pageerror", lambda error: complaints.append(str(error)))
    view.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
    view.goto(page_file.as_uri())
    shot = tmp_path / f"page-{width}.png"
    view.screenshot(path=shot, full_page=True)
    assert complaints == []
    assert shot.stat().st_size > 10_000
    ids = view.eval_on_selector_all("section", "sections => sections.map(section => section.id)")
    assert ids == ["glance", "fsf_fig1a", "fsf_fig1c", "fsf_theorems", "ledger"]
    assert view.eval_on_selector_all("img", "images => images.every(image => image.complete && image.naturalWidth > 0)")
    view.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    view.close()


def test_the_filter_shows_one_verdict_and_all_again(browser, page_file):
    view = browser.new_page()
    view.goto(page_file.as_uri())

    def shown() -> list[str]:
        rows = "rows => rows.filter(row => row.offsetParent !== null).map(row => row.dataset.verdict)"
        return view.eval_on_selector_all("tr[data-verdict]", rows)

    everything = shown()
    assert len(everything) == 4
    view.click("button[data-show='contradicted']")
    assert shown() == ["contradicted"]
    view.click("button[data-show='discrepancy']")
    assert shown() == ["not run"]
    view.click("button[data-show='']")
    assert shown() == everything
    view.close()
