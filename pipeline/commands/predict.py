"""`convoy predict`: classes and probabilities of image files."""

import csv
import json
import os
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from pipeline.errors import PipelineError
from pipeline.files import as_text, atomic_path
from pipeline.parallel import usable_cores
from pipeline.params import Tracking, load_params
from pipeline.vision.application.classify import Answer, classify_files
from pipeline.vision.inference.bundle import Bundle, load_bundle

_SHOWN_CLASSES = 3


def run(paths: Sequence[Path], model: str, output: Path | None) -> None:
    """Print one line per file and write all answers to `output`.

    A file that cannot be used is named on stderr and in `output`; the others are classified.

    Args:
        paths: files, or folders that are searched for files.
        model: a bundle folder, an MLflow run id or a registry URI.
        output: a .csv, .json or .parquet file, or None.

    Raises:
        PipelineError: no such path or model, an output that cannot be written, or no usable
            file.
    """
    if output is not None:
        _check_output(output)
    files = find_files(paths)
    bundle = _open(model)
    answers = []
    # Lines that scroll by are progress enough; the bar is for output that goes elsewhere.
    quiet = sys.stdout.isatty() or not sys.stderr.isatty()
    found = classify_files(bundle, files, usable_cores())
    for answer in tqdm(found, total=len(files), unit="img", disable=quiet):
        answers.append(answer)
        if answer.problem:
            print(f"convoy: {answer.problem}", file=sys.stderr)
        else:
            print(_line(answer, bundle.classes))
    if output is not None:
        with atomic_path(output) as temporary:
            _WRITERS[output.suffix](temporary, answers, bundle.classes)
    usable = sum(answer.problem is None for answer in answers)
    if not usable:
        raise PipelineError(f"none of {len(answers)} files is an image that can be classified")


def find_files(paths: Iterable[Path]) -> list[Path]:
    """List the files among `paths` and below the folders among them, without hidden ones.

    Raises:
        PipelineError: a path that is not there, is neither file nor folder, or no file at all.
    """
    files: list[Path] = []
    for path in paths:
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise PipelineError(
                f"{as_text(path)}: {error.strerror}; name image files or folders"
            ) from error
        if stat.S_ISDIR(mode):
            below = (found for found in path.rglob("*") if found.is_file())
            files += sorted(f for f in below if not _hidden(f.relative_to(path)))
        elif stat.S_ISREG(mode):
            files.append(path)
        else:
            raise PipelineError(f"{as_text(path)}: not a regular file; name image files or folders")
    if not files:
        names = ", ".join(map(as_text, paths))
        raise PipelineError(f"no files in {names}; name image files or folders")
    return files


def _check_output(output: Path) -> None:
    """Refuse what cannot be written before hours are spent on it."""
    if output.suffix not in _WRITERS:
        raise PipelineError(
            f"--output {output}: expected a name that ends in .csv, .json or .parquet, got"
            f" '{output.suffix}'"
        )
    reason = None
    try:
        if output.is_dir():
            reason = "is a folder"
        output.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(output.parent, os.W_OK):
            reason = f"{output.parent} is not writable"
    except (FileExistsError, NotADirectoryError):
        reason = f"{output.parent} is not a folder"
    except OSError as error:
        reason = error.strerror
    if reason:
        raise PipelineError(f"--output {output}: {reason}; name a file that can be written")


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _open(model: str) -> Bundle:
    from pipeline.runtime.registry.versions import find_bundle, in_store

    if not in_store(model):
        return load_bundle(Path(model))
    # Whoever names a server needs no params.yaml: a model is used far from where it was made.
    server = os.environ.get("MLFLOW_TRACKING_URI")
    own = (
        Tracking(uri=server, experiment="any", system_metrics=False, checkpoints="off")
        if server
        else None
    )
    return load_bundle(find_bundle(model, own or load_params().tracking))


def _line(answer: Answer, classes: Sequence[str]) -> str:
    """Format one answer: path, class, and the largest probabilities."""
    ranked = sorted(zip(answer.probabilities, classes, strict=True), reverse=True)
    shown = "  ".join(f"{label} {p:.3f}" for p, label in ranked[:_SHOWN_CLASSES])
    return f"{as_text(answer.path)}\t{answer.label}\t{shown}"


def _table(answers: Sequence[Answer], classes: Sequence[str]) -> tuple[list[str], list[list[Any]]]:
    """Return names of columns, those of the classes in their order, and a row for each answer."""
    names = ["path", "class", "probability", *(f"p_{name}" for name in classes), "problem"]
    rows = []
    for answer in answers:
        posterior = answer.probabilities or [None] * len(classes)
        best = max(answer.probabilities, default=None)
        rows.append([as_text(answer.path), answer.label, best, *posterior, answer.problem])
    return names, rows


def _write_csv(path: Path, answers: Sequence[Answer], classes: Sequence[str]) -> None:
    names, rows = _table(answers, classes)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *rows])


def _write_parquet(path: Path, answers: Sequence[Answer], classes: Sequence[str]) -> None:
    names, rows = _table(answers, classes)
    texts = {"path", "class", "problem"}
    columns = {
        name: pa.array(column, pa.string() if name in texts else pa.float64())
        for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    pq.write_table(pa.table(columns), path)


def _write_json(path: Path, answers: Sequence[Answer], classes: Sequence[str]) -> None:
    rows = [
        {
            "path": as_text(answer.path),
            "class": answer.label,
            "probability": max(answer.probabilities, default=None),
            "probabilities": dict(zip(classes, answer.probabilities, strict=False)),
            "problem": answer.problem,
        }
        for answer in answers
    ]
    path.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


_WRITERS = {".csv": _write_csv, ".json": _write_json, ".parquet": _write_parquet}
