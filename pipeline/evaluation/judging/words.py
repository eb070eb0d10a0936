"""How figures are written, in sentences and tables alike."""


def number(value: float, sign: bool = False) -> str:
    """Write a number to three digits, with a true minus sign."""
    return f"{value:{'+' if sign else ''}.3f}".replace("-", "\N{MINUS SIGN}")


def interval_text(interval: tuple[float, float], sign: bool = False) -> str:
    """Write an interval as '[0.923, 0.996]'."""
    low, high = (number(end, sign) for end in interval)
    return f"[{low}, {high}]"
