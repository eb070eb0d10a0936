"""Which recipe suits, and for how many epochs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import PipelineError
from pipeline.params import Recipe
from pipeline.params.choices.training import Training
from pipeline.recipes import long_tail, transfer
from pipeline.recipes.facts import Facts
from pipeline.recipes.lengths import Pace
from pipeline.recipes.params_form import in_words

# What is switched off unless a recipe says otherwise.
_OFF: Mapping[str, Any] = {
    "label_smoothing": 0.0,
    "tail_smoothing": None,
    "sampler": {"name": "natural"},
    "mixup_alpha": 0.0,
    "cutmix_alpha": 0.0,
    "mix_partners": "any",
    "contrast": {"name": "none"},
    "resizing": {"name": "none"},
    "ema_decay": 0.0,
    "clip_norm": 0.0,
}
# Of the sections as they are given: only a person knows these.
KEPT: Mapping[str, tuple[str, ...]] = {
    "train": (
        "seed",
        "weights",
        "normalization",
        "accumulate",
        "precision",
        "sync_batch_norm",
    ),
    "finetune": ("seed", "normalization", "accumulate", "precision", "sync_batch_norm"),
}
# More than this seldom pays: published recipes take 200 to 400.
_MOST_EPOCHS = 400


@dataclass(frozen=True)
class Plan:
    """A recipe in full.

    Attributes:
        name: long_tail or transfer.
        reason: why this one.
        train, finetune: the sections.
        seconds: that both are expected to take; None where no pace is known.
    """

    name: str
    reason: str
    train: Training
    finetune: Training
    seconds: float | None

    def __str__(self) -> str:
        long = "" if self.seconds is None else f" in some {in_words(self.seconds)}"
        epochs = f"{self.train.epochs} + {self.finetune.epochs} epochs"
        return f"{self.name}, {epochs}{long}: {self.reason}"

    @property
    def sections(self) -> dict[str, Training]:
        """Both by their names."""
        return {"train": self.train, "finetune": self.finetune}


def plan(
    facts: Facts,
    recipe: Recipe,
    given: Mapping[str, Training],
    paces: Mapping[str, Pace] | None = None,
) -> Plan:
    """Choose a recipe, and its length if the time is limited.

    All but what `KEPT` lists is replaced.

    Args:
        facts: what is known.
        recipe: from params.yaml, not `custom`.
        given: the sections 'train' and 'finetune'.
        paces: of both trainings of the plan without a limit; None plans that one.

    Raises:
        PipelineError: the time is too short for one epoch; or no weights for `transfer`.
    """
    name, reason = recipe.resolved(facts.pretrained), _reason(facts, recipe)
    if name == "transfer":
        _check_weights(given["train"])
        limited, at_length = "finetune", transfer.tuned
        changes = {"train": transfer.probe(facts)}
        changes["finetune"] = transfer.tuned(facts, transfer.epochs_for(facts))
    else:
        limited, at_length = "train", long_tail.base
        changes = {"train": long_tail.base(facts, long_tail.EPOCHS)}
        changes["finetune"] = long_tail.head(facts)
    sections = {stage: _with(given[stage], changes[stage]) for stage in given}
    if paces is None:
        return Plan(name, reason, sections["train"], sections["finetune"], None)
    if recipe.budget_s is not None:
        (other,) = sections.keys() - {limited}
        left = recipe.budget_s - paces[other].seconds(sections[other])
        epochs = _affordable(sections[limited], paces[limited], left, recipe)
        sections[limited] = _with(given[limited], at_length(facts, epochs))
    seconds = sum(paces[stage].seconds(section) for stage, section in sections.items())
    return Plan(name, reason, sections["train"], sections["finetune"], seconds)


def _reason(facts: Facts, recipe: Recipe) -> str:
    if recipe.name != "auto":
        return "as recipe.name says"
    if facts.pretrained:
        return "there are weights to start from (train.weights)"
    return "there are no weights to start from (train.weights is null)"


def _check_weights(given: Training) -> None:
    if given.weights is None:
        raise PipelineError(
            "recipe.name: transfer starts from weights, and train.weights is null; set it, for"
            " instance to IMAGENET1K_V1 or a .safetensors file, or take recipe.name: long_tail"
        )


def _affordable(section: Training, pace: Pace, seconds: float, recipe: Recipe) -> int:
    """Return the epochs that the time allows for."""
    one = pace.seconds(section.model_copy(update={"epochs": 1}))
    if seconds < one:
        raise PipelineError(
            f"recipe.budget: {recipe.budget} leaves {max(seconds, 0):.0f} s for the longer of the"
            f" two trainings, and one epoch takes {one:.0f} s; give more time, or take smaller"
            " images (pack.height, pack.width) or a smaller network"
        )
    return min(_MOST_EPOCHS, pace.epochs(section, seconds))


def _with(given: Training, changes: Mapping[str, Any]) -> Training:
    """Return a section with what a recipe changes."""
    values = given.model_dump(mode="json")
    return Training.model_validate({**values, **_OFF, **changes}, strict=False)
