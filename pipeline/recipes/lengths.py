"""How many epochs a time allows for."""

import math
from dataclasses import dataclass

from pipeline.params.choices.training import ProgressiveResizing, Training

# A process that trains starts, opens its images and records: seconds.
_START_S = 6.0
# Beside its steps an epoch takes statistics of norms, over an eighth of it and at most so many.
_STATISTICS_IMAGES = 1024
_STATISTICS_SHARE = 0.125


@dataclass(frozen=True)
class Pace:
    """How fast a training runs where it was measured.

    Attributes:
        step_s: seconds of a step on images of their own size.
        forward_s: seconds of one image that only goes forward.
        images, validation_images: of each epoch.
    """

    step_s: float
    forward_s: float
    images: int
    validation_images: int

    def seconds(self, recipe: Training) -> float:
        """Estimate the seconds of a training, from its start to its last epoch."""
        if recipe.same_features:
            return _START_S + (self.images + self.validation_images) * self.forward_s
        return _START_S + recipe.epochs * self._epoch_s(recipe)

    def epochs(self, recipe: Training, seconds: float) -> int:
        """Return how many epochs of a recipe take so many seconds: at least 1."""
        return max(1, math.floor((seconds - _START_S) / self._epoch_s(recipe)))

    def _epoch_s(self, recipe: Training) -> float:
        """Return the seconds of a mean epoch; smaller images take less by their pixels."""
        resizing, pixels = recipe.resizing, 1.0
        if isinstance(resizing, ProgressiveResizing):
            pixels = 1 - resizing.until * (1 - resizing.scale**2)
        steps = math.ceil(self.images / recipe.global_batch_size)
        statistics = min(_STATISTICS_IMAGES, _STATISTICS_SHARE * self.images)
        forward = (self.validation_images + statistics) * self.forward_s
        return steps * self.step_s * pixels + forward
