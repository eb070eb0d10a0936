import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import PipelineError
from pipeline.parquet import read_table


def test_a_table_comes_back_with_the_columns_asked_for(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [1], "b": [2], "c": [3]}), path)
    assert read_table(path, ["c", "a"]).to_pydict() == {"a": [1], "c": [3]}
    with pytest.raises(
        PipelineError, match=r"a\.parquet lacks the columns x, y; delete it and run"
    ):
        read_table(path, ["a", "x", "y"])


@pytest.mark.parametrize("content", [b"", b"junk\n", b"PAR1 no more"])
def test_missing_and_damaged_tables(tmp_path, content):
    with pytest.raises(PipelineError, match=r"a\.parquet is missing; run dvc repro to make it"):
        read_table(tmp_path / "a.parquet", ["a"])
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(PipelineError, match=r"a\.parquet is damaged \(.*\); delete it and run dvc"):
        read_table(tmp_path / "a.parquet", ["a"])
    (tmp_path / "a.parquet").unlink()
    (tmp_path / "a.parquet").mkdir()
    with pytest.raises(PipelineError, match=r"a\.parquet (is damaged|lacks)"):
        read_table(tmp_path / "a.parquet", ["a"])
