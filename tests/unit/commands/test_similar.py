import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

from pipeline.cli import run
from pipeline.commands import similar
from pipeline.data.packing.preprocess import preprocess_file
from pipeline.data.shards.shards import ImageSet
from pipeline.evaluation.latent import approximate
from pipeline.evaluation.metrics.predictions import Predictions, write_predictions
from pipeline.params import load_params
from pipeline.stages import embed
from pipeline.vision.inference.bundle import load_bundle
from pipeline.vision.inference.predict import embeddings, probabilities
from tests.fitted import fit_bundle
from tests.packed import BARS, bars, write_set

COUNTS = {"train": 60, "val": 15, "test": 30}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose images are embedded, and three files: one of train, a new one, and a text."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        sets = {
            split: write_set(Path("data/packed") / split, *bars(count, seed=seed), BARS)
            for seed, (split, count) in enumerate(COUNTS.items())
        }
        fit_bundle(Path("models/final"), sets["train"])
        fit_bundle(Path("models/other"), sets["train"], seed=1)
        write_answers(sets["test"])
        embed.run(load_params(Path(__file__).parents[3] / "params.yaml"))
        Path("in").mkdir()
        Image.fromarray(sets["train"].gather(np.array([7]))[0, ..., 0]).save("in/known.png")
        Image.fromarray(bars(1, seed=9)[0][0, ..., 0]).save("in/new.png")
        Path("in/text.png").write_text("not a picture")
    return root


def write_answers(test):
    """Write what the final model says of the test images, as evaluate does."""
    bundle = load_bundle(Path("models/final"))
    said = probabilities(bundle, test.batches(256))
    labels = test.labels.astype(np.int64)
    given = Predictions(test.info.classes, test.ids, test.paths, labels, said)
    write_predictions(Path("data/predictions/final.parquet"), given)


@pytest.fixture
def inside(project, monkeypatch):
    monkeypatch.chdir(project)


def vectors_of(split):
    images = ImageSet.open(Path("data/packed") / split)
    return embeddings(load_bundle(Path("models/final")), images.batches(256)), images


@pytest.fixture
def expected(inside):
    """All cosines of in/new.png, by an independent way, with paths, classes and splits."""
    bundle = load_bundle(Path("models/final"))
    pixels = preprocess_file(Path("in/new.png"), bundle.preprocessing)
    query = embeddings(bundle, [pixels[None].copy()])
    found = {}
    for split in COUNTS:
        vectors, images = vectors_of(split)
        cosines = cosine_similarity(query, vectors)[0]
        found[split] = (cosines, images, vectors)
    return found


@pytest.mark.parametrize("among", ["train", "all"])
def test_the_nearest_are_printed_with_class_and_cosine(expected, among, capsys):
    arguments = ["similar", "in/new.png", "-k", "12", "--among", among, "--json"]
    assert run(arguments) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    rows = [
        (cosine, path, BARS[label], split)
        for split, (cosines, images, _) in expected.items()
        if among == "all" or split == "train"
        for cosine, path, label in zip(cosines, images.paths, images.labels, strict=True)
    ]
    rows.sort(key=lambda row: -row[0])
    for found, (cosine, path, label, split) in zip(answer["nearest"], rows[:12], strict=True):
        assert (found["path"], found["class"], found["split"]) == (path, label, split)
        assert found["cosine"] == pytest.approx(cosine, abs=1e-5)
    train, test = expected["train"], expected["test"]
    nearest = answer["nearest_training"]
    assert nearest["cosine"] == pytest.approx(train[0].max(), abs=1e-5)
    of_test = cosine_similarity(test[2], train[2]).max(axis=1)
    assert nearest["test_images_below"] == pytest.approx((of_test < train[0].max()).mean())
    assert Image.open("reports/similar.png").size[0] > 1000


