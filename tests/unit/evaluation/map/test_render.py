import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from pipeline.evaluation.map import MapPoints, make_thumbnails, render_map, room_for_thumbnails

NAMES = ["</script><script>alert(1)</script>", 'a"b', "ñ 鳥 \u2028"]


class Elements(HTMLParser):
    """The scripts of a page by their ids, and which elements there are."""

    def __init__(self, html):
        super().__init__()
        self.scripts, self.tags, self.policy, self._id = {}, [], "", None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        self._id = (
            given.get("id", "thumbnails" if "class" in given else "code")
            if tag == "script"
            else None
        )
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]

    def handle_data(self, data):
        if self._id:
            self.scripts[self._id] = data
            self._id = None


def make_points(n=40, classes=NAMES):
    rng = np.random.default_rng(0)
    return MapPoints(
        classes,
        [f"{NAMES[i % 3]}/{i}.png" for i in range(n)],
        rng.integers(0, len(classes), n),
        rng.normal(size=(n, 2)) * (3, 1),
        ["train", "test"],
        rng.integers(0, 2, n),
        rng.integers(-1, len(classes), n),
        rng.random(n),
    )


def page_of(points):
    n = len(points.paths)
    images, rows = np.zeros((n, 8, 8, 1), np.uint8), np.arange(n)
    made = make_thumbnails(lambda i: images[i], rows, rows, room_for_thumbnails(points))
    return render_map(points, made, "T <1>", ["N & <2>"])


def test_the_page_holds_what_it_was_given():
    points = make_points()
    found = Elements(page_of(points))
    unpacked = {
        name: gzip.decompress(base64.b64decode(found.scripts[name]))
        for name in ("texts", "numbers", "places")
    }
    texts = json.loads(unpacked["texts"])
    assert texts["paths"] == points.paths
    assert [one["name"] for one in texts["classes"]] == NAMES
    assert texts["sets"] == ["train", "test"]
    x, y, label, answer, probability, of_set = np.frombuffer(unpacked["numbers"], "<u2").reshape(
        6, 40
    )
    places = np.stack([x, y], axis=1) / 65535
    # Equal steps in both directions.
    span = np.ptp(points.places, axis=0).max()
    expected = (points.places - points.places.min(axis=0)) / span
    np.testing.assert_allclose(places, expected, atol=1e-5)
    np.testing.assert_array_equal(label, points.labels)
    np.testing.assert_array_equal(np.where(answer == 65535, -1, answer.astype(int)), points.answers)
    np.testing.assert_allclose(probability / 10_000, points.probabilities, atol=1e-4)
    np.testing.assert_array_equal(of_set, points.of_set)
    np.testing.assert_array_equal(np.frombuffer(unpacked["places"], "<i4"), np.arange(40))


def test_names_are_nowhere_in_the_page_as_they_are():
    html = page_of(make_points())
    assert "alert(1)" not in html
    assert "T &lt;1&gt;" in html
    assert "N &amp; &lt;2&gt;" in html
    assert Elements(html).tags.count("script") == 6


def test_only_the_script_of_the_page_may_run():
    found = Elements(page_of(make_points()))
    digest = base64.b64encode(hashlib.sha256(found.scripts["code"].encode()).digest()).decode()
    assert found.policy.startswith("default-src 'none'; img-src data:;")
    assert re.findall(r"script-src ([^;]*)", found.policy) == [f"'sha256-{digest}'"]


@pytest.mark.parametrize("n", [0, 1])
def test_few_points(n):
    assert json.loads(Elements(page_of(make_points(n))).scripts["sheet"])["height"] >= 1


def test_a_hundred_classes_have_a_hundred_symbols():
    points = make_points(classes=[str(i) for i in range(100)])
    texts = gzip.decompress(base64.b64decode(Elements(page_of(points)).scripts["texts"]))
    symbols = {(one["colour"], one["marker"]) for one in json.loads(texts)["classes"]}
    assert len(symbols) == 100
