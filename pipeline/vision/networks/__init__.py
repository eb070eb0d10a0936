"""Convolutional networks by name, each as a feature extractor and a linear head."""

from pipeline.vision.networks.build import BUILDERS, build_network, count_parameters
from pipeline.vision.networks.classifier import Classifier

__all__ = ["BUILDERS", "Classifier", "build_network", "count_parameters"]
