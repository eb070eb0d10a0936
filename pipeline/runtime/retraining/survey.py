"""A look at the images before anything is trained: what is new.

Nothing of the workflow changes by it. The measurements that it takes are remembered where the stage
index finds them.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.indexing.verify import Limits
from pipeline.data.indexing.whole import index_measured, measure_source
from pipeline.data.sources.open import open_source
from pipeline.data.sources.source import ImageSource
from pipeline.data.tables import INDEX
from pipeline.evaluation.retraining.changes import compare_images
from pipeline.evaluation.retraining.record import Changes
from pipeline.params import Params
from pipeline.runtime.retraining.records import KNOWN


@dataclass(frozen=True)
class Images:
    """The images of now.

    Attributes:
        source: of their bytes.
        index: `INDEX`; cluster and problem are those of the stage only where something is new.
        changes: since the last training.
        new: rows of the index with new images.
    """

    source: ImageSource
    index: pa.Table
    changes: Changes
    new: list[int]

    def came_later(self, index: pa.Table) -> int:
        """Count the contents of a later index that are not among these images."""
        usable = index.filter(pc.is_null(index["problem"]))["sha256"]
        return len(set(usable.to_pylist()) - set(self.index["sha256"].to_pylist()))

    def known_from_now_on(self, before: pa.Table, now: datetime) -> pa.Table:
        """Return the table of known images after a training on these."""
        usable = self.index.filter(pc.is_null(self.index["problem"]))
        arrived = dict(
            zip(before["sha256"].to_pylist(), before["arrived"].to_pylist(), strict=True)
        )
        when = [arrived.get(content, now) for content in usable["sha256"].to_pylist()]
        columns = [usable["path"], usable["label"], usable["sha256"], pa.array(when)]
        return pa.table(columns, names=KNOWN.names).cast(KNOWN)


def survey_images(params: Params, known: pa.Table, cache: Path) -> Images:
    """List and measure the images, and compare them with those known before.

    Args:
        params: all of them.
        known: `KNOWN`, of the last training.
        cache: folder of remembered measurements, as the stage index uses it.

    Raises:
        PipelineError: the images cannot be listed, or their labels are not to be told apart.
    """
    source, section = open_source(params.data.root), params.index
    limits = Limits(section.max_pixels, section.min_side)
    measured, _ = measure_source(source, limits, cache)
    if _nothing_new(measured, known):
        clusters = pa.nulls(len(measured), pa.string())
        index = measured.append_column("cluster", clusters).select(INDEX.names)
    else:
        index = index_measured(measured, source, limits, section.near_duplicate_bits, cache)
    return Images(source, index, *compare_images(known, index))


def _nothing_new(measured: pa.Table, known: pa.Table) -> bool:
    """Whether no content is new, so that no near duplicates need to be looked for."""
    contents = measured.filter(pc.is_null(measured["problem"]))["sha256"]
    return not pc.any(pc.invert(pc.is_in(contents, known["sha256"]))).as_py()
