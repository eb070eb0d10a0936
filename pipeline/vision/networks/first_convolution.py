"""The first convolution, for images of any number of channels."""

import torch
from torch import Tensor, nn


def first_kernels(network: nn.Module) -> str | None:
    """Return the name of the first convolution's weights; None if there is no convolution."""
    return next((name for name, p in network.named_parameters() if p.ndim == 4), None)


def accept_channels(network: nn.Module, channels: int) -> None:
    """Replace the first convolution where it does not take `channels`."""
    name, first = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    if first.in_channels == channels:
        return
    new = nn.Conv2d(
        channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]  # pairs here, declared as tuples
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    network.set_submodule(name, new)


def adapt_kernels(kernels: Tensor, channels: int) -> Tensor:
    """Turn the weights of a first convolution into ones for another number of channels.

    Each new channel gets the sum of the old kernels over their channels, divided by the new
    number of channels. An image whose channels are all equal therefore gives exactly the response
    that it gave before: a grey image by one channel (the sum) what it gave by three, and
    activations keep their scale. That holds for what the convolution sees, that is, after
    normalisation: exactly if all channels are normalised alike, else roughly.

    timm does the same for one channel; for more it repeats red, green, blue in turn, scaled
    likewise, where the mean is taken here: a fourth channel is no more red than blue.

    Args:
        kernels: filters x old channels x height x width.
        channels: new number of channels.

    Returns:
        filters x channels x height x width.
    """
    summed = torch.sum(kernels.float(), dim=1, keepdim=True)
    return (summed / channels).repeat(1, channels, 1, 1)
