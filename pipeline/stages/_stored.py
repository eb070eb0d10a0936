"""The images behind latent vectors."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.data.shards.shards import ImageSet
from pipeline.evaluation.latent.embeddings import Gallery


def gather(
    sets: Mapping[str, ImageSet], gallery: Gallery, rows: npt.NDArray[np.intp]
) -> list[npt.NDArray[np.generic]]:
    """Return the packed images of some rows of a gallery, in their order."""
    return [
        sets[gallery.splits[row]].gather(gallery.within[row : row + 1])[0] for row in rows.tolist()
    ]
