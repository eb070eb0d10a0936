"""Files classified by a job, seen from the machine of its user."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from pipeline.files import as_text
from pipeline.params import Params
from pipeline.progress import command_clock
from pipeline.runtime.jobs.inside import LISTING, MODEL
from pipeline.runtime.jobs.send import SentJob, first_unseen
from pipeline.runtime.storage.trees import hash_file
from pipeline.vision.application.listed import save_listing
from pipeline.vision.bundle.digest import (
    DESCRIPTION_FILE,
    WEIGHTS_FILE,
    bundle_digest,
    values_digest,
)

_ASKED = 8  # files of which nodes are asked whether they see them


def classify_there(params: Params, model: Path, files: Sequence[Path], folder: Path) -> Path | None:
    """Classify files on the cluster; the same files and model make the same job.

    All that it says goes to stderr.

    Args:
        params: with the cluster's address.
        model: a bundle folder.
        files: they do not travel.
        folder: an empty one, for what travels and for the answers.

    Returns:
        The answers, see `read_answers`. None where not all nodes see the files.

    Raises:
        PipelineError: see `SentJob.run`.
    """
    if relative := next((file for file in files if not file.is_absolute()), None):
        _say_unseen(f"{as_text(relative)} is no absolute path; name images by their whole path")
        return None
    (folder / MODEL).mkdir(parents=True)
    for name in (DESCRIPTION_FILE, WEIGHTS_FILE):
        (folder / MODEL / name).symlink_to((model / name).resolve())
    save_listing(files, folder / LISTING)
    # A name that no file of a user has: `convoy jobs fetch` writes it into the current folder.
    digest = values_digest([bundle_digest(model), hash_file(folder / LISTING)])
    answers = f"answers-{digest[:12]}.parquet"
    with redirect_stdout(sys.stderr), command_clock("predict"):
        job = SentJob(params, "predict", [MODEL, LISTING], [answers], about=None, folder=folder)
        if job.result() is None:
            some = [str(files[i * (len(files) - 1) // (_ASKED - 1)]) for i in range(_ASKED)]
            if unseen := first_unseen(params, some):
                _say_unseen(f"not all nodes of the cluster can read {as_text(unseen)}")
                return None
        job.fetch(job.run())
    return folder / answers


def _say_unseen(reason: str) -> None:
    print(f"predict: runs here, since {reason}", file=sys.stderr)
