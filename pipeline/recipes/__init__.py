"""Whole recipes: how to train, from what is known of the images, the network and the time."""

from pipeline.recipes.choice import Plan, plan
from pipeline.recipes.facts import Facts
from pipeline.recipes.lengths import Pace

__all__ = ["Facts", "Pace", "Plan", "plan"]
