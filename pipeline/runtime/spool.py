"""Records that wait on disk until the tracking store has them."""

import os
from pathlib import Path


def spool_folder(storage: str) -> Path:
    """Return the folder of all spools: beside that of the trainings, `resources.storage`.

    An experiment that DVC runs in a temporary folder spools in the repository, which stays.
    """
    root = os.environ["DVC_ROOT"] if "DVC_EXP_NAME" in os.environ else ""
    return (Path(root) / storage).resolve().parent / "spool"
