"""autotune on small packed sets: what it tries, what it keeps, and what makes it choose again."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from pipeline.cli import run
from pipeline.files import read_json, write_json
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.bundle.description import read_description
from pipeline.vision.training.compute_config import ComputeConfig, supported
from tests.contract.imports import ROOT
from tests.packed import BARS, bars, write_set, write_sets

TRAIN, FINETUNE = (Path(f"models/compute/{stage}.json") for stage in ("train", "finetune"))
FP32, BF16 = (Arithmetic(precision, "channels_last") for precision in ("fp32", "bf16"))
# Long enough that the budget of a trial lasts on a busy machine; nothing is trained.
LONG = {"epochs": 8000}
QUESTION = {
    "network": "lenet5",
    "args": {},
    "image": [16, 16, 1],
    "global_batch_size": 15,
    "accumulate": 1,
    "trainable": "all",
    "precision": "auto",
}


def write_params(**sections):
    """Write params.yaml: trainings of 2 epochs on one thread, but for what `sections` change."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["resources"] |= {"threads": 1, "cpus_per_worker": 1}
    for stage in ("train", "finetune"):
        raw[stage] |= {"epochs": 2, "global_batch_size": 15}
    for section, values in sections.items():
        raw[section] |= values
    Path("params.yaml").write_text(yaml.safe_dump(raw))


def pack(size=16):
    write_sets(Path("data/packed"), 90, 30, size)
    write_set(Path("data/balanced"), *bars(15, size, seed=2), BARS)


@pytest.fixture(autouse=True)
def packed():
    pack()
    write_params()


@pytest.fixture
def make_bf16(monkeypatch):
    """Return what says whether this machine has bf16 arithmetic."""

    def make(possible):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: possible)

    return make


def arithmetic_of(candidate):
    return Arithmetic(candidate["precision"], candidate["memory_format"])


def test_a_first_run_tries_and_says_what_it_chose_between(capsys):
    write_params(train=LONG, finetune=LONG)
    assert run(["autotune"]) == 0
    out, err = capsys.readouterr()
    said = out.splitlines()
    tried = [line for line in err.splitlines() if ": trying " in line]  # bars have lines as well
    for stage, file, line in zip(("train", "finetune"), (TRAIN, FINETUNE), said, strict=True):
        written = read_json(file)
        assert written["question"] == QUESTION
        chosen, trial = Arithmetic.of(written["arithmetic"]), written["trial"]
        assert line == f"autotune: {stage}: {chosen}: {trial['reason']} -> {file}"
        candidates = trial["candidates"]
        assert trial["reason"] == f"the fastest of {len(candidates)} tried"
        ways = [arithmetic_of(candidate) for candidate in candidates]
        # Both precisions where the machine has both, then the other memory order of the better.
        impossible = supported(BF16, torch.device("cpu"))
        assert ways[:-1] == ([FP32] if impossible else [FP32, BF16])
        assert ways[-1].memory_format == "contiguous_format"
        (taken,) = (candidate for candidate in candidates if candidate["verdict"] == "taken")
        assert arithmetic_of(taken) == chosen
        assert trial["chosen"] == {**written["arithmetic"], "threads": 1}
        for way, candidate in zip(ways, candidates, strict=True):
            assert candidate["seconds_per_step"] > 0
            # They all begin with the same weights and images.
            first_loss = candidates[0]["losses"][0]
            assert candidate["losses"][0] == pytest.approx(first_loss, rel=0.05, abs=0.02)
            assert candidate["verdict"]
            assert tried.pop(0) == f"autotune: {stage}: trying {ComputeConfig(way, 1)}"
        assert 0 < trial["spent_s"] < trial["training_s"]
    assert not tried


def test_a_second_run_tries_nothing(capsys):
    write_params(train=LONG, finetune=LONG)
    assert run(["autotune"]) == 0
    before = {file: (file.read_bytes(), file.stat()) for file in (TRAIN, FINETUNE)}
    capsys.readouterr()
    assert run(["autotune"]) == 0
    out, err = capsys.readouterr()
    assert not err
    assert {file: (file.read_bytes(), file.stat()) for file in before} == before
    assert out.splitlines() == [
        f"autotune: {file.stem}: {Arithmetic.of(read_json(file)['arithmetic'])}, as chosen before"
        for file in before
    ]


