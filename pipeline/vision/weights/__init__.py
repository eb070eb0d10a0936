"""Weights to start from: files, bundles, and those that torchvision publishes."""
