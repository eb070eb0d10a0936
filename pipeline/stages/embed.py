"""Latent vectors, nearest neighbours and the map of the latent space."""

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from pipeline.data.shards.shards import ImageSet
from pipeline.evaluation.latent.embeddings import Embeddings, write_embeddings
from pipeline.evaluation.latent.retrieval import (
    Neighbours,
    nearest,
    retrieval_block,
    spread_queries,
)
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.sheets import Neighbour, draw_neighbours
from pipeline.evaluation.reports.files import write_report
from pipeline.evaluation.reports.schema import RetrieveReport
from pipeline.params import Params
from pipeline.stages._bundles import load_matching
from pipeline.stages._map import write_map
from pipeline.stages._paths import EMBEDDINGS, FINAL, PACKED, PICTURES, REPORTS
from pipeline.vision.inference.bundle import Bundle
from pipeline.vision.inference.predict import embeddings
from pipeline.vision.inference.sets import over_set

_QUERIES_SHOWN = 8
_NEIGHBOURS_SHOWN = 5


def run(params: Params) -> None:
    """Embed packed/train and packed/test with models/final; search train for each test image."""
    sets = {name: ImageSet.open(PACKED / name) for name in ("train", "test")}
    bundle = load_matching(FINAL, sets["test"].info)
    embedded = {name: _embed(name, images, bundle) for name, images in sets.items()}
    for name, one in embedded.items():
        write_embeddings(EMBEDDINGS / f"{name}.parquet", one)

    train, test = embedded["train"], embedded["test"]
    k = max(*params.embed.recall_at, min(_NEIGHBOURS_SHOWN, len(train.ids)))
    found = nearest(train.vectors, test.vectors, k)
    block = retrieval_block(found, train.labels, test.labels, params.embed.recall_at)
    report = RetrieveReport.model_validate(
        {
            "test": block,
            "queries": len(test.ids),
            "searched": len(train.ids),
            "dimensions": test.vectors.shape[1],
        }
    )
    write_report(REPORTS / "retrieve.json", report)
    rows = spread_queries(test.labels, _QUERIES_SHOWN, params.embed.seed)
    save(_draw_neighbours(sets, found, rows), PICTURES / "embed" / "retrieval.png")
    write_map(embedded, params.embed)
    first = params.embed.recall_at[0]
    value = block[f"recall_at_{first}"]["value"]
    print(f"embed: {test.vectors.shape[1]} dimensions, recall@{first} {value:.3f}")


def _embed(name: str, images: ImageSet, bundle: Bundle) -> Embeddings:
    vectors = over_set(embeddings, bundle, images, f"embed: {name}")
    labels = images.labels.astype(np.int64)
    return Embeddings(images.info.classes, images.ids, images.paths, labels, vectors)


def _draw_neighbours(
    sets: dict[str, ImageSet], found: Neighbours, rows: npt.NDArray[np.intp]
) -> Figure:
    train, test = sets["train"], sets["test"]
    classes = test.info.classes
    lines = []
    for row, image in zip(rows, test.gather(rows), strict=True):
        near = found.rows[row, :_NEIGHBOURS_SHOWN]
        lines.append(
            (
                Neighbour(image, classes[test.labels[row]], None),
                [
                    Neighbour(other, classes[train.labels[i]], float(cosine))
                    for i, other, cosine in zip(
                        near, train.gather(near), found.similarity[row], strict=False
                    )
                ],
            )
        )
    return draw_neighbours(lines)
