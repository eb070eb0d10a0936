"""Whole recipes, by name: what may stand in the section `recipe`."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from pipeline.params._types import Name, Need, Section

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(s|min|h)")


def seconds(duration: str) -> float:
    """Return the seconds of a duration such as '10 min'.

    Raises:
        ValueError: it is none.
    """
    found = _DURATION.fullmatch(duration.strip())
    if not found or not float(found[1]):
        raise ValueError(f"got {duration}, need a time above 0, such as 90 s, 10 min or 1.5 h")
    return float(found[1]) * _UNITS[found[2]]


def _is_duration(duration: str) -> str:
    seconds(duration)
    return duration


class Recipe(Section):
    """Where the sections `train` and `finetune` come from.

    `custom` takes them as they are; the other names replace most of them. `budget` limits the time
    of both trainings, such as '10 min'. `mirror` says whether an image may be mirrored; auto finds
    out whether mirrored ones are like the others.
    """

    name: Literal["custom", "long_tail", "transfer", "auto"]
    budget: Annotated[Name, AfterValidator(_is_duration)] | None
    mirror: Annotated[Literal["auto"] | bool, Need("auto, true or false")]

    @property
    def made(self) -> bool:
        """Whether the sections are made for the images."""
        return self.name != "custom"

    def resolved(self, pretrained: bool) -> Literal["custom", "long_tail", "transfer"]:
        """Return the name that `auto` stands for, with weights to start from or without."""
        if self.name == "auto":
            return "transfer" if pretrained else "long_tail"
        return self.name

    @property
    def budget_s(self) -> float | None:
        """The limit in seconds; None where there is none."""
        return None if self.budget is None else seconds(self.budget)

    @model_validator(mode="after")
    def _limits_what_it_makes(self) -> Self:
        if self.budget is not None and not self.made:
            raise ValueError(
                f"budget: {self.budget} is for recipes that are made, and name is custom; set name"
                " to auto, long_tail or transfer, or budget to null"
            )
        return self
