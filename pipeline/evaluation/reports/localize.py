"""What the stage localize reports: localize.json."""

from typing import Literal

from pydantic import Field

from pipeline.evaluation.reports.schema import Figure, Part

DEFAULT_THRESHOLD = 0.2  # of the map's maximum; Zhou et al. 2016


class BoxFigures(Part):
    """How well maps find given boxes, on test images; see `localization.measures.measure`.

    Attributes:
        validation: images with a box that the threshold was chosen on.
        test: images with a box.
        validation_box_accuracy: at that threshold; the highest of all, hence flattering.
    """

    validation: int = Field(ge=0)
    test: int = Field(ge=1)
    validation_box_accuracy: Figure | None
    box_accuracy: Figure
    box_and_class_accuracy: Figure
    max_box_accuracy: Figure
    pointing_accuracy: Figure


class LocalizeReport(Part):
    """localize.json: where the final model looks.

    Attributes:
        model: digest of its bundle: sha256, hex.
        method: 'cam' where maps are exact, else 'layercam'.
        places: rows and columns of a map.
        threshold: of a map's maximum, where a box begins.
        chosen_on: whether validation boxes or params chose it.
        boxes: None where no test image has a box.
    """

    model: str
    method: Literal["cam", "layercam"]
    places: tuple[int, int]
    threshold: float = Field(gt=0, le=1)
    chosen_on: Literal["validation", "params"]
    boxes: BoxFigures | None
