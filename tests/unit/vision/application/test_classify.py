import io

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.data.packing.preprocess import preprocess
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.vision.application import classify
from pipeline.vision.application.classify import classify_files
from pipeline.vision.bundle.description import Description, Views, rewrite_bundle
from pipeline.vision.inference.bundle import load_bundle
from pipeline.vision.inference.predict import probabilities
from tests.bundles import save_bundle

CLASSES = ("ant", "bee", "cat")


@pytest.fixture
def bundle(tmp_path):
    torch.manual_seed(0)
    preprocessing = Preprocessing(16, 16, 1, "stretch", 0, 8)
    description = Description("lenet5", {}, CLASSES, preprocessing, (0.4,), (0.3,))
    save_bundle(tmp_path / "model", description, description.build().state_dict())
    return load_bundle(tmp_path / "model")


def contents(count):
    """Encode as many different images."""
    files = []
    for seed in range(count):
        pixels = np.random.default_rng(seed).integers(0, 256, (16, 16)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files


def written(folder, files):
    paths = [folder / f"{number}.png" for number in range(len(files))]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    return paths


def expected(bundle, files):
    arrays = np.stack([preprocess(content, bundle.preprocessing) for content in files])
    return probabilities(bundle, [arrays])


@pytest.mark.parametrize("workers", [1, 3])
def test_answers_come_in_the_order_of_the_files(bundle, tmp_path, workers):
    files = contents(9)
    paths = written(tmp_path, files)[::-1]
    answers = list(classify_files(bundle, paths, workers))
    assert [answer.path for answer in answers] == paths
    posteriors = expected(bundle, files)[::-1]
    found = np.array([answer.probabilities for answer in answers])
    np.testing.assert_allclose(found, posteriors, atol=1e-6)
    assert [answer.label for answer in answers] == [CLASSES[i] for i in posteriors.argmax(axis=1)]
    assert all(answer.problem is None for answer in answers)


def test_a_file_is_answered_alike_in_any_company(bundle, tmp_path):
    policy = [{"Affine": {"rotate": [-30, 30], "p": 1.0}}]
    items = ({"hflip": {}}, *({"random": {"draw": n, "policy": policy}} for n in range(2)))
    rewrite_bundle(tmp_path / "model", tmp_path / "final", Views(items, "geometric", 1), 0.5)
    final, paths = load_bundle(tmp_path / "final"), written(tmp_path, contents(7))
    together = [answer.probabilities for answer in classify_files(final, paths, 2)]
    for path, expected_one in zip(paths, together, strict=True):
        (alone,) = classify_files(final, [path], 1)
        np.testing.assert_allclose(alone.probabilities, expected_one, atol=1e-6)
    plain = [answer.probabilities for answer in classify_files(bundle, paths, 2)]
    assert np.abs(np.array(plain) - together).max() > 1e-3


def test_a_bad_file_in_the_middle_shifts_nobody(bundle, tmp_path):
    files = contents(5)
    paths = written(tmp_path, [*files[:2], b"no image", *files[2:]])
    answers = list(classify_files(bundle, paths, 2))
    bad = answers.pop(2)
    assert (bad.path, bad.label, bad.probabilities) == (paths[2], None, ())
    assert bad.problem == f"{paths[2]}: not an image: no known format"
    found = np.array([answer.probabilities for answer in answers])
    np.testing.assert_allclose(found, expected(bundle, files), atol=1e-6)


def test_a_batch_of_bad_files_is_answered(bundle, tmp_path):
    answers = list(classify_files(bundle, written(tmp_path, [b"", b"x"]), 2))
    assert [answer.problem.split(": ", 1)[1] for answer in answers] == [
        "empty: 0 bytes",
        "not an image: no known format",
    ]


def test_many_files_are_held_a_batch_at_a_time(bundle, tmp_path, monkeypatch):
    sizes = []

    def counted(bundle, batches):
        batches = list(batches)
        sizes.extend(len(batch) for batch in batches)
        return probabilities(bundle, batches)

    monkeypatch.setattr(classify, "probabilities", counted)
    files = contents(3)
    paths = written(tmp_path, files)
    answers = list(classify_files(bundle, (paths * 100)[:270], 2))
    assert sizes == [256, 14]
    posteriors = expected(bundle, files)
    for number, answer in enumerate(answers):
        assert answer.path == paths[number % 3]
        np.testing.assert_allclose(answer.probabilities, posteriors[number % 3], atol=1e-6)
    assert len(answers) == 270