def test_a_deleted_file_is_chosen_again_alone(capsys):
    assert run(["autotune"]) == 0
    before = FINETUNE.read_bytes()
    TRAIN.unlink()
    capsys.readouterr()
    assert run(["autotune"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        f"autotune: train: {FP32}: 12 steps are too few for a trial -> models/compute/train.json"
    )
    assert second == f"autotune: finetune: {FP32}, as chosen before"
    assert read_json(TRAIN)["question"] == QUESTION
    assert FINETUNE.read_bytes() == before


@pytest.mark.parametrize(
    ("sections", "size", "again", "question"),
    [
        ({"model": {"name": "resnet20"}}, 16, {TRAIN, FINETUNE}, {"network": "resnet20"}),
        ({}, 20, {TRAIN, FINETUNE}, {"image": [20, 20, 1]}),
        ({"train": {"global_batch_size": 30}}, 16, {TRAIN}, {"global_batch_size": 30}),
        ({"train": {"accumulate": 3}}, 16, {TRAIN}, {"accumulate": 3}),
        ({"train": {"precision": "fp32"}}, 16, {TRAIN}, {"precision": "fp32"}),
        ({"finetune": {"precision": "fp32"}}, 16, {FINETUNE}, {"precision": "fp32"}),
        ({"finetune": {"trainable": "gradual"}}, 16, {FINETUNE}, {"trainable": "gradual"}),
        # Of these the speed of a step depends too little: the recipe changes alone.
        ({"train": {"epochs": 3, "mixup_alpha": 0.3, "seed": 7}}, 16, set(), {}),
        ({"resources": {"threads": "auto"}, "pack": {"background": 9}}, 16, set(), {}),
    ],
)
def test_another_question_is_asked_and_the_same_is_not(sections, size, again, question, capsys):
    assert run(["autotune"]) == 0
    before = {file: read_json(file) for file in (TRAIN, FINETUNE)}
    write_params(**sections)
    pack(size)
    capsys.readouterr()
    assert run(["autotune"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for file, line in zip((TRAIN, FINETUNE), lines, strict=True):
        if file in again:
            assert read_json(file)["question"] == QUESTION | question
            assert line.endswith(f"-> {file}")
        else:
            recipe = before[file]["recipe"] | sections.get(file.stem, {})
            assert read_json(file) == before[file] | {"recipe": recipe}
            assert line.endswith("as chosen before")


def test_another_form_of_the_same_network_is_another_question(capsys):
    block = {"filters": 4, "kernel": 3, "pool": {"kind": "max", "size": 2}}
    for dense in ([], [{"units": 8}]):
        write_params(model={"name": "plain", "args": {"blocks": [block], "dense": dense}})
        assert run(["autotune"]) == 0
        assert "as chosen before" not in capsys.readouterr().out
        question = read_json(TRAIN)["question"]
        assert question["network"] == "plain"
        assert question["args"]["dense"] == dense


CHOICE = {"precision": "fp32", "memory_format": "channels_last"}
REMEDY = "delete it and run dvc repro"


@pytest.mark.parametrize("command", ["autotune", "train"])
@pytest.mark.parametrize(
    ("text", "how"),
    [
        (b"", "is damaged (Expecting value"),
        (b'{"question": {', "is damaged (Expecting property name"),
        (b"\xff\xfe", "is damaged ('utf-8' codec"),
        (b"[]", "need the keys question, with precision in it, and arithmetic"),
        ({"arithmetic": CHOICE}, "need the keys question"),
        ({"question": {}, "arithmetic": CHOICE}, "need the keys question, with precision in it"),
        ({"question": QUESTION}, "and arithmetic"),
        ({"question": QUESTION, "arithmetic": "fp32"}, "need the keys precision and memory_format"),
        ({"question": QUESTION, "arithmetic": {"precision": "fp32"}}, "and memory_format"),
        (
            {"question": QUESTION, "arithmetic": CHOICE | {"precision": "fp16"}},
            "precision: got fp16, need fp32 or bf16",
        ),
        (
            {"question": QUESTION, "arithmetic": CHOICE | {"memory_format": ["channels_last"]}},
            "need contiguous_format or channels_last",
        ),
        (
            {"question": QUESTION | {"precision": "bf16"}, "arithmetic": CHOICE},
            "precision: got fp32, its question asks for bf16",
        ),
    ],
)
def test_a_damaged_file_is_one_line_and_stays(command, text, how, capsys):
    assert run(["autotune"]) == 0
    kept = FINETUNE.read_bytes()
    content = text if isinstance(text, bytes) else json.dumps(text).encode()
    TRAIN.write_bytes(content)
    capsys.readouterr()
    assert run([command]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("convoy: models/compute/train.json ")
    assert err.count("\n") == 1
    assert how in err
    assert REMEDY in err
    assert TRAIN.read_bytes() == content
    assert FINETUNE.read_bytes() == kept


def test_a_file_of_another_question_is_damaged_too(capsys):
    """It would be replaced, but what stands in it may be what somebody has written there."""
    write_json(TRAIN, {"question": QUESTION | {"network": "resnet20"}, "arithmetic": {}})
    before = TRAIN.read_bytes()
    assert run(["autotune"]) == 2
    assert REMEDY in capsys.readouterr().err
    assert TRAIN.read_bytes() == before


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precision_that_is_set_is_the_only_one_tried(precision, make_bf16, capsys):
    make_bf16(True)
    write_params(train=LONG | {"precision": precision})
    assert run(["autotune"]) == 0
    written = read_json(TRAIN)
    candidates = written["trial"]["candidates"]
    assert {candidate["precision"] for candidate in candidates} == {precision}
    assert {candidate["memory_format"] for candidate in candidates} == {
        "channels_last",
        "contiguous_format",
    }
    assert written["arithmetic"]["precision"] == precision
    other = {"fp32": "bf16", "bf16": "fp32"}[precision]
    assert not [line for line in capsys.readouterr().err.splitlines() if f"trying {other}" in line]


def test_without_bf16_arithmetic_only_fp32_is_tried(make_bf16):
    make_bf16(False)
    write_params(train=LONG)
    assert run(["autotune"]) == 0
    written = read_json(TRAIN)
    assert {candidate["precision"] for candidate in written["trial"]["candidates"]} == {"fp32"}
    assert written["arithmetic"]["precision"] == "fp32"


def test_a_choice_that_is_impossible_here_is_kept_and_the_training_chooses(make_bf16, capsys):
    """As on a machine that has a choice of another one from git."""
    make_bf16(False)
    assert run(["autotune"]) == 0
    write_json(TRAIN, {**read_json(TRAIN), "arithmetic": {**CHOICE, "precision": "bf16"}})
    before = TRAIN.read_bytes()
    capsys.readouterr()
    assert run(["autotune"]) == 0
    assert f"autotune: train: {BF16}, as chosen before" in capsys.readouterr().out
    assert run(["train"]) == 0
    said = f"{BF16}, as tuned, is impossible here: this processor has no bf16 arithmetic"
    assert said in capsys.readouterr().err
    assert TRAIN.read_bytes() == before
    assert read_description(Path("models/base")).compute == FP32
    assert {record["precision"] for record in read_json(Path("reports/history/base.json"))} == {
        "fp32"
    }


@pytest.mark.parametrize("command", ["autotune", "train"])
def test_a_precision_that_is_set_and_impossible_here_is_an_error(command, make_bf16, capsys):
    write_params(train={"precision": "bf16"})
    if command == "train":
        make_bf16(True)
        assert run(["autotune"]) == 0
        assert read_json(TRAIN)["arithmetic"]["precision"] == "bf16"
    make_bf16(False)
    capsys.readouterr()
    assert run([command]) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith("convoy: train.precision: bf16 is impossible here: this processor ")
    assert err.endswith("; set auto or fp32")
    assert TRAIN.exists() == (command == "train")
