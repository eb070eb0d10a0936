"""What embed finds in the latent space, and the map that it writes."""

import base64
import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from pipeline.data.shards.shards import ImageSet
from pipeline.errors import PipelineError
from pipeline.evaluation.latent.embeddings import (
    SPLITS,
    open_gallery,
    read_embeddings,
    read_nearest_training,
)
from pipeline.evaluation.metrics.predictions import read_predictions
from pipeline.stages._map import write_map
from pipeline.vision.inference.bundle import load_bundle
from tests.stages.evaluation.project import CLASSES, PARAMS, read

SETS = ("train", "test")


def test_embed_searches_the_training_images(inside):
    found = read("reports/retrieve.json")
    assert (found["queries"], found["searched"], found["dimensions"]) == (30, 70, 84)
    train = read_embeddings(Path("data/embeddings/train.parquet"))
    test = read_embeddings(Path("data/embeddings/test.parquet"))
    assert train.vectors.shape == (70, 84)
    unit = [e.vectors / np.linalg.norm(e.vectors, axis=1, keepdims=True) for e in (train, test)]
    first = train.labels[(unit[1] @ unit[0].T).argmax(axis=1)] == test.labels
    assert found["test"]["recall_at_1"]["value"] == pytest.approx(first.mean())
    similarity = unit[1] @ unit[0].T
    precisions = [
        average_precision_score(train.labels == label, row)
        for label, row in zip(test.labels, similarity, strict=True)
    ]
    value = found["test"]["mean_average_precision"]["value"]
    assert value == pytest.approx(np.mean(precisions), abs=1e-4)
    # The sets are small: nothing is drawn, and both searches are the same.
    pixels = found["against_pixels"]
    assert pixels["latent"]["recall_at_1"] == found["test"]["recall_at_1"]
    for name, figure in pixels["difference"].items():
        gain = pixels["latent"][name]["value"] - pixels["pixels"][name]["value"]
        assert figure["value"] == pytest.approx(gain)
        assert figure["ci95"][0] <= gain <= figure["ci95"][1]
    np.testing.assert_allclose(
        read_nearest_training(Path("data/embeddings")), similarity.max(axis=1), atol=1e-5
    )


def test_embed_finds_what_people_may_want_to_look_at(inside):
    found = read("reports/retrieve.json")
    gallery = open_gallery(
        Path("data/embeddings"), SPLITS, load_bundle(Path("models/final")).digest
    )
    assert len(gallery.vectors) == found["duplicates"]["searched"] == found["outliers"]["judged"]
    similarity = gallery.vectors[-30:] @ gallery.vectors[:70].T
    least = found["unlike"]["listed"][0]
    row = similarity.max(axis=1).argmin()
    assert least["path"] == gallery.rows.paths[85 + row]
    assert least["nearest"]["path"] == gallery.rows.paths[similarity[row].argmax()]
    limit = found["unlike"]["threshold"]
    assert found["unlike"]["below"] == (similarity.max(axis=1) < limit).sum()
    of_val = (gallery.vectors[70:85] @ gallery.vectors[:70].T).max(axis=1)
    assert limit == pytest.approx(np.quantile(of_val, 0.05), abs=1e-5)
    for group in found["duplicates"]["listed"]:
        assert len(group["images"]) > 1


def map_texts():
    """Return what the map holds as text."""
    html = Path("reports/map.html").read_text(encoding="utf-8")
    packed = re.search(r'id="texts">([^<]*)<', html).group(1)
    return html, json.loads(gzip.decompress(base64.b64decode(packed)))


def test_the_map_holds_the_test_images(inside):
    html, texts = map_texts()
    assert texts["paths"] == ImageSet.open(Path("data/packed/test")).paths
    assert [one["name"] for one in texts["classes"]] == list(CLASSES)
    assert "30 test images by t-SNE, 84 dimensions" in html
    assert 'href="map.html"' in Path("reports/index.html").read_text()


def test_the_map_of_all_images_has_answers_for_those_of_test(copied):
    write_map(
        {name: read_embeddings(Path(f"data/embeddings/{name}.parquet")) for name in SETS},
        PARAMS.embed.model_copy(update={"map": "all"}),
    )
    html, texts = map_texts()
    sets = [ImageSet.open(Path("data/packed") / name) for name in SETS]
    assert texts["paths"] == sets[0].paths + sets[1].paths
    packed = re.search(r'id="numbers">([^<]*)<', html).group(1)
    numbers = np.frombuffer(gzip.decompress(base64.b64decode(packed)), "<u2").reshape(6, 100)
    assert (numbers[3, :70] == 65535).all()
    given = read_predictions(Path("data/predictions/final.parquet"))
    np.testing.assert_array_equal(numbers[3, 70:], given.probabilities.argmax(axis=1))
    np.testing.assert_allclose(numbers[4, 70:] / 10_000, given.probabilities.max(axis=1), atol=1e-4)


def test_a_map_needs_the_answers_to_its_images(copied):
    before = Path("reports/map.html").read_bytes()
    embedded = {name: read_embeddings(Path(f"data/embeddings/{name}.parquet")) for name in SETS}
    shutil.copy("data/predictions/baseline_val.parquet", "data/predictions/final.parquet")
    message = r"^data/predictions/final\.parquet is about other images than data/packed/test; run"
    with pytest.raises(PipelineError, match=message):
        write_map(embedded, PARAMS.embed)
    Path("data/predictions/final.parquet").unlink()
    with pytest.raises(PipelineError, match=r"final\.parquet is missing; run dvc repro"):
        write_map(embedded, PARAMS.embed)
    assert Path("reports/map.html").read_bytes() == before
