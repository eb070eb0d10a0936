import json

import pytest

from pipeline.errors import PipelineError
from pipeline.files import atomic_path, read_json, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "f.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_json_comes_back(tmp_path):
    write_json(tmp_path / "new" / "f.json", {"ä": [1, None]})
    assert read_json(tmp_path / "new" / "f.json") == {"ä": [1, None]}


def test_nan_is_a_bug(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "f.json", float("nan"))
    assert not list(tmp_path.iterdir())


def test_a_written_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").write_text("")
    write_json(tmp_path / "f.json", 1)
    assert (tmp_path / "f.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_missing_and_damaged_json(tmp_path):
    with pytest.raises(PipelineError, match="is missing; run dvc repro"):
        read_json(tmp_path / "none.json")
    (tmp_path / "half.json").write_text(json.dumps({"a": 1})[:-1])
    with pytest.raises(PipelineError, match=r"is damaged .*; delete it and run dvc repro"):
        read_json(tmp_path / "half.json")
