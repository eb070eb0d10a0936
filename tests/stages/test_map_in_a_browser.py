"""The map in Chromium: what is hovered, switched off, searched, moved and tapped."""

import math

import numpy as np
import pytest

from pipeline.evaluation.map import MapPoints, make_thumbnails, render_map, spread
from tests.browser import CHROMIUM, started
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM}"),
]
CLASSES = ("</script><script>document.title = 'stolen'</script>", '日本語 & "quotes"', "it's <b>")
# Five images: one in the middle of what all cover, four around it.
PLACES = np.array([[0.0, 0.0], [-8.0, 4.0], [8.0, 4.0], [-8.0, -4.0], [8.0, -4.0]])
LABELS = np.array([0, 1, 1, 2, 2])
ANSWERS = np.array([1, 1, 1, 2, 0])
PATHS = ["a/</script><img src=x>.png", "b/1.png", "b/naïve 鳥.png", "c/1.png", "c/2.png"]
LEVELS = [0, 60, 120, 180, 240]  # of grey, of one image each
CARD = "['file', 'class', 'answer'].map(id => document.getElementById(id).textContent)"
MIDDLE = (0.0, 0.0)
# The first two colours of petroff10, and what is left of a class that stands back.
BLUE, ORANGE, WHITE, FADED = "63, 144, 218", "255, 169, 14", "255, 255, 255", "220, 220, 216"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    images = np.stack([np.full((20, 20, 1), level, np.uint8) for level in LEVELS])
    points = MapPoints(
        CLASSES, PATHS, LABELS, PLACES, ["test"], np.zeros(5, int), ANSWERS, np.full(5, 0.75)
    )
    order = np.arange(5)
    thumbnails = make_thumbnails(lambda rows: images[rows], order, spread(LABELS, 0), 100_000)
    path = tmp_path_factory.mktemp("map") / "map.html"
    path.write_text(render_map(points, thumbnails, "A <map>", ["Note & more."]), encoding="utf-8")
    return path


class Map:
    """The page in a tab, and what a person does there."""

    def __init__(self, browser, page, width, height):
        self.browser, self.page = browser, page
        browser.open(page.as_uri(), width=width, height=height)
        self.until("document.getElementById('count').textContent.includes('shown')")
        self.box = browser.ask(
            "(b => [b.left, b.top, b.width, b.height])"
            "(document.getElementById('points').getBoundingClientRect())"
        )

    def until(self, condition):
        wait_until(lambda: self.browser.ask(condition), 20, condition)

    def on_screen(self, place, zoom=1.0):
        """Where a place of the plane is: all of them fill 0.92 of the canvas, y upwards."""
        left, top, width, height = self.box
        scale = 0.92 * min(width / 16, height / 8) * zoom
        return left + width / 2 + scale * place[0], top + height / 2 - scale * place[1]

    def hover(self, place, zoom=1.0):
        x, y = self.on_screen(place, zoom)
        self.browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def shows(self, i):
        """Wait for the card of an image, with its thumbnail."""
        grey = (
            "(c => c.hidden ? -1 : c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1)"
            ".data[0])(document.getElementById('thumbnail'))"
        )
        self.until(
            f"!document.getElementById('card').hidden && {CARD}[0] === {PATHS[i]!r}"
            f" && Math.abs({grey} - {LEVELS[i]}) < 8"
        )
        return self.browser.ask(CARD)

    def key(self, key, **more):
        for kind in ("keyDown", "keyUp"):
            self.browser.call("Input.dispatchKeyEvent", type=kind, key=key, **more)

    def count(self):
        return self.browser.ask("document.getElementById('count').textContent")

    def until_colour(self, place, colour):
        """Wait until the pixel of the canvas at a place has a colour."""
        x, y = (round(at - edge) for at, edge in zip(self.on_screen(place), self.box, strict=False))
        pixel = f"document.getElementById('points').getContext('2d').getImageData({x}, {y}, 1, 1)"
        self.until(f"[{colour}].every((level, at) => Math.abs({pixel}.data[at] - level) < 4)")

    def touch(self, kind, *places):
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]
        self.browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)


@pytest.fixture(scope="module")
def browser():
    with started() as one:
        yield one


@pytest.fixture
def desktop(browser, page):
    return Map(browser, page, 1280, 800)


@pytest.fixture(params=[(1280, 800), (400, 850)], ids=["desktop", "phone"])
def sized(browser, page, request):
    return Map(browser, page, *request.param)


