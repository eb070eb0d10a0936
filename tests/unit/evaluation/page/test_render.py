import dataclasses
import re
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pipeline.evaluation.judging.gate import AgainstBaseline, judge
from pipeline.evaluation.page import count_split, find_pictures, render
from pipeline.evaluation.retraining.history import Rows, rows_of
from tests import reports
from tests.calls import year

CLASSES = ("<b>ant</b>", "bee & co")
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "map.png"
    Image.new("RGB", (20, 10), "white").save(path)
    return reports.make_page(
        CLASSES, 40, reports.first(), pictures={"embed/map": path.read_bytes()}
    )


class Checker(HTMLParser):
    """Collect tags and every address that the page would load."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.addresses = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "srcset")]
        if tag not in ("meta", "link", "img", "wbr", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parse(html):
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    return checker


def text_of(html):
    body = re.sub(r"<[^>]+>", " ", html.partition("<body>")[2].replace("<wbr>", ""))
    return re.sub(r"\s+", " ", unescape(body)).replace(" .", ".")


def changed(page, **values):
    return dataclasses.replace(page, **values)


def test_the_page_is_whole_and_loads_nothing(page):
    checker = parse(render(page))
    assert "script" not in checker.tags
    # The map is a link to a page beside this one, which loads nothing either.
    loaded = set(checker.addresses) - {"map.html"}
    assert all(address.startswith(("data:", "#")) for address in loaded)
    assert checker.tags.count("img") == 1


def test_every_link_leads_to_a_section(page):
    html = render(page)
    targets = re.findall(r'href="#(\w+)"', html)
    assert sorted(targets) == sorted(re.findall(r'<section id="(\w+)"', html))


def test_names_and_paths_are_text(page):
    rows = [{"path": EVIL, "problem": "truncated"}]
    html = render(changed(page, data=reports.changed(page.data, left_out=rows)))
    html = html.replace("<wbr>", "")
    assert EVIL not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<b>ant</b>" not in html
    assert "bee &amp; co" in html


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("ant", "ant"),
        ("Turdus merula, first winter", "Turdus merula, first winter"),
        ("lower_left_lobe-severe", "lower_<wbr>left_<wbr>lobe-<wbr>severe"),
        ("\u732b" * 40, "\u732b" * 40),
        (f"<{'n' * 30}>", f'<span title="&lt;{"n" * 30}&gt;">&lt;{"n" * 11}…{"n" * 10}&gt;</span>'),
    ],
)
def test_class_names_break_between_words_only(name, shown):
    html = render(reports.make_page(("bee", name), 40, reports.first()))
    assert f'<td class="class">{shown}</td>' in html


def test_from_verdict_to_detail(page):
    html = render(page)
    marks = ("Ship it.", "The models", "What it gets wrong", "What changed", "Latent space</h2>")
    places = [html.index(mark) for mark in marks]
    assert places == sorted(places)


def test_the_first_model_has_nothing_to_be_compared_with(page):
    text = text_of(render(page))
    assert "Ship it. ants version 1 is champion now." in text
    assert "Macro-F1 above the baseline's +0.100 [+0.050, +0.150] above 0 ✓ passed" in text
    assert "One decision has read these test images, the first" in text
    assert "There was no champion before, so that there is nothing to compare with" in text


def test_a_promotion_that_no_interval_shows_says_so_first(page):
    rules = reports.RULES.model_copy(update={"min_gain_over_baseline": 0.0})
    met = AgainstBaseline(0.907, 0.9, {"value": 0.007, "ci95": [-0.053, 0.069]})
    checks = judge(met, None, None, rules, reports.METRIC)
    register = reports.changed(reports.first(), checks=checks, looks=9)
    html = render(changed(page, register=register))
    assert "<title>Ants &amp; bees: Promoted, but not proven.</title>" in html
    text = text_of(html)
    caveat = "better than the baseline is not shown: +0.007 [\N{MINUS SIGN}0.053, +0.069]"
    assert f"is champion now. {caveat[0].upper()}{caveat[1:]}." in text
    assert f"✓ passed {caveat}" in text
    assert "Ship it" not in text
    assert "9 decisions have read these test images" in text


def test_what_a_pass_would_have_noticed_stands_beside_it(page):
    register = reports.met(CLASSES, 40, champion=0.5, candidate=8.0)
    text = text_of(render(changed(page, register=register)))
    for check in register.checks:
        if "recall" in check.name:
            assert check.caveat
            assert f"✓ passed {check.caveat}" in text


def test_a_refused_model_stays_challenger(page):
    register = reports.met(CLASSES, 40, champion=3.0, candidate=-3.0)
    assert register.decision == "refused"
    text = text_of(render(changed(page, register=register)))
    assert "Not yet. ants version 4 stays challenger; version 3 is champion." in text
    assert "✗ failed" in text
    for check in register.checks:
        assert check.reason in text


def test_what_changed_against_the_champion(page):
    register = reports.met(CLASSES, 40, champion=0.5, candidate=8.0)
    assert register.decision == "promoted"
    text = text_of(render(changed(page, register=register)))
    assert "Ship it. ants version 4 is champion now, in place of version 3." in text
    pairs = register.comparison.mcnemar
    only = f"right on {pairs.only_first}, only version 3 on {pairs.only_second}"
    assert only in text
    assert "takes version 4 1.08 ms, version 3 1.00 ms: 1.08 times as long." in text
    assert "▲ better" in text
    assert "Recall rose most" in text


def test_an_unchanged_model_is_the_champion_itself(page):
    text = text_of(render(changed(page, register=reports.unchanged())))
    assert "Nothing to ship. This model is the champion already: ants version 3." in text
    assert "Nothing: this model is the champion itself, version 3." in text


def test_a_model_that_was_rolled_back_was_not_compared(page):
    reason = "version 4 was rolled back and is not promoted again by itself"
    register = reports.changed(
        reports.unchanged(),
        decision="refused",
        promoted=False,
        notes=[reason],
        version="4",
        aliases=[],
    )
    text = text_of(render(changed(page, register=register)))
    assert "Not yet. ants version 4 stays without an alias; version 3 is champion." in text
    assert reason in text
    assert "It was not compared with version 3, the champion." in text


@pytest.mark.parametrize(("name", "other"), [("base", "tuned"), ("tuned", "base")])
def test_which_network_ships_and_why(page, name, other):
    network = page.tta.network.model_dump() | {"name": name, "reason": "it was the better one"}
    text = text_of(render(changed(page, tta=reports.changed(page.tta, network=network))))
    assert f"Final: what is shipped, the {name} network averaged over 2 views" in text
    assert f"{name.capitalize()} ships and {other} does not: it was the better one." in text


def test_the_chosen_views_and_why(page):
    text = text_of(render(page))
    assert (
        "The final model averages 2 views of each image (identity, hflip; arithmetic mean)" in text
    )
    assert "the gain is real" in text
    assert text.count("✓ chosen") == 1
    chosen = {"count": 1, "views": ["identity"], "reason": "no gain is real"}
    chosen |= {"untried": ["hflip", "rotate 7"], "why_untried": "it would not help"}
    off = {"prior": "off", "ships": False, "change": None, "reason": "tta.calibrate is off"}
    tta = reports.changed(page.tta, chosen=chosen, calibration=off)
    text = text_of(render(changed(page, tta=tta)))
    assert (
        "The final model takes each image as it is: no gain is real. Not tried: hflip; rotate 7:"
        " it would not help." in text
    )
    assert "final, as shipped none" in text
    assert "The final model carries none: tta.calibrate is off." in text


def test_a_share_of_wrong_labels_that_a_weak_model_finds_is_withheld(page):
    why = "the final model does not beat the baseline"
    weak = reports.changed(page.suspicious, share_of_wrong_labels=None, withheld=why)
    text = text_of(render(changed(page, suspicious=weak)))
    assert f"The share of wrong labels is not estimated: {why}. A hint for a person" in text
    assert "estimated share of wrong labels" not in text


def test_sections_hold_the_reports(page):
    text = text_of(render(page))
    assert "61 files, 60 usable images in 2 classes; 1 left out: 1 truncated." in text
    assert "5 images form 2 groups of near duplicates. 7 synthetic images" in text
    assert "truncated: 3 bytes are missing" in text
    assert "final \N{MINUS SIGN} base" in text
    assert "1,23" in text
    assert "Of 50 validation and test images, 1 confidently belongs to another class" in text
    assert "share of wrong labels is 4.2" in text
    assert "as trained" in text
    assert "Recall@5 0.900 [0.800, 0.950]" in text
    assert "Random forest on 108 hand-crafted features of 40 training images, the best of 2" in text
    assert "The network's rival looks mostly at directions of edges: with those of other" in text
    assert "12.3 percentage points fewer validation images right" in text
    assert "Then at outline and size (2.0)." in text
    assert "random forest max features sqrt, min samples leaf 1 0.700 svm C 10.0 0.600" in text


def test_a_long_list_of_bad_files_is_cut(page):
    rows = [{"path": f"{i}.png", "problem": "empty"} for i in range(150)]
    html = render(changed(page, data=reports.changed(page.data, left_out=rows)))
    assert "99.png</td>" in html
    assert "100.png</td>" not in html
    assert "The first 100 of 150; all stand in reports/data.json." in html


def test_a_model_without_mistakes(page):
    final = page.evaluate.final.model_dump() | {"confusions": []}
    evaluate = reports.changed(page.evaluate, final=final)
    assert "None of the 40 test images." in text_of(render(changed(page, evaluate=evaluate)))


def test_pictures_are_found_by_stage(tmp_path):
    for name in ("embed/map.png", "balance/sheet.png", "balance/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    assert find_pictures(tmp_path) == {
        "balance/sheet": b"balance/sheet.png",
        "embed/map": b"embed/map.png",
    }


def test_rows_of_the_split_are_counted():
    counted = count_split(["a", "b", "a"], ["train", "test", "train"])
    assert counted["a"] == {"train": 2, "val": 0, "test": 0}
    assert counted["b"] == {"train": 0, "val": 0, "test": 1}


def test_spans_lie_on_one_line(page):
    html = render(page)
    places = [float(value) for value in re.findall(r"left:([\d.]+)%", html)]
    assert min(places) == 0
    assert max(places) <= 100
    assert np.ptp(places) > 0


def test_the_latest_calls_stand_on_the_page_the_latest_first(page):
    assert "Scheduled retraining" not in render(page)
    html = render(changed(page, calls=Rows(tuple(rows_of(year())))))
    parse(html)
    assert "<b>wasp</b>" not in html
    text = text_of(html).partition("Scheduled retraining")[2]
    outcomes = ["promoted", "failed", "held back", "refused by the gate", "promoted"]
    places = [text.index(f"2027-0{day}") for day in ("2-14", "2-07", "1-31", "1-24", "1-17")]
    assert places == sorted(places)
    for outcome, place in zip(outcomes, places, strict=True):
        assert text[place:].split(maxsplit=2)[2].startswith(outcome)
    assert "nothing to do (2 calls)" in text
    assert "macro-F1 fell by 0.02" in text
    suspects = "as the call of 2027-01-31 03:05 found them File Label Suggested ant/<1>.png ant"
    assert f"1 new images whose label looks wrong to the champion, {suspects} <i>bee</i>" in text
    assert "version 4 0.950 [0.920, 0.970]" in text