def test_lines_and_files_that_cannot_be_used(inside, capsys, tmp_path):
    sheet = tmp_path / "new" / "sheet.png"
    assert run(["similar", "in", "in/new.png", "-k", "2", "--output", str(sheet)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 6  # each file once
    assert lines[0].startswith("in/known.png\tcosine 1.000 to the nearest training image, higher")
    assert lines[1].split("\t")[:4] == ["1", "1.000", "lying", "train"]
    assert lines[1].split("\t")[4] == "lying/7.png"
    assert "convoy: in/text.png: not an image: no known format" in err.splitlines()
    assert sheet.stat().st_size > 1000


def test_a_sheet_has_a_bound_and_the_answers_do_not(inside, capsys, tmp_path, monkeypatch):
    sheets = []
    monkeypatch.setattr(similar, "draw_similar", lambda *sheet: sheets.append(sheet))
    monkeypatch.setattr(similar, "save", lambda *_: None)
    monkeypatch.setattr(similar, "_ROWS_DRAWN", 2)
    for k, heading in ((3, "those nearest to it"), (12, "the 10 of 12 nearest to it; 1 more are")):
        words = ["in/known.png", "in/new.png", "-k", str(k), "--output", str(tmp_path / "a.png")]
        assert run(["similar", *words]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 2 * (k + 1)
        assert heading in sheets[-1][1]
    assert [[len(near) for _, near in drawn] for drawn, _ in sheets] == [[3, 3], [10]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.png"], "convoy: nothing.png: No such file or directory; name image files"),
        (["in/text.png"], "convoy: in/text.png: not an image: no known format"),
        (["in/text.png"] * 2, "convoy: none of 2 files is an image that can be searched for"),
        (["in/new.png", "-k", "61"], "convoy: -k is 61, and 60 images are searched; lower -k"),
        (["in/new.png", "-k", "0"], "convoy: Invalid value for '-k': 0 is not in the range x>=1"),
        (["in/new.png", "--model", "in"], "convoy: in is not a model bundle: bundle.json is mis"),
        (["in/new.png", "--output", "a.jpg"], "expected a name that ends in .png, got '.jpg'"),
        (["in/new.png", "--output", "in/new.png/a.png"], "in/new.png is not a folder; name a"),
        (
            ["in/new.png", "--model", "models/other"],
            "convoy: data/embeddings/train.parquet was made by another model: expected vectors of"
            " the bundle",
        ),
    ],
)
def test_mistakes_are_one_line(inside, arguments, message, capsys):
    assert run(["similar", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err.splitlines()[-1]


def test_what_does_not_belong_together_is_refused(project, tmp_path, monkeypatch, capsys):
    shutil.copytree(project, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    ask = ["similar", "in/new.png"]
    unit = Path("data/embeddings/unit.npy")
    whole = unit.read_bytes()
    unit.write_bytes(whole[:-10])
    assert run(ask) == 2
    np.save(unit, np.zeros((7, 8), np.float32))
    assert run(ask) == 2
    unit.unlink()
    assert run(ask) == 2
    unit.write_bytes(whole)
    shutil.rmtree("data/packed/train")
    shutil.copytree("data/packed/test", "data/packed/train")
    assert run(ask) == 2
    damaged, short, missing, other = capsys.readouterr().err.splitlines()
    assert damaged.startswith("convoy: data/embeddings/unit.npy is damaged (")
    assert "expected 105 vectors, as many as images, found 7" in short
    assert missing == "convoy: data/embeddings/unit.npy is missing; run dvc repro to make it"
    assert other == (
        "convoy: data/packed holds other images than data/embeddings; run dvc repro to embed them"
    )


def test_beyond_a_million_faiss_is_asked(inside, expected, monkeypatch, capsys):
    pytest.importorskip("faiss")
    monkeypatch.setattr(approximate, "MOST_EXACT", 50)
    assert run(["similar", "in/new.png", "-k", "1", "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    cosines, images, _ = expected["train"]
    assert answer["nearest"][0]["path"] == images.paths[cosines.argmax()]
    (index,) = Path(".convoy/search").iterdir()
    assert index.name.startswith("train-")
