"""The page in Chromium: nothing is fetched, nothing fails, nothing sticks out, all is legible."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from pipeline.evaluation.page import render
from pipeline.evaluation.page.pictures import BUDGET_BYTES
from tests import reports
from tests.browser import CHROMIUM, started

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM}"),
]
PICTURES = (
    "evaluate/mistakes",
    "evaluate/confusion_matrix",
    "evaluate/precision_recall",
    "evaluate/reliability",
    "evaluate/suspicious",
    "evaluate/learning_curves",
    "evaluate/train_inputs",
    "evaluate/finetune_inputs",
    "report/disagreements",
    "balance/histogram",
    "balance/sheet",
    "tta/views",
    "embed/retrieval",
    "embed/duplicates",
    "embed/outliers",
    "embed/unlike",
    "embed/map",
)
PHONE, DESKTOP = (390, 844), (1280, 800)
# Contrast of text on its ground, by WCAG 2.2's formula.
CONTRAST = """
(() => {
  const light = colour => {
    const [r, g, b] = colour.match(/\\d+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = light(getComputedStyle(document.body).backgroundColor);
  const texts = document.querySelectorAll("p, h1, h2, td, i, em, a, figcaption, summary, span");
  return Math.min(...[...texts]
    .map(e => light(getComputedStyle(e).color))
    .map(l => (Math.max(l, ground) + 0.05) / (Math.min(l, ground) + 0.05)));
})()
"""
# What stands on each line of the class names in tables, by where their letters stand.
LINES_OF_NAMES = """
[...document.querySelectorAll("td.class")].flatMap(cell => {
  const lines = new Map(), walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    for (let at = 0; at < walker.currentNode.length; at++) {
      const range = document.createRange();
      range.setStart(walker.currentNode, at);
      range.setEnd(walker.currentNode, at + 1);
      const top = Math.round(range.getBoundingClientRect().top);
      lines.set(top, (lines.get(top) || "") + range.toString());
    }
  }
  return [...lines.values()];
})
"""


@pytest.fixture(scope="module")
def browser():
    with started() as one:
        yield one


def noise():
    """Make a picture as large as a sheet, of photographs that hardly compress."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (336, 342, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    small.resize((1368, 1344), Image.Resampling.NEAREST).save(buffer, "PNG", dpi=(144, 144))
    return buffer.getvalue()


def plain():
    buffer = io.BytesIO()
    Image.new("RGB", (1368, 700), "white").save(buffer, "PNG", dpi=(144, 144))
    return buffer.getvalue()


def write_page(path, classes, pictures):
    names = [f"{'a_class_with_a_name_that_never_ends' * (i % 2)} {i}" for i in range(classes)]
    register = reports.met(names, 5 * classes, champion=3.0, candidate=-3.0)
    page = reports.make_page(names, 5 * classes, register, pictures=pictures)
    path.write_text(render(page), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    light = dict.fromkeys(PICTURES, plain())
    heavy = light | dict.fromkeys(PICTURES[:7], noise())
    return {
        2: write_page(folder / "2.html", 2, light),
        100: write_page(folder / "100.html", 100, heavy),
    }


def test_a_page_of_many_classes_and_large_pictures_stays_small(pages):
    assert 7 * len(noise()) > BUDGET_BYTES
    assert pages[100].stat().st_size < 5_000_000


@pytest.mark.parametrize("classes", [2, 100])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_is_fetched_and_nothing_fails(browser, pages, classes, size, dark):
    width, height = size
    browser.open(pages[classes].as_uri(), width=width, height=height, dark=dark)
    asked = [one["request"]["url"] for one in browser.said("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [pages[classes].as_uri()]
    assert browser.said("Network.loadingFailed") == []
    assert browser.said("Runtime.exceptionThrown") == []
    assert browser.said("Runtime.consoleAPICalled") == []
    assert browser.said("Log.entryAdded") == []
    assert browser.ask("document.documentElement.scrollWidth") == width
    assert browser.ask("[...document.images].filter(image => !image.naturalWidth).length") == 0
    assert browser.ask("document.images.length") == len(PICTURES)
    assert browser.ask(CONTRAST) >= 4.5


def test_everything_stays_inside_when_all_details_are_open(browser, pages):
    browser.open(pages[100].as_uri(), width=PHONE[0])
    browser.ask("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert browser.ask("document.documentElement.scrollWidth") == PHONE[0]


def test_class_names_break_between_words_only(browser, pages):
    """The narrowest place is a table on a phone: no piece of a name is cut there."""
    browser.open(pages[100].as_uri(), width=PHONE[0])
    browser.ask("document.querySelectorAll('details').forEach(one => { one.open = true })")
    lines = browser.ask(LINES_OF_NAMES)
    assert "a_class_" in "".join(lines)
    assert len(lines) > 100
    assert [line for line in lines if not re.search(r"(_|ends ?|\b\d+)$", line)] == []


def test_verdict_and_checks_stand_above_the_fold(browser, pages):
    browser.open(pages[2].as_uri(), width=DESKTOP[0], height=DESKTOP[1])
    assert browser.ask("document.querySelector('table').getBoundingClientRect().bottom") < 800
    assert browser.ask("document.querySelector('.verdict em').textContent") == "Not yet."


def test_pictures_have_the_size_that_they_were_drawn_with(browser, pages):
    """On a phone they are moved sideways: writing does not shrink below 0.85 of its size."""
    widths = "[...document.images].map(image => image.getBoundingClientRect().width)"
    browser.open(pages[2].as_uri(), width=DESKTOP[0])
    assert set(browser.ask(widths)) == {912}
    browser.open(pages[2].as_uri(), width=PHONE[0])
    assert set(browser.ask(widths)) == {775}
