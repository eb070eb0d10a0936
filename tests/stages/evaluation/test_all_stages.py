"""What holds for all the stages that judge models."""

from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation.reports.files import read_report
from pipeline.stages import tta
from pipeline.vision.bundle.description import Description
from tests import reports
from tests.bundles import save_bundle
from tests.stages.evaluation.project import PARAMS, PREPARING, STAGES


@pytest.mark.parametrize("name", reports.SCHEMA)
def test_reports_have_their_shape(inside, name):
    assert read_report(Path(f"reports/{name}.json"), reports.SCHEMA[name])


def test_a_second_run_writes_the_same_bytes(inside):
    def contents():
        measured = {"tta.json", "index.html"}  # images per second
        files = [*Path("reports").rglob("*"), *Path("data").rglob("*.parquet")]
        return {
            path: path.read_bytes()
            for path in files
            if path.is_file() and path.name not in measured
        }

    before = contents()
    for stage in STAGES:
        stage.run(PARAMS)
    assert contents() == before


def test_a_bundle_for_other_classes_is_refused(inside, monkeypatch, tmp_path):
    description = Description("lenet5", {}, ("a", "b"), PREPARING, (0.3,), (0.3,))
    save_bundle(tmp_path / "other", description, description.build().state_dict())
    monkeypatch.setitem(tta._FOLDERS, "tuned", tmp_path / "other")
    message = r"other was trained for other classes than the packed images: .* found \('a', 'b'\)"
    with pytest.raises(PipelineError, match=message):
        tta.run(PARAMS)
