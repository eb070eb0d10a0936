"""Where the stages leave their outputs; dvc.yaml names the same paths."""

from pathlib import Path

SAMPLE = Path("data/sample")
INDEX = Path("data/index.parquet")
SPLIT = Path("data/split.parquet")
PACKED = Path("data/packed")
BALANCED = Path("data/balanced")
EMBEDDINGS = Path("data/embeddings")
PREDICTIONS = Path("data/predictions")  # <model>.parquet: test rows with posteriors

MODELS = Path("models")
BASE = MODELS / "base"
TUNED = MODELS / "tuned"
FINAL = MODELS / "final"  # the weights of BASE or TUNED, with views and a temperature

REPORTS = Path("reports")
DATA_REPORT = REPORTS / "data.json"
HISTORY = REPORTS / "history"  # <model>.json: one record per epoch
PICTURES = REPORTS / "pictures"  # one folder per stage

STATE = Path(".convoy")  # caches and checkpoints that DVC does not track


def compute_file(stage: str) -> Path:
    """Return where the stage autotune keeps its choice for 'train' or 'finetune'."""
    return MODELS / "compute" / f"{stage}.json"


def training_folders(images: str) -> list[Path]:
    """Return the folders that make up the training set that params name.

    The balanced set holds the synthetic images only; they are added to the packed ones.
    """
    packed = PACKED / "train"
    return [packed] if Path(images) == packed else [packed, BALANCED]
