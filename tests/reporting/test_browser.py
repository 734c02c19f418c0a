"""The report page in a real browser: no complaint, everything drawn, nothing off the screen or off the machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from raysearch.reporting.page import write_page
from raysearch.reporting.serve import PageServer
from raysearch.run import Run
from raysearch.storage.files import replace_json
from tests.reporting.chromium import BROWSER, Tab, tab
from tests.reporting.shipped import KEPT, with_shipped
from tests.reporting.test_page import CLASSES, FINISHED, a_tree, evaluated, predictions

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not BROWSER, reason="there is no Chromium on this machine")]

_TOP = "document.getElementById('plot-curves').getBoundingClientRect().top"
_RANGE = "document.getElementById('plot-curves').layout.xaxis.range"
RANGE_TEST = {"rates": [1e-6, 1e-3, 1.0], "losses": [2.0, 1.0, 9.0], "low": 1e-5, "high": 1e-3}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A finished search that has everything that a page can show."""
    run = Run.create(tmp_path_factory.mktemp("results") / "run", {"metric": "accuracy"})
    run.append({"event": "lr_find", "level": 1, "depths": {"1": RANGE_TEST}}, *a_tree(), *KEPT, FINISHED)
    run.update_info(classes=CLASSES, skipped=[{"path": "a" * 300 + ".png", "reason": "truncated"}])
    run.write_json("evaluation.json", with_shipped(evaluated("t0008")))
    predictions(run.folder / "predictions.parquet")
    (run.folder / "pictures").mkdir()
    Image.fromarray(np.full((160, 320, 3), 90, np.uint8)).save(run.folder / "pictures" / "one.webp")
    one = {"file": "one.webp", "width": 320}
    mistake = {"path": "b" * 200, "true": "cat", "predicted": "dog", "probability": 0.9}
    index = {
        "augmented": [one | {"strength": 0.5}],
        "mistakes": [one | mistake],
        "classes": [one | {"class": "cat", "images": 3}],
        "mistaken": 1,
        "of": 20,
        "trained_on": False,
    }
    replace_json(run.folder / "pictures" / "pictures.json", index)
    write_page(run)
    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Tab]:
    with tab() as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_every_figure_is_drawn_without_a_complaint(run, browser, width, dark):
    browser.complaints.clear()
    browser.requested.clear()
    browser.show((run.folder / "report.html").as_uri(), width, dark=dark, phone=width == 390)
    assert browser.complaints == []
    places, drawn = browser.evaluate(
        "[...document.querySelectorAll('.plot')].reduce(([all, drawn], one) => "
        "[all + 1, drawn + (one.querySelector('.main-svg')?.getBoundingClientRect().height > 50)], [0, 0])"
    )
    assert places == drawn > 10
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.evaluate("[...document.images].every((one) => one.naturalWidth === 320)")
    assert {address.partition(":")[0] for address in browser.requested} <= {"file", "data", "blob"}
    paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(21, 24, 28)" if dark else "rgb(255, 255, 255)")


def test_no_button_sends_the_data_away(run, browser):
    browser.show((run.folder / "report.html").as_uri(), 1440)
    titles = browser.evaluate("[...document.querySelectorAll('.modebar-btn')].map((one) => one.dataset.title)")
    assert "Reset axes" in titles
    assert [title for title in titles if "loud" in title or "hare" in title] == []


def test_it_prints(run, browser):
    browser.show((run.folder / "report.html").as_uri(), 1000, dark=True)
    browser.call("Emulation.setEmulatedMedia", media="print")
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert browser.evaluate("[...document.querySelectorAll('details')].every((one) => one.open)")
    assert browser.evaluate("getComputedStyle(document.querySelector('.modebar-container')).display") == "none"
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    browser.call("Emulation.setEmulatedMedia", media="")
    printed = browser.printed()
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") >= 3


def test_the_live_page_follows_the_log_and_keeps_its_place(tmp_path, browser):
    log = a_tree()
    run = Run.create(tmp_path / "run", {"metric": "accuracy"})
    run.append(*log[:20])
    with PageServer(run.folder, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.complaints.clear()
        browser.show(server.address, 900)
        browser.evaluate("document.querySelector('details').open = true")
        browser.evaluate(f"scrollTo({{top: scrollY + {_TOP} - 100, behavior: 'instant'}})")
        browser.settle()
        browser.drag((300, 300), (600, 400))
        zoomed = browser.evaluate(_RANGE)
        assert browser.evaluate(_TOP) == pytest.approx(100, abs=1)
        assert zoomed[1] - zoomed[0] < 2  # of three epochs
        assert "t0007" not in browser.evaluate("document.body.textContent")
        server.pages._cost = 0.0
        run.append(*log[20:])
        browser.evaluate(
            "new Promise((done) => { const look = () => document.body.textContent.includes('t0007') ? done() "
            ": setTimeout(look, 50); look(); })"
        )
        browser.settle()
        assert browser.evaluate(_TOP) == pytest.approx(100, abs=1)
        assert browser.evaluate("document.querySelector('details').open")
        assert browser.evaluate(_RANGE) == zoomed
        drawn = "[...document.querySelectorAll('.plot')].every((one) => one.querySelector('.main-svg'))"
        assert browser.evaluate(drawn)
        assert browser.complaints == []
        server.shutdown()
    browser.evaluate(
        "new Promise((done) => { const look = () => document.documentElement.classList.contains('alone') ? done() "
        ": setTimeout(look, 50); look(); })"
    )
    assert browser.evaluate("getComputedStyle(document.querySelector('.left')).display") == "block"
