"""A stage as a job: what travels, what makes it another job, and what comes back."""

import json
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.runtime.jobs import package, send
from pipeline.runtime.jobs.send import SentJob, send_stage
from pipeline.runtime.jobs.spec import JobSpec
from pipeline.runtime.training import champion
from pipeline.runtime.training.champion import Champion
from pipeline.runtime.training.champion import find_champion as job_champion
from tests.images import params_with


def test_a_job_is_submitted_with_its_inputs_and_followed_to_its_result(
    job, server, storage, capsys, succeeds
):
    sent = job()
    identity = sent.spec.identity
    server.log = "split: 1\nconvoy: hidden\nsplit: 2\n"
    server.fates = [succeeds(sent)]
    result = sent.run()
    sent.fetch(result)
    assert Path("data/split.parquet").read_bytes() == b"split"
    (submitted,) = server.submitted
    assert submitted["id"] == f"convoy-split-{identity[:12]}-1"
    assert submitted["entrypoint"] == "python -m pipeline job"
    assert submitted["metadata"] == {"stage": "split", "identity": identity, "storage": storage.uri}
    context = json.loads(submitted["environment"]["CONVOY_JOB"])
    assert (context["identity"], context["attempt"]) == (identity, 1)
    assert {"params.yaml", "dvc.yaml", "pipeline/__main__.py"} <= submitted["files"]
    assert not [name for name in submitted["files"] if name.startswith("data/")]
    spec = JobSpec.load(storage, identity)
    assert spec == JobSpec(identity, "split", sent._tree.digest, ("data/split.parquet",))
    assert capsys.readouterr().out.splitlines() == [
        f"split: runs as the job {sent.id(1)} at http://head:8265, 0.0 MiB uploaded",
        "split: 1",
        "split: 2",
    ]


def test_the_result_of_one_that_has_ended_is_taken(job, server, written, capsys):
    written({"data/split.parquet": b"split"}, job().spec.identity)
    job().fetch(job().run())
    assert Path("data/split.parquet").read_bytes() == b"split"
    assert server.submitted == []
    assert capsys.readouterr().out == (
        f"split: taken from the job {job().spec.identity[:12]}, which has ended\n"
    )


def test_identity_is_of_code_params_data_and_versions(job, monkeypatch):
    found = {job().spec.identity, job().spec.identity}
    assert len(found) == 1
    found.add(job(about=[{"split": 1}]).spec.identity)
    Path("data/index.parquet").write_bytes(b"Index")
    found.add(job().spec.identity)
    Path("data/more").write_bytes(b"more")
    found.add(job(carried=("data/index.parquet", "data/more")).spec.identity)
    Path("infra/lock/arrays.txt").write_text("numpy==1.0")
    found.add(job().spec.identity)
    monkeypatch.setattr(send, "code_digest", lambda: "other code")
    found.add(job().spec.identity)
    assert len(found) == 6


def test_resources_are_no_part_of_it(job, params):
    other = params.resources.model_copy(update={"max_failures": 9, "workers": 4})
    assert job(params.model_copy(update={"resources": other})).spec == job().spec


def test_package_digest_is_that_of_the_package():
    assert send.code_digest() == package.code_digest()


def test_a_stage_is_sent_with_the_files_of_dvc_yaml(params, server, written, monkeypatch):
    made = []
    monkeypatch.setattr(
        send.SentJob, "run", lambda self: made.append(self) or written({"data/split.parquet": b"s"})
    )
    Path("data/unused").write_bytes(b"x")
    send_stage(params, "split")
    assert [file.path for file in made[0]._tree.files] == ["data/index.parquet"]
    assert Path("data/split.parquet").read_bytes() == b"s"
    Path("data/split.parquet").unlink()  # with it, the stage would be another job: it reads it
    # A section that the stage does not read changes nothing.
    other = params.model_copy(
        update={"train": params.train.model_copy(update={"epochs": 99}), "model": params.model}
    )
    send_stage(other, "split")
    assert made[1].spec == made[0].spec
    Path("data/split.parquet").unlink()
    other = params.model_copy(update={"split": params.split.model_copy(update={"seed": 99})})
    send_stage(other, "split")
    assert made[2].spec != made[0].spec


def test_the_champion_of_the_sender_travels_where_a_start_is_to_be_chosen(
    params, server, monkeypatch, tmp_path
):
    folder, asked = Path(".convoy/champions/digest"), []
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    found = Champion(folder, "digest", "digits", "3", {"split.seed": "0"})
    monkeypatch.setattr(champion, "find_champion", lambda _: asked.append(1) or found)

    def sent(stage, mode):
        start = params.start.model_copy(update={"mode": mode})
        return SentJob(
            params.model_copy(update={"start": start}),
            stage,
            [],
            ["data/split.parquet"],
            about=None,
        )

    for stage in ("start", "repro"):
        assert not asked
        cold, auto = sent(stage, "cold"), sent(stage, "auto")
        assert asked.pop()
        assert [file.path for file in auto._tree.files] == [f"{folder}/model.safetensors"]
        assert auto.spec.identity != cold.spec.identity
        # What the job then finds is what its sender has found.
        for name, value in auto._context(1).environment().items():
            monkeypatch.setenv(name, value)
        assert job_champion(params) == found
        monkeypatch.setenv("CONVOY_JOB", cold._context(1).environment()["CONVOY_JOB"])
        assert job_champion(params) is None
        monkeypatch.delenv("CONVOY_JOB")
    sent("train", "auto")
    assert not asked


@pytest.mark.usefixtures("job")
def test_recipes_that_are_not_made_yet_need_no_weights_but_those_of_params():
    """finetune goes on from models/base then, whatever its section says."""
    weights = {"weights": "nowhere.safetensors"}
    params = params_with(recipe={"name": "auto"}, finetune=weights)
    assert send._weights(params, "finetune") == send._weights(params, "train") == {}
    with pytest.raises(PipelineError, match="nowhere"):
        send._weights(params_with(finetune=weights), "finetune")
    with pytest.raises(PipelineError, match="nowhere"):
        send._weights(params_with(recipe={"name": "auto"}, train=weights), "train")
