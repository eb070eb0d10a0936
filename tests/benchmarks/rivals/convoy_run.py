"""Run Convoy's whole way on a cut: `dvc repro evaluate` in a fresh clone of this repository.

    python -m tests.benchmarks.rivals.convoy_run CUT RESULT.json [-S KEY=VALUE]...

CUT is a folder that cut.py made. The clone is of the last commit: what is not committed is not
measured. Each -S writes a value into its params.yaml, as that of `dvc exp run` does. The clock
counts all that follows: index, pack, balance, autotune, both trainings, views and evaluation.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dvc.utils.hydra import apply_overrides

from pipeline.evaluation.metrics.predictions import read_answers

ROOT = Path(__file__).parents[3]


def main() -> None:
    """Run the workflow and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="a folder that cut.py made")
    parser.add_argument("result", type=Path, help="the JSON file to write")
    parser.add_argument("-S", "--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--project", type=Path, help="keep the clone here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        project = arguments.project or Path(name) / "convoy"
        result = run(arguments.data.resolve(), project.resolve(), arguments.set)
    arguments.result.write_text(json.dumps(result, indent=1))


def run(data: Path, project: Path, settings: list[str]) -> dict[str, Any]:
    """Return what is known of the run."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(project)], check=True)
    words = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(words, cwd=project, check=True, capture_output=True, text=True)
    apply_overrides(project / "params.yaml", [f"data.root={data}", *settings])
    # The `convoy` of this environment, and the code of the clone.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(project), "PYTHONSAFEPATH": "1"}
    begin = time.perf_counter()
    command = [sys.executable, "-m", "dvc", "repro", "-q", "evaluate"]
    done = subprocess.run(command, cwd=project, env=environment, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode != 0:
        raise SystemExit(f"dvc repro evaluate failed in {project}")
    answers = read_answers(project / "data" / "predictions" / "final.parquet")
    names = [Path(path).relative_to("test").as_posix() for path in answers.paths]
    predicted = [answers.classes[answer] for answer in answers.predicted]
    return {
        "seconds": seconds,
        "commit": commit.stdout.strip(),
        "epochs": sum(map(_epochs, sorted((project / "reports" / "history").glob("*.json")))),
        "predictions": dict(zip(names, predicted, strict=True)),
    }


def _epochs(history: Path) -> int:
    """Return how many epochs a training did."""
    return len(json.loads(history.read_text()))


if __name__ == "__main__":
    main()
