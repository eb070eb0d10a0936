from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.runtime.jobs.stage_files import (
    all_outs,
    check_stages,
    image_files,
    stage_files,
)


def test_three_stages_of_dvc_yaml_by_hand(params):
    pack = stage_files("pack", params)
    assert pack.inputs == ("data/split.parquet",)
    assert pack.outs == ("data/packed",)
    assert pack.params == ("data", "pack")
    assert pack.values(params) == {
        "data": params.section("data"),
        "pack": params.section("pack"),
    }
    finetune = stage_files("finetune", params)
    assert finetune.inputs == (
        "data/packed/train",
        "data/packed/val",
        "data/balanced",  # ${finetune.images}
        "models/compute/finetune.json",
        "models/base",
    )
    assert finetune.outs == ("models/tuned", "reports/history/tuned.json")
    # What they have written before is read, too: `persist`.
    split = ("data/split.parquet", "data/placed.json")
    assert stage_files("split", params).inputs == ("data/index.parquet", *split)
    assert stage_files("split", params).outs == split
    autotune = stage_files("autotune", params)
    compute = ("models/compute/train.json", "models/compute/finetune.json")
    assert autotune.inputs == ("data/packed", "data/packed/train", "data/balanced", *compute)
    assert autotune.outs == compute
    assert autotune.values(params) == {
        **{name: params.section(name) for name in ("recipe", "model", "train", "finetune")},
        "evaluate.metric": "macro_f1",
    }


def test_references_follow_the_params(params):
    train = params.train.model_copy(update={"images": "data/balanced"})
    data = params.data.model_copy(update={"root": "/mnt/my images"})
    other = params.model_copy(update={"train": train, "data": data})
    assert "data/balanced" in stage_files("train", other).inputs
    assert stage_files("index", other).inputs == ("/mnt/my images", "data/root.txt")


def test_all_outs_are_those_of_all_stages(params):
    outs = all_outs(params)
    assert {"data/sample", "data/root.txt", "models/final", "reports/index.html"} <= set(outs)
    assert len(outs) == len(set(outs)) == 43


def test_a_missing_stage_is_one_line(params):
    with pytest.raises(PipelineError, match=r"dvc\.yaml in .*project has no stage paint, and a"):
        stage_files("paint", params)
    check_stages(["train", "tta"])
    with pytest.raises(PipelineError, match=r"dvc\.yaml has no stage trian, did you mean train\?"):
        check_stages(["tta", "trian"])


@pytest.mark.parametrize("content", [None, b"", b"stages", b"a: 1", b"stages: [", b"\xff", b"- 1"])
def test_a_damaged_file_is_one_line(params, content):
    Path("dvc.yaml").unlink()
    if content is not None:
        Path("dvc.yaml").write_bytes(content)
    with pytest.raises(PipelineError, match=r"cannot read the stages of dvc\.yaml in .*project: "):
        check_stages(["train"])


@pytest.mark.parametrize(
    "content",
    ["stages: 3", "stages: {train: 3}", "stages: {train: {deps: 3}}", "stages: {train: {outs: 3}}",
     "stages: {train: {deps: ['${none.x}']}}", "stages: {train: {outs: [{a: 3}]}}"],
)  # fmt: skip
def test_entries_of_another_kind_are_one_line(params, content):
    Path("dvc.yaml").write_text(content)
    with pytest.raises(PipelineError, match=r"^dvc\.yaml in .*project "):
        stage_files("train", params)


def test_the_files_that_a_manifest_lists_belong_to_it(params):
    Path("scans/a").mkdir(parents=True)
    for name in ("a/1.png", "2.png", "unlisted.png"):
        Path("scans", name).write_bytes(b"x")
    Path("scans/list.csv").write_text("path,label\na/1.png,cat\n2.png,dog\n")
    listed = ["scans/list.csv", "scans/2.png", "scans/a/1.png"]
    assert [image_files("scans/list.csv")[0], *sorted(image_files("scans/list.csv")[1:])] == listed
    assert image_files("scans") == ["scans"]
    assert image_files("none") == ["none"]
