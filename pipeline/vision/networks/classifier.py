"""What every network here is: an extractor of features below a linear head."""

from torch import Tensor, nn

Shape = tuple[int, int, int]  # channels, height, width


class Classifier(nn.Module):
    """An extractor (images to features) below a linear head (features to logits).

    Attributes:
        extractor: n x channels x height x width to n x features.
        head: n x features to n x classes.
        head_name: what the head's layer is called in files of the plain network; None if the
            plain network ends in something else.
    """

    def __init__(
        self, extractor: nn.Module, features: int, classes: int, head_name: str | None
    ) -> None:
        super().__init__()
        self.extractor = extractor
        self.head = nn.Linear(features, classes)
        self.head_name = head_name

    def silence_head(self) -> None:
        """Let all classes be equally likely, whatever the features.

        torch's own start draws weights for features of unit size. Those of pretrained networks may
        be far larger: a first loss of 40 nats instead of log(classes) sends back gradients that
        spoil what was learnt.
        """
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Map n x channels x height x width to n x classes logits."""
        logits: Tensor = self.head(self.extractor(images))
        return logits


class DoesNotFitError(Exception):
    """A layer that leaves nothing of the volume it gets. Says which, and by which formula."""
