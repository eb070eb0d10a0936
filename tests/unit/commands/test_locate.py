import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.cli import run
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.evaluation.reports.files import write_report
from pipeline.evaluation.reports.localize import LocalizeReport
from pipeline.vision.bundle.description import Description
from pipeline.vision.inference.bundle import load_bundle
from tests.bundles import save_bundle

SIDE = 16
POOL = {"kind": "average", "size": SIDE, "stride": 1}  # of the whole map, once
ARGS = {"blocks": [{"filters": 1, "kernel": 1, "pool": POOL}]}
LAMPS = {"a.png": (10, 20, 30, 10), "deep/a.png": (0, 0, 20, 20)}


@pytest.fixture
def bundle():
    """A network whose map of 'lamp' is the brightness."""
    preprocessing = Preprocessing(SIDE, SIDE, 1, "stretch", 0, 8)
    description = Description("plain", ARGS, ("lamp", "night"), preprocessing, (0.0,), (1.0,))
    weights = description.build().state_dict()
    weights = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    weights["extractor.conv1.weight"] += 1.0
    weights["head.weight"] += torch.tensor([[9.0], [-9.0]])
    save_bundle(Path("models/final"), description, weights)
    return load_bundle(Path("models/final"))


@pytest.fixture
def images():
    """Two files of 80 x 80 px with a bright rectangle each, and one that is no image."""
    Path("in/deep").mkdir(parents=True)
    for name, (x, y, w, h) in LAMPS.items():
        pixels = np.zeros((80, 80), np.uint8)
        pixels[y : y + h, x : x + w] = 250
        Image.fromarray(pixels).save(Path("in") / name)
    Path("in/text.png").write_text("no image")


def test_each_image_gets_class_probability_and_box(bundle, images, capsys):
    assert run(["locate", "in", "--threshold", "0.5"]) == 0
    said = capsys.readouterr()
    assert "in/text.png: not an image" in said.err
    for line, (name, box) in zip(said.out.splitlines(), LAMPS.items(), strict=True):
        path, label, found, method = line.split("\t")
        assert (path, method) == (f"in/{name}", "cam")
        assert found == "box x {} y {} w {} h {}".format(*box)
        bright = np.asarray(Image.open(path)).mean() / 255
        assert label == f"lamp {1 / (1 + np.exp(-18 * bright)):.3f}"
    with Image.open("reports/locate.png") as picture:
        assert min(picture.size) > 200


@pytest.mark.parametrize("options", [[], ["--full-size"]])
def test_json_and_a_folder_of_pictures(bundle, images, capsys, options):
    words = ["locate", "in", "--json", "--class", "lamp", "--threshold", "0.5", "--output", "out"]
    assert run([*words, *options]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["path"] for row in rows] == ["in/a.png", "in/deep/a.png", "in/text.png"]
    for row, box in zip(rows, LAMPS.values(), strict=False):
        assert list(row["box"].values()) == pytest.approx(box)
        assert (row["class"], row["method"], row["problem"]) == ("lamp", "cam", None)
    assert (rows[2]["class"], rows[2]["box"], rows[2]["probability"]) == (None, None, None)
    assert "not an image" in rows[2]["problem"]
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "00001_a.png.png",
        "00002_a.png.png",
    ]


def test_a_problem_is_one_line_whatever_the_name(bundle, images, capsys):
    Path("in/text.png").rename("in/two\nlines.png")
    assert run(["locate", "in"]) == 0
    assert "convoy: in/two lines.png: not an image: no known format" in capsys.readouterr().err


def test_a_class_that_nothing_speaks_for_has_no_box(bundle, images, capsys):
    assert run(["locate", "in/a.png", "--class", "night"]) == 0
    assert "no box: nothing speaks for the class" in capsys.readouterr().out


def test_the_threshold_is_that_of_the_stage_for_this_model_alone(bundle, images, capsys):
    # A dim ground: above 0.2 of the maximum, above 0.6 not.
    pixels = np.full((80, 80), 100, np.uint8)
    pixels[20:40, 20:40] = 250
    Image.fromarray(pixels).save("dim.png")
    report = LocalizeReport(
        model=bundle.digest,
        method="cam",
        places=(SIDE, SIDE),
        threshold=0.6,
        chosen_on="validation",
        boxes=None,
    )
    whole = "x 0 y 0 w 80 h 80"
    no_box = "no box: it would be the whole image; a higher --threshold makes it smaller"
    for changes, words, said in (
        ({}, [], "x 20 y 20 w 20 h 20"),
        ({"threshold": 0.3}, [], whole),  # as validation boxes would have it
        ({"model": "other"}, [], no_box),
        ({"threshold": 0.3, "chosen_on": "params"}, [], no_box),
        ({"model": "other"}, ["--threshold", "0.2"], whole),
    ):
        write_report(Path("reports/localize.json"), report.model_copy(update=changes))
        assert run(["locate", "dim.png", *words]) == 0
        assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.png"], "gone.png: No such file or directory; name image files or folders"),
        (["in/text.png"], "convoy: in/text.png: not an image: no known format"),
        (["in/text.png"] * 2, "none of 2 files is an image that can be located"),
        (["in", "--model", "in"], "in is not a model bundle"),
        (["in", "--class", "lamb"], "--class lamb: the model has no such class"),
        (["in", "--threshold", "0"], "--threshold is 0; expected more than 0 and at most 1"),
        (["in", "--threshold", "nan"], "--threshold is nan; expected more than 0"),
        (["in", "--output", "a.gif"], "a.gif: expected a name that ends in .png, or a folder's"),
        (["in", "--output", "/proc/a.png"], "; name a file that can be written"),
        (["in", "--output", "in/text.png/x.png"], "--output in/text.png/x.png: "),
        (["in", "--output", "in/text.png/x"], "--output in/text.png/x/image.png: "),
    ],
)
def test_mistakes_are_one_line(bundle, images, capsys, words, message):
    before = _files()
    assert run(["locate", *words]) == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1]
    assert "Traceback" not in error
    assert _files() == before


def _files():
    return sorted(path for path in Path().rglob("*") if path.is_file())


def test_an_image_smaller_than_the_input_has_no_full_size(bundle, capsys):
    Image.new("L", (80, 8)).save("flat.png")
    assert run(["locate", "flat.png", "--full-size"]) == 2
    assert "flat.png: 80 x 8 px are less than the 16 x 16" in capsys.readouterr().err
