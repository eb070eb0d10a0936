import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation.latent.embeddings import Embeddings, read_embeddings, write_embeddings
from pipeline.evaluation.metrics.predictions import (
    Predictions,
    read_answers,
    read_predictions,
    write_predictions,
)

CLASSES = ("änt", "bee", "cat")


def predictions(n=5):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), n)
    labels = np.arange(n, dtype=np.int64) % 3
    ids, paths = [f"{i:064x}" for i in range(n)], [f"x/{i}.png" for i in range(n)]
    return Predictions(CLASSES, ids, paths, labels, probabilities)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_predictions_come_back_exactly(tmp_path, n):
    written = predictions(n)
    write_predictions(tmp_path / "a.parquet", written)
    found = read_predictions(tmp_path / "a.parquet")
    assert (found.classes, found.ids, found.paths) == (CLASSES, written.ids, written.paths)
    np.testing.assert_array_equal(found.labels, written.labels)
    np.testing.assert_array_equal(found.probabilities, written.probabilities)


def test_the_file_is_plain_parquet_and_repeats(tmp_path):
    write_predictions(tmp_path / "a.parquet", predictions())
    write_predictions(tmp_path / "b.parquet", predictions())
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_table_carries_the_answer_and_a_column_for_each_class_in_their_order(tmp_path):
    given = predictions()
    write_predictions(tmp_path / "a.parquet", given)
    table = pq.read_table(tmp_path / "a.parquet")
    order = ["id", "path", "label", "predicted", "probability", "p_änt", "p_bee", "p_cat"]
    assert table.column_names == order
    for number, row in enumerate(table.to_pylist()):
        posterior = [row[f"p_{name}"] for name in CLASSES]
        assert posterior == given.probabilities[number].tolist()
        assert row["label"] == CLASSES[number % 3]
        assert row["predicted"] == CLASSES[int(np.argmax(posterior))]
        assert row["probability"] == max(posterior)


@pytest.mark.parametrize("n", [0, 5])
def test_answers_are_the_most_probable_classes(tmp_path, n):
    written = predictions(n)
    write_predictions(tmp_path / "a.parquet", written)
    found = read_answers(tmp_path / "a.parquet")
    assert (found.classes, found.ids, found.paths) == (CLASSES, written.ids, written.paths)
    np.testing.assert_array_equal(found.labels, written.labels)
    np.testing.assert_array_equal(found.predicted, written.probabilities.argmax(axis=1))
    np.testing.assert_array_equal(found.probabilities, written.probabilities.max(axis=1, initial=0))


def test_an_answer_that_is_no_class_is_damage(tmp_path):
    write_predictions(tmp_path / "a.parquet", predictions())
    table = pq.read_table(tmp_path / "a.parquet")
    table = table.set_column(3, "predicted", pa.array(["fly"] * 5))
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(PipelineError, match=r"a\.parquet is damaged \(no class is named fly\)"):
        read_answers(tmp_path / "a.parquet")


def test_embeddings_come_back_exactly(tmp_path):
    given = predictions()
    vectors = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    written = Embeddings(CLASSES, given.ids, given.paths, given.labels, vectors, "ab12")
    write_embeddings(tmp_path / "e.parquet", written)
    found = read_embeddings(tmp_path / "e.parquet")
    assert (found.classes, found.ids, found.paths) == (CLASSES, given.ids, given.paths)
    np.testing.assert_array_equal(found.labels, given.labels)
    np.testing.assert_array_equal(found.vectors, vectors)
    assert found.bundle == "ab12"
    assert found.vectors.dtype == np.float32


def test_missing_file(tmp_path):
    with pytest.raises(PipelineError, match=r"a\.parquet is missing; run dvc repro to make it"):
        read_predictions(tmp_path / "a.parquet")


def test_damaged_file(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(PipelineError, match=r"a\.parquet is damaged \(.*\); delete it"):
        read_predictions(tmp_path / "a.parquet")


def test_another_table(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    with pytest.raises(PipelineError, match=r"lacks the columns id, path, label; delete"):
        read_predictions(tmp_path / "a.parquet")


def test_a_table_without_the_names_of_the_classes(tmp_path):
    write_predictions(tmp_path / "a.parquet", predictions())
    table = pq.read_table(tmp_path / "a.parquet").replace_schema_metadata(None)
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(PipelineError, match=r"a\.parquet lacks the names of the classes; delete"):
        read_predictions(tmp_path / "a.parquet")


def test_a_table_without_a_class(tmp_path):
    write_predictions(tmp_path / "a.parquet", predictions())
    table = pq.read_table(tmp_path / "a.parquet").drop_columns(["p_bee"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(PipelineError, match=r"a\.parquet lacks the columns p_bee; delete"):
        read_predictions(tmp_path / "a.parquet")
