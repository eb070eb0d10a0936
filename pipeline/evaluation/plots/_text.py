"""Names and paths of users in pictures: short, and never read as formulas."""


def named(name: str, limit: int = 18) -> str:
    """Shorten a class name at its end."""
    return name if len(name) <= limit else name[: limit - 1] + "…"


def ending(path: str, limit: int = 26) -> str:
    """Shorten a path at its start: its end tells files apart."""
    return path if len(path) <= limit else "…" + path[1 - limit :]
