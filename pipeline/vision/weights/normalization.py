"""What images are normalised by when published weights are used. Without torch."""

# Of ImageNet's training images, per channel (red, green, blue) of pixels in [0, 1]: what nearly all
# published networks were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def for_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return mean or std for images of another number of channels: the average, for each.

    That goes with `adapt_kernels`, which treats new channels alike, too.
    """
    if len(values) == channels:
        return values
    return (sum(values) / len(values),) * channels
