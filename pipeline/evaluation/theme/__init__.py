"""Colours and type that all pages share."""

from importlib import resources


def theme_css() -> str:
    """Return the style sheet that each page begins with."""
    return resources.files(__name__).joinpath("theme.css").read_text(encoding="utf-8")