def test_nothing_is_fetched_nothing_fails_and_names_stay_text(sized):
    browser = sized.browser
    sized.hover(MIDDLE)
    sized.shows(0)
    asked = [one["request"]["url"] for one in browser.said("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [sized.page.as_uri()]
    for event in ("Network.loadingFailed", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
        assert browser.said(event) == []
    assert browser.said("Log.entryAdded") == []
    assert browser.ask("document.documentElement.scrollWidth") == sized.browser.ask("innerWidth")
    assert browser.ask("document.title") == "A <map>"
    names = "[...document.querySelectorAll('#legend .name')].map(one => one.textContent)"
    assert browser.ask(names) == list(CLASSES)
    assert browser.ask("document.querySelectorAll('img, b').length") == 0


def test_an_image_under_the_mouse_is_described(desktop):
    assert desktop.count() == "5 of 5 images shown, 2 mistakes"
    for i, place in enumerate(PLACES):
        desktop.hover(place)
        mark = "✓" if ANSWERS[i] == LABELS[i] else "✗"
        said = f"{mark} answered {CLASSES[ANSWERS[i]]}, probability 0.75"
        assert desktop.shows(i) == [PATHS[i], CLASSES[LABELS[i]], said]
    desktop.hover((4, 0))
    desktop.until("document.getElementById('card').hidden")


def test_a_class_switched_off_is_hidden(desktop):
    browser, off = desktop.browser, "document.querySelectorAll('#legend input')[1].click()"
    place = PLACES[2]
    browser.ask("document.getElementById('names').click()")
    desktop.until_colour(place, ORANGE)
    browser.ask(off)
    desktop.until("document.getElementById('count').textContent.startsWith('3 of 5')")
    desktop.until_colour(place, WHITE)
    desktop.hover(place)
    desktop.hover(MIDDLE)
    desktop.shows(0)
    browser.ask(off)
    desktop.hover(place)
    desktop.shows(2)
    browser.ask("document.querySelectorAll('#legend button')[2].click()")
    desktop.until("document.getElementById('count').textContent.startsWith('2 of 5')")
    browser.ask("document.getElementById('every').click()")
    desktop.until("document.getElementById('count').textContent.startsWith('5 of 5')")


def test_a_class_that_is_pointed_at_keeps_its_colour(desktop):
    desktop.browser.ask("document.getElementById('names').click()")
    desktop.until_colour(PLACES[2], ORANGE)
    x, y = desktop.browser.ask(
        "(b => [b.left + 60, b.top + 10])"
        "(document.querySelectorAll('#legend li')[0].getBoundingClientRect())"
    )
    desktop.browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    desktop.until_colour(PLACES[2], FADED)
    desktop.until_colour(MIDDLE, BLUE)
    desktop.hover(PLACES[2])  # and rest there
    desktop.until_colour(MIDDLE, FADED)
    desktop.until_colour(PLACES[1], ORANGE)
    desktop.hover((4, 0))
    desktop.until_colour(MIDDLE, BLUE)


@pytest.mark.parametrize(
    ("query", "found"), [("鳥", [2]), ("日本", [1, 2]), ("/1.PNG", [1, 3]), ("none such", [])]
)
def test_search_finds_files_and_classes(desktop, query, found):
    browser = desktop.browser
    browser.ask("document.getElementById('search').focus()")
    browser.call("Input.insertText", text=query)
    desktop.until(f"document.getElementById('count').textContent.endsWith('; {len(found)} found')")
    listed = "[...document.querySelectorAll('#found button')].map(one => one.textContent)"
    assert browser.ask(listed) == [PATHS[i] for i in found]
    desktop.key("Enter", windowsVirtualKeyCode=13)
    if found:  # which is now in the middle
        desktop.shows(found[0])
        desktop.hover(MIDDLE)
        desktop.shows(found[0])
    else:
        assert browser.ask("document.getElementById('card').hidden")


def test_mistakes_alone(desktop):
    desktop.browser.ask(
        "(one => { one.value = 'wrong'; one.dispatchEvent(new Event('change')) })"
        "(document.getElementById('judged'))"
    )
    assert desktop.count() == "2 of 5 images shown, 2 mistakes"
    desktop.hover(PLACES[4])
    desktop.shows(4)
    desktop.hover(PLACES[1])
    desktop.until("document.getElementById('card').hidden")


def test_keys_move_and_zoom(desktop):
    desktop.browser.ask("document.getElementById('points').focus()")
    desktop.key("+")
    desktop.shows(0)
    for _ in range(15):
        desktop.key("ArrowRight")
        desktop.key("ArrowUp")
    desktop.shows(2)
    desktop.key("0")
    desktop.shows(0)
    desktop.hover(PLACES[3])
    desktop.shows(3)


def test_wheel_and_mouse_move_and_zoom(desktop):
    mouse, zoom = "Input.dispatchMouseEvent", math.exp(80 / 400)
    x, y = desktop.on_screen(PLACES[1])
    desktop.browser.call(mouse, type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-80)
    desktop.hover(PLACES[1])  # what was under the mouse stays there
    desktop.shows(1)
    target = PLACES[1] + (2, -1)
    to_x, to_y = desktop.on_screen(target)
    held = {"button": "left", "buttons": 1}
    desktop.browser.call(mouse, type="mousePressed", x=x, y=y, clickCount=1, **held)
    desktop.browser.call(mouse, type="mouseMoved", x=to_x, y=to_y, **held)
    desktop.browser.call(mouse, type="mouseReleased", x=to_x, y=to_y, button="left", clickCount=1)
    desktop.hover(target)
    desktop.shows(1)
    desktop.hover(target + zoom * (PLACES[0] - PLACES[1]))
    desktop.shows(0)


def test_fingers_tap_and_pinch(browser, page):
    phone = Map(browser, page, 400, 850)
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True)
    try:
        phone.touch("touchStart", phone.on_screen(PLACES[3]))
        phone.touch("touchEnd")
        phone.shows(3)
        inside = (
            "(([a, b]) => a.left >= b.left && a.right <= b.right && a.top >= b.top"
            " && a.bottom <= b.bottom)"
            "(['card', 'map'].map(id => document.getElementById(id).getBoundingClientRect()))"
        )
        assert browser.ask(inside)
        x, y = phone.on_screen(MIDDLE)
        phone.touch("touchStart", (x - 20, y), (x + 20, y))
        for apart in (30, 40, 50):
            phone.touch("touchMove", (x - apart, y), (x + apart, y))
        phone.touch("touchEnd")
        third = (PLACES[3] - MIDDLE) / 2.5  # of the way: it is now outside the window
        assert phone.on_screen(PLACES[3], 2.5)[0] < phone.box[0]
        phone.touch("touchStart", phone.on_screen(third))
        phone.touch("touchEnd")
        phone.until("document.getElementById('card').hidden")
        phone.touch("touchStart", phone.on_screen(MIDDLE))
        phone.touch("touchEnd")
        phone.shows(0)
    finally:
        browser.call("Emulation.setTouchEmulationEnabled", enabled=False)
