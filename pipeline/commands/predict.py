"""`convoy predict`: classes and probabilities of image files."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from pipeline.commands._inputs import UnusableFiles, check_output, find_files, open_model
from pipeline.errors import PipelineError
from pipeline.files import as_text, atomic_path
from pipeline.parallel import usable_cores
from pipeline.params import JOINED, Params, load_params
from pipeline.runtime.storage.job_context import ADDRESS, placed
from pipeline.vision.application.answers import (
    Answer,
    as_row,
    as_table,
    column_names,
    parquet_writer,
    read_answers,
)
from pipeline.vision.application.classify import classify_files
from pipeline.vision.inference.bundle import Bundle

_SHOWN_CLASSES = 3
_WORTH_A_JOB = 1000  # files: a job takes some seconds to start
_TABLE_ROWS = 1024
_Write = Callable[[Answer], object]


def run(paths: Sequence[Path], model: str, output: Path | None) -> None:
    """Print one line per file and write all answers to `output`.

    A file that cannot be used is named on stderr and in `output`; the others are classified. Many
    files are classified by the cluster of `resources.address`, if there is one and sees them.

    Args:
        paths: files, or folders that are searched for files.
        model: a bundle folder, an MLflow run id or a registry URI.
        output: a .csv, .json or .parquet file, or None.

    Raises:
        PipelineError: no such path or model, an output that cannot be written, no usable file, or
            see `classify_there`.
    """
    if output is not None:
        check_output(output, (".csv", ".json", ".parquet"))
    files = find_files(paths)
    bundle = open_model(model)
    unusable, usable = UnusableFiles(len(files)), 0
    with _written(output, bundle.classes) as write:
        for answer in _answers(bundle, files):
            write(answer)
            if answer.problem is not None:
                unusable.add(answer.problem)
            else:
                usable += 1
                print(_line(answer, bundle.classes))
    if not usable:
        raise unusable.none_is("an image that can be classified")


def _answers(bundle: Bundle, files: Sequence[Path]) -> Iterator[Answer]:
    """Yield the answer to each file, from the cluster where that is possible and worth it."""
    params = _params_of_cluster() if len(files) >= _WORTH_A_JOB else None
    if params is not None:
        from pipeline.runtime.jobs.predict import classify_there

        with TemporaryDirectory(prefix="convoy-predict-") as folder:
            found = classify_there(params, bundle.folder, files, Path(folder))
            if found is not None:
                yield from read_answers(found, files)
                return
    # Lines that scroll by are progress enough; the bar is for output that goes elsewhere.
    quiet = sys.stdout.isatty() or not sys.stderr.isatty()
    here = classify_files(bundle, files, usable_cores())
    yield from tqdm(here, total=len(files), unit="img", disable=quiet)


def _params_of_cluster() -> Params | None:
    """Return the params if they name a cluster; a model needs none to be used."""
    try:
        params = load_params()
    except PipelineError as error:
        if os.environ.get(ADDRESS):
            print(
                f"predict: runs here, since {ADDRESS} needs the resources.storage of params.yaml:"
                f" {error}",
                file=sys.stderr,
            )
        return None
    params = placed(params)
    return params if params.resources.address not in (None, JOINED) else None


def _line(answer: Answer, classes: Sequence[str]) -> str:
    """Format one answer: path, class, and the largest probabilities."""
    ranked = sorted(zip(answer.probabilities, classes, strict=True), reverse=True)
    shown = "  ".join(f"{label} {p:.3f}" for p, label in ranked[:_SHOWN_CLASSES])
    return f"{as_text(answer.path)}\t{answer.label}\t{shown}"


@contextmanager
def _written(output: Path | None, classes: Sequence[str]) -> Iterator[_Write]:
    """Yield what adds an answer to a file; it is there as a whole when the block ends well."""
    if output is None:
        yield lambda _: None
        return
    with atomic_path(output) as temporary, _WRITERS[output.suffix](temporary, classes) as write:
        yield write


@contextmanager
def _write_csv(path: Path, classes: Sequence[str]) -> Iterator[_Write]:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(column_names(classes))
        yield lambda answer: writer.writerow(as_row(answer, classes))


@contextmanager
def _write_parquet(path: Path, classes: Sequence[str]) -> Iterator[_Write]:
    waiting: list[Answer] = []
    with parquet_writer(path, classes) as write_table:

        def write(answer: Answer) -> None:
            waiting.append(answer)
            if len(waiting) == _TABLE_ROWS:
                write_table(as_table(waiting, classes))
                waiting.clear()

        yield write
        if waiting:
            write_table(as_table(waiting, classes))


@contextmanager
def _write_json(path: Path, classes: Sequence[str]) -> Iterator[_Write]:
    before = "["
    with path.open("w", encoding="utf-8") as file:

        def write(answer: Answer) -> None:
            nonlocal before
            row = {
                "path": as_text(answer.path),
                "class": answer.label,
                "probability": max(answer.probabilities, default=None),
                "probabilities": dict(zip(classes, answer.probabilities, strict=False)),
                "problem": answer.problem,
            }
            listed = json.dumps([row], indent=2, ensure_ascii=False)
            file.write(before + listed.removeprefix("[").removesuffix("\n]"))
            before = ","

        yield write
        file.write("\n]\n")


_Writer = Callable[[Path, Sequence[str]], AbstractContextManager[_Write]]
_WRITERS: dict[str, _Writer] = {
    ".csv": _write_csv,
    ".json": _write_json,
    ".parquet": _write_parquet,
}
