"""The section of params.yaml that `convoy retrain` goes by."""

from datetime import date
from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.params._types import Count, CountOrZero, Fraction, Positive, Section, Share


def _is_day(text: str) -> str:
    try:
        date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"got {text}, need a day such as '2027-01-31' ({error})") from error
    return text


Day = Annotated[str, AfterValidator(_is_day)]


class When(Section):
    """When `convoy retrain` trains: when one of these holds; null and false switch a rule off.

    Relabelled and vanished images count as new ones do.

    `new_images`: so many of them. `new_share`: of the images known so far. `age_days`: since the
    last training. `drift`: new images are unlike those of validation and test. `params`: a section
    on which a result depends has changed. `date`: the first call on that day or after it.
    """

    new_images: Count | None
    new_share: Annotated[Share, Field(gt=0.0)] | None
    age_days: Positive | None
    drift: bool
    params: bool
    date: Day | None


class Hold(Section):
    """What is left for a person: more than this is; null lets everything pass.

    `new_classes`, `vanished_classes`: how many. `vanished`, `relabelled`: shares of the known
    images. `conflicting`: of the new images, those that a person has filed elsewhere too: as copies
    or near duplicates under another label. `label_noise`: share of the new labels that look wrong,
    beyond what the champion gets wrong of validation and test images. `drift`: whether it is.
    """

    new_classes: CountOrZero | None
    vanished_classes: CountOrZero | None
    vanished: Fraction | None
    relabelled: Fraction | None
    conflicting: Fraction | None
    label_noise: Fraction | None
    drift: bool


class Retrain(Section):
    """What `convoy retrain` goes by. Tracked by no stage.

    `drift_level`: the share of calls that see drift where there is none.
    `commit`: whether dvc.lock, and what stages keep in git, is committed after a training.
    `push`: whether outputs are pushed to DVC's remote then.
    """

    when: When
    hold: Hold
    drift_level: Annotated[float, Field(gt=0.0, le=0.5)]
    commit: bool
    push: bool
