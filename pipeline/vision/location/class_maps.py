"""Class-activation maps: which places of an image speak for a class.

Where a global average feeds the head alone, the map is exact (Zhou et al. 2016, Learning deep
features for discriminative localization): the average and the linear head may change places. With
features f(c, y, x) before the average and head weights w(k, c), the map of class k is the sum over
c of w(k, c) f(c, y, x), and its mean is the logit of k less its bias.

Any other network gets a map of its gradients, LayerCAM (Jiang et al. 2021, LayerCAM: Exploring
hierarchical class activation maps for localization): the sum over channels of the positive part of
activation times gradient of the logit, by Captum.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pipeline.vision.anatomy.places import places_of
from pipeline.vision.networks import Classifier
from pipeline.vision.networks.classifier import Shape

Method = Literal["cam", "layercam"]

# What a network may take its global average with.
_AVERAGES = (
    functional.adaptive_avg_pool2d,
    functional.avg_pool2d,
    torch.mean,
    torch.Tensor.mean,
)
_TOLERANCE = 1e-4  # relative, of float32 sums over some thousand places


class ClassMaps:
    """Makes the maps of one network.

    Attributes:
        method: 'cam' where the map is exact, 'layercam' where it is one of gradients.
        size: height and width of the map of an image as large as the network's input.
        places: where its places lie in the image, see `places_of`.
    """

    def __init__(self, network: Classifier, shape: Shape) -> None:
        """Find out how the network pools, by random images.

        Args:
            network: in evaluation mode.
            shape: channels, height and width of its input.
        """
        self._network = network
        device = next(network.parameters()).device
        images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).to(device)
        with torch.inference_mode():
            pooled, features = _pooled(network.extractor, images)
        self.method: Method = "layercam"
        if pooled is not None and pooled.shape[2:].numel() > 1:
            mean = pooled.mean(dim=(2, 3))
            if mean.shape == features.shape and torch.allclose(
                mean, features, rtol=_TOLERANCE, atol=_TOLERANCE * float(features.abs().max())
            ):
                self.method = "cam"
        self._layer = None if self.method == "cam" else _last_spatial(network.extractor, images)
        _, rows, columns = self(images[:1], torch.zeros(1, dtype=torch.long)).shape
        self.size = rows, columns
        self.places = places_of(network, shape, self.size)

    def __call__(self, images: Tensor, classes: Tensor) -> Tensor:
        """Return the map of one class for each image.

        Args:
            images: n x channels x height x width, normalised; for 'cam' of any size that the
                network's convolutions take, else of the network's own.
            classes: n indices of classes.

        Returns:
            n x h x w, float32 on the CPU. Values of 'cam' may be negative: they speak against it.
        """
        if self._layer is None:
            with torch.inference_mode():
                features, _ = _pooled(self._network.extractor, images)
                assert features is not None
                weights = self._network.head.weight[classes.to(images.device)]
                exact: Tensor = torch.einsum("nc,nchw->nhw", weights, features).float().cpu()
                return exact
        # Captum costs most of a second to import, and most networks do without it.
        from captum.attr import LayerGradientXActivation

        explain = LayerGradientXActivation(self._network, self._layer)
        with torch.enable_grad():
            products = explain.attribute(
                images, classes.to(images.device), attribute_to_layer_input=True
            )
        estimate: Tensor = products.detach().relu().sum(dim=1).float().cpu()
        return estimate


def all_maps(network: Classifier, images: Tensor) -> Tensor:
    """Return the exact maps of all classes, of a network whose method is 'cam'.

    Args:
        network: in evaluation mode.
        images: n x channels x height x width, normalised, of any size.

    Returns:
        n x classes x h x w, on the network's device.
    """
    with torch.inference_mode():
        features, _ = _pooled(network.extractor, images)
        assert features is not None
        return functional.conv2d(features, network.head.weight[:, :, None, None])


def _pooled(extractor: nn.Module, images: Tensor) -> tuple[Tensor | None, Tensor]:
    """Run an extractor; return what its last average was taken of, and the features."""
    with _Averages() as averages:
        features: Tensor = extractor(images)
    return averages.last, features


class _Averages(TorchFunctionMode):
    """Remembers what the latest average over places was taken of: n x channels x h x w.

    Networks take it by a module, a function or a method; only functions see all three.
    """

    last: Tensor | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _AVERAGES and args[0].ndim == 4:
            self.last = args[0]
        return func(*args, **(kwargs or {}))


def _last_spatial(extractor: nn.Module, images: Tensor) -> nn.Module:
    """Return the last layer that gets more than one place: what it gets is what maps show."""
    found: list[nn.Module] = []

    def see(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs[0].ndim == 4 and inputs[0].shape[2:].numel() > 1:
            found.append(layer)

    leaves = [module for module in extractor.modules() if not any(True for _ in module.children())]
    handles = [leaf.register_forward_pre_hook(see) for leaf in leaves]
    try:
        with torch.inference_mode():
            extractor(images)
    finally:
        for handle in handles:
            handle.remove()
    return found[-1]
