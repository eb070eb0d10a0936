import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.cli import run
from pipeline.data.packing.preprocess import preprocess_file
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.params import Tracking
from pipeline.runtime.registry.versions import register_bundle
from pipeline.runtime.tracking.store import open_client
from pipeline.vision.bundle.description import Description
from pipeline.vision.inference.bundle import load_bundle
from pipeline.vision.inference.predict import probabilities
from tests.bundles import save_bundle

CLASSES = ("big cat", "dog")


@pytest.fixture
def bundle():
    preprocessing = Preprocessing(28, 28, 1, "pad", 0, 8)
    description = Description("lenet5", {}, CLASSES, preprocessing, (0.4,), (0.3,))
    save_bundle(Path("models/final"), description, description.build().state_dict())
    return load_bundle(Path("models/final"))


@pytest.fixture
def images():
    """Three good files in nested folders, and what else lies about in folders."""
    rng = np.random.default_rng(0)
    Path("in/deep").mkdir(parents=True)
    for path, mode in (("in/a.jpg", "RGB"), ("in/deep/b.png", "L"), ("in/c.png", "RGBA")):
        shape = (40, 30) if mode == "L" else (40, 30, len(mode))
        Image.fromarray(rng.integers(0, 256, shape, np.uint8), mode).save(path)
    Path("in/.hidden").write_text("x")
    return [Path("in/a.jpg"), Path("in/c.png"), Path("in/deep/b.png")]


pytestmark = pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")


def expected(bundle, images):
    arrays = np.stack([preprocess_file(path, bundle.preprocessing) for path in images])
    return probabilities(bundle, [arrays])


