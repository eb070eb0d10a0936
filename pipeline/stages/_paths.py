"""Where the stages leave their outputs, which dvc.yaml names too; and how DVC finds the images."""

import os
from contextlib import suppress
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import located, repository
from pipeline.remote import is_uri

SAMPLE = Path("data/sample")
ROOT = Path("data/root.txt")  # data.root, kept in git
INDEX = Path("data/index.parquet")
SPLIT = Path("data/split.parquet")
PLACED = Path("data/placed.json")  # in git: placements that `split` keeps against its rule
PACKED = Path("data/packed")
BALANCED = Path("data/balanced")
EMBEDDINGS = Path("data/embeddings")
PREDICTIONS = Path("data/predictions")  # <model>.parquet: test rows with posteriors

MODELS = Path("models")
START = MODELS / "start"  # what the stage start chose
START_BUNDLE = START / "bundle"  # the champion, of a warm start
CHAMPION_FILE = "champion.json"  # in START: which one it was; null of a cold start
BASE = MODELS / "base"
TUNED = MODELS / "tuned"
FINAL = MODELS / "final"  # the weights of BASE or TUNED, with views and a temperature

REPORTS = Path("reports")
DATA_REPORT = REPORTS / "data.json"
START_REPORT = REPORTS / "start.json"
NETWORK_REPORT = REPORTS / "network.json"
HISTORY = REPORTS / "history"  # <model>.json: one record per epoch
MAP = REPORTS / "map.html"
PICTURES = REPORTS / "pictures"  # one folder per stage

STATE = Path(".convoy")  # caches and checkpoints that DVC does not track
CALLS = STATE / "retraining" / "shown"  # what calls of convoy retrain leave for the page
RETRAINING = REPORTS / "retraining"  # the same for DVC


def training_folders(images: str) -> list[Path]:
    """Return the folders that make up the training set that params name.

    The balanced set holds the synthetic images only; they are added to the packed ones.
    """
    packed = PACKED / "train"
    return [packed] if Path(images) == packed else [packed, BALANCED]


def link_for_dvc(root: str) -> None:
    """Let DVC find the images where it looks for them.

    In a copy of the repository that DVC made for an experiment, a relative path to what neither
    git nor DVC tracks leads nowhere: there it becomes a link. DVC looks before it runs `index`; so
    this is for `sample`, which a copy always runs first, as it lacks `ROOT`.

    Raises:
        PipelineError: DVC cannot be helped.
    """
    if "DVC_ROOT" not in os.environ or is_uri(root):
        return  # typed by hand, or found anywhere
    whole = located(root)
    if root.startswith("~"):
        raise PipelineError(f"data.root is {root}, and DVC does not know ~; write {whole}")
    link = Path(os.path.normpath(Path.cwd() / root))
    if not whole.exists():
        raise PipelineError(
            f"data.root is {root}: no such file or folder in {Path.cwd()}; correct it in"
            " params.yaml"
        )
    if whole == Path(root) or link.exists():
        return
    if not link.is_relative_to(repository() / ".dvc" / "tmp"):
        raise PipelineError(
            f"data.root is {root}, which leads out of the copy that DVC made for this experiment;"
            f" write {whole.resolve()}"
        )
    link.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):  # another experiment was first
        link.symlink_to(whole.resolve())
