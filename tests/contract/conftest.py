"""A scratch clone of the pipeline, and what DVC says of changes in it."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml

from tests.contract.imports import ROOT

# Runs in its own process: one DVC for all questions, and its imports stay out of the tests.
# params.yaml is parsed once for all stages, and a dependency looked at once for each content.
ASK = """
import json
from functools import cache
from pathlib import Path
from dvc.dependency import ParamsDependency
from dvc.repo import Repo
from dvc.utils.serialize import _yaml

_yaml.parse_yaml = cache(_yaml.parse_yaml)
known = {}

def is_changed(dep, files):
    if isinstance(dep, ParamsDependency):
        return bool(dep.status())
    inside = frozenset(item for item in files.items() if Path(item[0]).is_relative_to(dep.def_path))
    key = dep.def_path, dep.hash_info, inside
    if key not in known:
        known[key] = bool(dep.status())
    return known[key]

answers = {}
for name, files in json.load(open("variants.json")).items():
    before = {path: Path(path).read_bytes() for path in files}
    for path, text in files.items():
        Path(path).write_text(text)
    answers[name] = sorted(
        stage.addressing for stage in Repo(".").index.stages
        if any(is_changed(dep, files) for dep in stage.deps)
    )
    for path, content in before.items():
        Path(path).write_bytes(content)
print(json.dumps(answers))
"""


@pytest.fixture(scope="session")
def ask_dvc(tmp_path_factory):
    """Return a function: for each set of changed files by name, the stages that are out of date.

    Stand-ins for all outputs are committed as if the pipeline had run.
    """
    repo = tmp_path_factory.mktemp("pipeline")
    for name in ("dvc.yaml", "params.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, repo / name)
    for name in ("pipeline", "infra"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, repo / name, ignore=ignored)
    (repo / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", repo / ".dvc" / "config")
    (repo / "other").mkdir()
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values():
        for out in stage["outs"]:
            name = out if isinstance(out, str) else next(iter(out))
            path = repo / name
            if path.suffix:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(name)
            else:
                for part in ("train", "val", "test"):
                    (path / part).mkdir(parents=True)
                    (path / part / "stand-in").write_text(name)

    def run(*command):
        done = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("git", "init", "-q")
    run(sys.executable, "-m", "dvc", "commit", "-q", "--force")

    def ask(variants):
        (repo / "variants.json").write_text(json.dumps(variants))
        return json.loads(run(sys.executable, "-c", ASK))

    return ask
