"""Names and paths of users in pictures: short, and never read as formulas."""


def named(name: str, limit: int = 18) -> str:
    """Shorten a class name in its middle: names often differ at their ends."""
    if len(name) <= limit:
        return name
    end = (limit - 1) // 2
    return f"{name[: limit - 1 - end]}…{name[-end:]}"


def ending(path: str, limit: int = 26) -> str:
    """Shorten a path at its start: its end tells files apart."""
    return path if len(path) <= limit else "…" + path[1 - limit :]
