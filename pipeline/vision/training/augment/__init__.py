"""Training-time augmentation of whole batches, on the device that trains.

What is random is drawn as a few numbers per image for the global batch, from a generator that
the caller hands in; what is done with them is a pure function of image and numbers. So a row
comes out the same on one worker and on four, on a CPU and (up to rounding) on a GPU.
"""

from pipeline.vision.training.augment.build import Augment, build_augment

__all__ = ["Augment", "build_augment"]
