"""Convolutional networks by name, each as a feature extractor and a linear head."""

from pipeline.vision.networks.build import BUILDERS, Classifier, build_network, count_parameters

__all__ = ["BUILDERS", "Classifier", "build_network", "count_parameters"]
