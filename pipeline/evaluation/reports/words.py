"""How figures are written, in sentences and tables alike."""


def number(value: float, sign: bool = False, digits: int = 3) -> str:
    """Write a number to so many digits, with a true minus sign; what rounds to 0 has no sign."""
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    if not text.strip("+-0."):
        return text.lstrip("+-")
    return text.replace("-", "\N{MINUS SIGN}")


def cosine_text(value: float) -> str:
    """Write a cosine with three digits, or with as many, at most six, as tell it from 1."""
    return number(value, digits=next((n for n in range(3, 7) if round(value, n) < 1), 3))


def interval_text(interval: tuple[float, float], sign: bool = False) -> str:
    """Write an interval as '[0.923, 0.996]'."""
    low, high = (number(end, sign) for end in interval)
    return f"[{low}, {high}]"
