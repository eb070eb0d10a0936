"""A changed line of code, or another version, makes out of date what it can change, and no more.

DVC itself is asked, see `ask_dvc`.
"""

import re

import pytest

from tests.contract.imports import ROOT

# A file of each folder on which no result depends.
PLUMBING = (
    "pipeline/__main__.py",
    "pipeline/cli/__init__.py",
    "pipeline/errors.py",
    "pipeline/files.py",
    "pipeline/parallel.py",
    "pipeline/progress.py",
    "pipeline/threads.py",
    "pipeline/commands/predict.py",
    "pipeline/runtime/ray/fit.py",
    "pipeline/runtime/registry/versions.py",
    "pipeline/runtime/session/event_log.py",
    "pipeline/runtime/tracking/uploader.py",
    "pipeline/runtime/training/run.py",
    "pipeline/stages/start.py",
    "infra/requirements.lock",
    "infra/setup.sh",
)
# What names a file of it as its dependency; what follows from there, follows by the outputs.
RESULTS = {
    "pipeline/data/sources/folder.py": {"index", "pack"},
    "pipeline/data/packing/pack.py": {"pack", "localize"},
    "pipeline/data/balancing/balance.py": {"balance", "tta", "evaluate", "localize", "embed"},
    "pipeline/params/choices/training.py": {"train", "finetune", "evaluate"},
    "pipeline/vision/training/losses.py": {"train", "finetune", "evaluate"},
    "pipeline/vision/networks/plain.py": {
        "train",
        "finetune",
        "tta",
        "evaluate",
        "localize",
        "embed",
        "inspect",
    },
    "pipeline/vision/anatomy/layers.py": {"inspect", "localize"},
    "pipeline/vision/inference/views.py": {"tta", "evaluate", "localize", "embed"},
    "pipeline/evaluation/page/verdict.html": {"report"},
}
VERSIONS = {
    "torch": {"train", "finetune", "tta", "evaluate", "localize", "embed", "inspect"},
    "pillow": {
        "sample",
        "index",
        "pack",
        "balance",
        "baseline",
        "tta",
        "evaluate",
        "localize",
        "embed",
        "report",
    },
    "albumentations": {"balance", "tta", "evaluate", "localize", "embed"},
}


def _lock(package):
    """Return the part of the lock that names a package, and its text with another version."""
    for path in (ROOT / "infra" / "lock").glob("*.txt"):
        text = path.read_text()
        if re.search(rf"^{package}==", text, re.M):
            changed = re.sub(rf"^{package}==.*$", f"{package}==99.0", text, flags=re.M)
            return str(path.relative_to(ROOT)), changed
    raise AssertionError(package)


@pytest.fixture(scope="module")
def answers(ask_dvc):
    edits = {}
    for path in (*PLUMBING, *RESULTS):
        edits[path] = {path: (ROOT / path).read_text() + "\n# another line\n"}
    return ask_dvc(edits | {name: dict([_lock(name)]) for name in VERSIONS})


@pytest.mark.parametrize("path", PLUMBING)
def test_plumbing_changes_no_result(answers, path):
    assert set(answers[path]) <= {"register"}


@pytest.mark.parametrize("path", RESULTS)
def test_code_that_decides_results_reruns_their_stages(answers, path):
    assert set(answers[path]) == RESULTS[path]


@pytest.mark.parametrize("package", VERSIONS)
def test_another_version_reruns_what_it_computes(answers, package):
    assert set(answers[package]) == VERSIONS[package]