def test_a_folder_is_classified_in_order(bundle, images, capsys):
    assert run(["predict", "in"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, path, posterior in zip(lines, images, expected(bundle, images), strict=True):
        name, label, ranked = line.split("\t")
        assert name == str(path)
        assert label == CLASSES[posterior.argmax()]
        assert ranked.startswith(f"{label} {posterior.max():.3f}")


def written(kind):
    """Return names of columns and rows of answers.<kind>, empty cells as None."""
    path = Path(f"out/answers.{kind}")
    if kind == "parquet":
        table = pq.read_table(path)
        return table.column_names, [list(row.values()) for row in table.to_pylist()]
    if kind == "csv":
        header, *rows = csv.reader(path.read_text().splitlines())
        numbers = slice(2, -1)
        for row in rows:
            row[:] = [cell or None for cell in row]
            row[numbers] = [cell and float(cell) for cell in row[numbers]]
        return header, rows
    rows = json.loads(path.read_text())
    names = [
        label
        for name in rows[0]
        for label in (
            [f"p_{label}" for label in rows[0][name]] if name == "probabilities" else [name]
        )
    ]
    flat = [row | {f"p_{label}": p for label, p in row["probabilities"].items()} for row in rows]
    return names, [[row.get(name) for name in names] for row in flat]


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_answers_carry_class_and_probability_and_those_of_all_classes(bundle, images, kind):
    Path("in/text.png").write_text("not a picture")
    assert run(["predict", "in", "--output", f"out/answers.{kind}"]) == 0
    names, rows = written(kind)
    assert names == ["path", "class", "probability", "p_big cat", "p_dog", "problem"]
    assert rows.pop() == [
        "in/text.png",
        None,
        None,
        None,
        None,
        "in/text.png: not an image: no known format",
    ]
    for row, path, posterior in zip(rows, images, expected(bundle, images), strict=True):
        assert row[:2] == [str(path), CLASSES[posterior.argmax()]]
        assert row[2:5] == pytest.approx([posterior.max(), *posterior])
        assert row[5] is None


def test_a_file_that_cannot_be_used_is_named_and_the_rest_is_classified(bundle, images, capsys):
    content = images[0].read_bytes()
    Path("in/half.jpg").write_bytes(content[: len(content) // 2])
    Path("in/text.png").write_text("not a picture")
    assert run(["predict", "in", "--output", "answers.json"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert err.count("\n") == 2
    assert "convoy: in/half.jpg" in err
    assert "convoy: in/text.png: not an image" in err
    rows = {row["path"]: row for row in json.loads(Path("answers.json").read_text())}
    assert rows["in/text.png"]["class"] is None
    assert "not an image" in rows["in/text.png"]["problem"]
    assert rows["in/a.jpg"]["problem"] is None


def test_nothing_that_can_be_used_is_a_mistake(bundle, capsys):
    for name in ("a.jpg", "b.jpg"):
        Path(name).write_text("x")
    alone = "convoy: a.jpg: not an image: no known format"
    assert run(["predict", "a.jpg", "--output", "a.json"]) == 2
    assert capsys.readouterr().err.splitlines() == [alone]
    assert [row["path"] for row in json.loads(Path("a.json").read_text())] == ["a.jpg"]
    assert run(["predict", "a.jpg", "b.jpg"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[0] == alone
    assert err[-1] == "convoy: none of 2 files is an image that can be classified"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nowhere", "nowhere is not a model bundle: bundle.json is missing"),
        ("in", "bundle.json is"),
    ],
)
def test_a_model_that_is_none(images, model, message, capsys):
    assert run(["predict", "in", "--model", model]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("pipe", "convoy: pipe: not a regular file; name image files or folders\n"),
        ("/dev/zero", "convoy: /dev/zero: not a regular file; name image files or folders\n"),
        ("none.png", "convoy: none.png: No such file or directory; name image files or folders\n"),
        ("x" * 5000, f"convoy: {'x' * 5000}: File name too long; name image files or folders\n"),
        ("empty", "convoy: no files in empty; name image files or folders\n"),
    ],
)
def test_paths_that_are_no_images(path, message, capsys):
    os.mkfifo("pipe")
    Path("empty").mkdir()
    assert run(["predict", path]) == 2
    assert capsys.readouterr().err == message


def test_what_is_no_file_in_a_folder_is_passed_over(bundle, images, capsys):
    os.mkfifo("in/pipe.png")
    assert run(["predict", "in"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("in/a.jpg/answers.csv", "in/a.jpg is not a folder"),
        ("in/a.jpg/deep/answers.csv", "in/a.jpg/deep is not a folder"),
        ("folder.csv", "is a folder"),
        ("x" * 5000 + ".csv", "File name too long"),
        ("answers.txt", "expected a name that ends in .csv, .json or .parquet, got '.txt'"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_first(images, output, reason, capsys):
    Path("folder.csv").mkdir()
    # Without a model: nothing of the work has begun.
    assert run(["predict", "in", "--output", output]) == 2
    err = capsys.readouterr().err
    assert re.match(rf"convoy: --output {re.escape(output)}: ({reason})", err)
    assert err.count("\n") == 1


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_names_that_are_no_text_are_spelt_out(bundle, images, kind, capsys):
    images[0].rename(os.fsdecode(b"in/\xff.jpg"))
    Path(os.fsdecode(b"in/\xfe.png")).write_text("no image")
    assert run(["predict", "in", "--output", f"answers.{kind}"]) == 0
    out, err = capsys.readouterr()
    assert "in/\\xff.jpg\t" in out
    assert err == "convoy: in/\\xfe.png: not an image: no known format\n"
    text = Path(f"answers.{kind}").read_text(encoding="utf-8")
    names = (
        [row["path"] for row in json.loads(text)]
        if kind == "json"
        else [row[0] for row in csv.reader(text.splitlines()[1:])]
    )
    assert sorted(names) == ["in/\\xfe.png", "in/\\xff.jpg", "in/c.png", "in/deep/b.png"]


def test_a_registered_model_answers_as_its_bundle_and_needs_no_params(
    bundle, images, capsys, monkeypatch
):
    tracking = Tracking(
        uri=f"sqlite:///{Path.cwd()}/mlflow.db",
        experiment="tests",
        system_metrics=False,
        checkpoints="best",
    )
    client = open_client(tracking)
    experiment = client.get_experiment_by_name("tests")
    registered = register_bundle(
        Path("models/final"),
        tracking=tracking,
        name="m",
        run_id=client.create_run(experiment.experiment_id).info.run_id,
    )
    capsys.readouterr()
    assert run(["predict", "in"]) == 0
    expected_lines = capsys.readouterr().out
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    for model in ("models:/m/1", registered.run_id):
        assert run(["predict", "in", "--model", model]) == 0
        assert capsys.readouterr().out == expected_lines
    assert run(["predict", "in", "--model", "models:/n/1"]) == 2
    assert "no model models:/n/1 in the registry" in capsys.readouterr().err
    assert run(["predict", "in", "--model", "0" * 32]) == 2
    assert f"the run {'0' * 32} at sqlite:" in capsys.readouterr().err
