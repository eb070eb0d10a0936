"""Latent vectors, what lies near what, and the map of the latent space."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from pipeline.data.shards.shards import ImageSet
from pipeline.errors import PipelineError
from pipeline.evaluation.latent.embeddings import (
    SPLITS,
    Embeddings,
    join,
    write_embeddings,
    write_unit_vectors,
)
from pipeline.evaluation.latent.retrieval import (
    average_precisions,
    mean_figure,
    retrieval_block,
    spread_queries,
)
from pipeline.evaluation.latent.search import Neighbours, nearest
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.sheets import Neighbour, draw_neighbours
from pipeline.evaluation.reports.files import write_report
from pipeline.evaluation.reports.latent import RetrieveReport
from pipeline.params import Params
from pipeline.stages._bundles import load_matching
from pipeline.stages._latent import (
    Sets,
    against_pixels,
    draw_rows,
    look_for_duplicates,
    look_for_outliers,
    look_for_unlike,
)
from pipeline.stages._map import write_map
from pipeline.stages._paths import EMBEDDINGS, FINAL, PACKED, PICTURES, REPORTS
from pipeline.vision.inference.bundle import Bundle
from pipeline.vision.inference.predict import embeddings
from pipeline.vision.inference.sets import over_set

_QUERIES_SHOWN = 8
_NEIGHBOURS_SHOWN = 5
_MOST_RANKED = 5_000  # test images whose ranking of all training images is judged


def run(params: Params) -> None:
    """Embed packed/train, val and test with models/final; search train for each test image."""
    sets = {name: ImageSet.open(PACKED / name) for name in SPLITS}
    most, searched = max(params.embed.recall_at), len(sets["train"])
    if most > searched:
        raise PipelineError(
            f"embed.recall_at asks for {most} neighbours, the training set has {searched} images;"
            " lower embed.recall_at"
        )
    bundle = load_matching(FINAL, sets["test"].info)
    embedded = {name: _embed(name, images, bundle) for name, images in sets.items()}
    gallery = join(embedded, write_unit_vectors(EMBEDDINGS, embedded))
    train, test = gallery.vectors[:searched], gallery.vectors[searched + len(sets["val"]) :]
    labels = {name: images.labels for name, images in sets.items()}

    found = nearest(train, test, max(most, min(_NEIGHBOURS_SHOWN, searched)))
    embedded["test"] = replace(embedded["test"], nearest_training=found.similarity[:, 0])
    for name, one in embedded.items():
        write_embeddings(EMBEDDINGS / f"{name}.parquet", one)

    seed = params.embed.seed
    ranked = draw_rows(len(test), _MOST_RANKED, seed)
    precisions = average_precisions(train, labels["train"], test[ranked], labels["test"][ranked])
    precisions = precisions[~np.isnan(precisions)]
    block = retrieval_block(found, labels["train"], labels["test"], params.embed.recall_at)
    report = RetrieveReport.model_validate(
        {
            "test": block | {"mean_average_precision": mean_figure(precisions)},
            "queries": len(test),
            "ranked": len(precisions),
            "searched": searched,
            "dimensions": test.shape[1],
            "against_pixels": against_pixels(sets, train, test, seed),
            "duplicates": look_for_duplicates(sets, gallery, seed),
            "outliers": look_for_outliers(sets, gallery, seed),
            "unlike": look_for_unlike(sets, gallery, found),
        }
    )
    write_report(REPORTS / "retrieve.json", report)

    rows = spread_queries(labels["test"], _QUERIES_SHOWN, seed)
    save(_draw_neighbours(sets, found, rows), PICTURES / "embed" / "retrieval.png")
    write_map(embedded, params.embed)
    first = params.embed.recall_at[0]
    value = block[f"recall_at_{first}"]["value"]
    mean = report.test["mean_average_precision"].value
    print(
        f"embed: {test.shape[1]} dimensions, recall@{first} {value:.3f}"
        + (f", mAP {mean:.3f}" if mean is not None else "")
    )


def _embed(name: str, images: ImageSet, bundle: Bundle) -> Embeddings:
    vectors = over_set(embeddings, bundle, images, f"embed: {name}")
    labels, info = images.labels.astype(np.int64), images.info
    return Embeddings(info.classes, images.ids, images.paths, labels, vectors, bundle.digest)


def _draw_neighbours(sets: Sets, found: Neighbours, rows: npt.NDArray[np.intp]) -> Figure:
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
