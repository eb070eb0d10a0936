"""What a recipe is chosen by."""

from dataclasses import dataclass
from functools import cached_property

# Flattened, their images have one size.
_OF_ONE_SIZE = frozenset({"plain", "lenet5"})
_WITHOUT_NORMS = frozenset({"plain", "lenet5", "alexnet", "squeezenet1_0", "squeezenet1_1"})


@dataclass(frozen=True)
class Facts:
    """The images, the network and what is asked of it.

    Attributes:
        counts: training images of each class.
        side: the shorter one of an image, px.
        network: its name in params.yaml.
        pretrained: whether weights are given to start from.
        mirrored: whether mirrored images are like those of the set.
        metric: what models are chosen by, evaluate.metric.
    """

    counts: tuple[int, ...]
    side: int
    network: str
    pretrained: bool
    mirrored: bool
    metric: str

    @property
    def images(self) -> int:
        """Training images."""
        return sum(self.counts)

    @cached_property
    def imbalance(self) -> float:
        """Images of the largest class per image of the smallest that has any."""
        there = [count for count in self.counts if count]
        return max(there) / min(there)

    @property
    def normed(self) -> bool:
        """Whether the network has batch norms, with which high learning rates are safe."""
        return self.network not in _WITHOUT_NORMS

    @property
    def any_size(self) -> bool:
        """Whether the network takes images of other sizes, too."""
        return self.network not in _OF_ONE_SIZE
