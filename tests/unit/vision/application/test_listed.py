import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.data.images.decode import UnusableImageError
from pipeline.data.packing import preprocess
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.errors import PipelineError
from pipeline.parallel import spread_by
from pipeline.vision.application import listed, reading
from pipeline.vision.application.answers import read_answers
from pipeline.vision.application.classify import classify_files
from pipeline.vision.application.listed import classify_listed, save_listing
from pipeline.vision.bundle.description import Description
from pipeline.vision.inference.bundle import load_bundle
from tests.bundles import save_bundle

MODEL, LISTING, ANSWERS = Path("model"), Path("files.parquet"), Path("out/answers.parquet")


@pytest.fixture
def bundle(monkeypatch):
    """A bundle, batches of 4 and pieces of 8 files."""
    monkeypatch.setattr(reading, "BATCH_SIZE", 4)
    monkeypatch.setattr(listed, "_PIECE", 8)
    torch.manual_seed(0)
    preprocessing = Preprocessing(16, 16, 1, "stretch", 0, 8)
    classes = ("ant", "bee", "cat")
    description = Description("lenet5", {}, classes, preprocessing, (0.4,), (0.3,))
    save_bundle(MODEL, description, description.build().state_dict())
    return load_bundle(MODEL)


@pytest.fixture
def files():
    """19 files: a damaged one, one that is not there and one whose name is no UTF-8."""
    paths = [Path(f"{number}.png") for number in range(19)]
    paths[5] = Path(os.fsdecode(b"\xff.png"))
    for seed, path in enumerate(paths):
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 18)).astype(np.uint8)
        Image.fromarray(pixels).save(path, "PNG")
    paths[3].write_bytes(paths[3].read_bytes()[:100])
    paths[12].unlink()
    return paths


@pytest.fixture
def pieces():
    """Has work spread, and lists the pieces."""
    seen = []

    def spread(function, pieces):
        for piece in pieces:
            seen.append(piece)
            yield function(piece)

    with spread_by(spread):
        yield seen


def test_pieces_answer_as_the_whole(bundle, files, pieces):
    save_listing(iter(files), LISTING)
    classify_listed(MODEL, LISTING, ANSWERS)
    assert pieces == [range(8), range(8, 16), range(16, 19)]
    whole = list(classify_files(bundle, files, 1))
    assert [answer.path for answer in whole if answer.problem] == [files[3], files[12]]
    assert list(read_answers(ANSWERS, files)) == whole  # floats too, to the last bit


def test_a_listing_changes_with_what_it_lists(files):
    seen = set()

    def listing():
        save_listing(files, LISTING)
        seen.add(LISTING.read_bytes())
        return len(seen)

    assert listing() == listing() == 1
    os.utime(files[0], ns=(0, 1))
    assert listing() == 2
    files[1].write_bytes(b"")
    os.utime(files[1], ns=(0, 1))
    assert listing() == 3
    files[2].unlink()
    assert listing() == 4
    files.pop()
    assert listing() == 5


@pytest.mark.parametrize("change", ["time", "size", "gone"])
def test_another_file_than_was_listed_gets_no_answer(bundle, files, pieces, change):
    save_listing(files, LISTING)
    if change == "time":
        os.utime(files[9], ns=(0, 1_500_000_000))
    elif change == "size":
        files[9].write_bytes(b"12345")
    else:
        files[9].unlink()
    now = {
        "time": r"\d+ bytes of 1970-01-01 00:00:01\.500000 UTC",
        "size": "5 bytes of .* UTC",
        "gone": "not there",
    }
    with pytest.raises(
        PipelineError,
        match=rf"^9\.png is not the file on \S+ that it was when it was listed: {now[change]}, it"
        r" was \d+ bytes of .* UTC; if it has changed, run again; else put it where",
    ):
        classify_listed(MODEL, LISTING, ANSWERS)
    assert not ANSWERS.exists()


def test_neither_does_one_that_only_one_side_can_read(bundle, files, pieces, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(listed.os, "access", lambda path, _: path != files[9])
        save_listing(files, LISTING)
    with pytest.raises(PipelineError, match=r"^9\.png can be read on \S+, unlike where it was"):
        classify_listed(MODEL, LISTING, ANSWERS)
    save_listing(files, LISTING)
    read = preprocess.read_content

    def refuse(path, *args):
        if path == files[9]:
            raise UnusableImageError("unreadable: Permission denied")
        return read(path, *args)

    monkeypatch.setattr(preprocess, "read_content", refuse)
    with pytest.raises(PipelineError, match=r"^9\.png cannot be read on \S+, unlike where it was"):
        classify_listed(MODEL, LISTING, ANSWERS)
    assert not ANSWERS.exists()
