"""The page that a person opens: one file, from the verdict down to the details.

Templates stand beside the modules, a file per section; `index.html` says in which order.
"""

from pipeline.evaluation.page.render import Page, Recipe, count_split, find_pictures, render

__all__ = ["Page", "Recipe", "count_split", "find_pictures", "render"]
