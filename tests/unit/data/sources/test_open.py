from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.sources.folder import FolderSource
from pipeline.data.sources.manifest import ManifestSource
from pipeline.data.sources.open import open_source
from pipeline.data.sources.parquet import ParquetSource
from pipeline.errors import PipelineError
from tests.hub import write_hub_file


def test_each_kind_is_known_by_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "folder/cat").mkdir(parents=True)
    (tmp_path / "folder/cat/1.png").touch()
    (tmp_path / "list.csv").write_text("path,label\n")
    pq.write_table(pa.table({"path": ["a"], "label": ["b"]}), tmp_path / "list.parquet")
    hub = write_hub_file(tmp_path / "hub/data/train-0-of-1.parquet", [b"x"], [0], ("cat",))
    assert open_source(str(tmp_path / "folder")) == FolderSource(tmp_path / "folder")
    for name in ("list.csv", "list.parquet"):
        assert open_source(tmp_path / name) == ManifestSource(tmp_path / name)
    for root in (tmp_path / "hub", tmp_path / "hub/data", hub):
        assert open_source(root) == ParquetSource(root)


@pytest.mark.parametrize("name", ["absent", "absent.csv", "absent.parquet"])
def test_nothing_there(tmp_path: Path, name: str) -> None:
    source = open_source(tmp_path / name)  # a stage that reads no image does not miss it
    message = rf"data\.root is .*/{name}: no such folder or manifest in .*; set data\.root in"
    with pytest.raises(PipelineError, match=message):
        source.list_images()
