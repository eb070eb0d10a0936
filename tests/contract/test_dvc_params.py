"""Changing a value in params.yaml makes exactly the stages that depend on it out of date.

DVC itself is asked: a copy of the pipeline with stand-ins for all outputs is committed as if it
had run, then each value is changed in turn.
"""

import json
import shutil
import subprocess
import sys

import pytest
import yaml

from tests.contract.imports import ROOT

# What a change in a section re-runs at first; what depends on the outputs follows from there.
EXPECTED = {
    "data": {"index", "pack", "register"},
    "sample": {"sample"},
    "index": {"index"},
    "split": {"split"},
    "pack": {"pack"},
    "balance": {"balance"},
    "model": {"train", "finetune"},
    "train": {"train", "evaluate"},
    "finetune": {"finetune", "evaluate"},
    "baseline": {"baseline"},
    "evaluate": {"baseline", "evaluate", "tta", "register"},
    "tta": {"tta"},
    "embed": {"embed"},
    "register": {"register"},
    "report": {"report"},
    "resources": set(),
    "tracking": set(),
}
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())

# Runs in its own process: one DVC for all questions, and its imports stay out of the tests.
ASK = """
import json, sys, yaml
from dvc.repo import Repo
answers = {}
for name, text in json.load(open("variants.json")).items():
    open("params.yaml", "w").write(text)
    changed = Repo(".").status()
    answers[name] = sorted(
        stage for stage, reasons in changed.items()
        if any(isinstance(r, dict) and "changed deps" in r for r in reasons)
    )
print(json.dumps(answers))
"""


def _changed(value):
    """Return another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return f"{value}x"
    return ["changed"] if value is None or isinstance(value, list) else {"changed": 1}


def _variants():
    """Yield section, key and the whole of params.yaml with that one value changed."""
    paths = {("data", "root"): "other", ("train", "images"): "data/balanced"}
    paths |= {("finetune", "images"): "data/packed/train", ("finetune", "weights"): "other"}
    for section, values in PARAMS.items():
        for key, value in values.items():
            changed = json.loads(json.dumps(PARAMS))
            changed[section][key] = paths.get((section, key), _changed(value))
            yield section, key, yaml.safe_dump(changed)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What DVC says is out of date after each change."""
    repo = tmp_path_factory.mktemp("pipeline")
    for name in ("dvc.yaml", "params.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, repo / name)
    shutil.copytree(ROOT / "pipeline", repo / "pipeline")
    (repo / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", repo / ".dvc" / "config")
    (repo / "other").mkdir()
    outs = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    for out in (out for stage in outs for out in stage["outs"]):
        path = repo / out
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(out)
        else:
            for part in ("train", "val", "test"):
                (path / part).mkdir(parents=True)
                (path / part / "stand-in").write_text(out)

    def run(*command):
        done = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("git", "init", "-q")
    run(sys.executable, "-m", "dvc", "commit", "-q", "--force")
    variants = {f"{section}.{key}": text for section, key, text in _variants()}
    variants["nothing"] = (repo / "params.yaml").read_text()
    (repo / "variants.json").write_text(json.dumps(variants))
    return json.loads(run(sys.executable, "-c", ASK))


def test_nothing_changed_is_nothing_to_do(answers):
    assert answers["nothing"] == []


def test_every_section_is_expected():
    assert set(EXPECTED) == set(PARAMS)


@pytest.mark.parametrize(
    ("section", "key"), [(s, k) for s, values in PARAMS.items() for k in values]
)
def test_a_changed_value_reruns_the_stages_that_depend_on_it(answers, section, key):
    assert set(answers[f"{section}.{key}"]) == EXPECTED[section]
