"""A sheet of what a training saw: images, their partners, what was made of both, and its label."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from pipeline.evaluation.plots._cells import NOTE_SIZE, Cell, draw_cells, name_lines
from pipeline.evaluation.plots.examples import TrainingExample

_COLUMNS = 6
_SHARES_NAMED = 2
_LEAST_SHARE = 0.005  # less would be written as 0


def draw_examples(examples: Sequence[TrainingExample]) -> Figure:
    """Draw a column per example: the image, augmented, its partner, and what it was trained on.

    Rows that no example has are left out.

    Args:
        examples: at least one, at most 6.
    """
    partners = [_partner(one) for one in examples]
    sheet: dict[str, list[Cell | None]] = {
        "image": [Cell(one.image, name_lines(one.label, _COLUMNS)) for one in examples]
    }
    if any(partners):  # else what was augmented is what was trained on
        sheet["augmented"] = [
            Cell(one.augmented) if one.augmented is not None else None for one in examples
        ]
        sheet["mixed with"] = partners
    sheet["trained on, with this label"] = [
        Cell(one.trained_on, beneath=_label(one)) for one in examples
    ]
    rows = {name: row for name, row in sheet.items() if any(row)}
    return draw_cells(list(rows.values()), _COLUMNS, names=list(rows))


def _partner(one: TrainingExample) -> Cell | None:
    if one.partner is None:
        return None
    share = f"{one.partner.how}, {1 - one.partner.weight:.0%} of this"
    return Cell(one.partner.image, name_lines(one.partner.label, _COLUMNS), (share,))


def _label(one: TrainingExample) -> list[str]:
    """Write the largest shares of the soft label, and what is left for the others."""
    lines = []
    for name, share in one.target[:_SHARES_NAMED]:
        if share < _LEAST_SHARE:
            continue
        figure = f": {share:.2f}"
        lines += name_lines(name, _COLUMNS, after=figure, size=NOTE_SIZE)
    if rest := one.target[_SHARES_NAMED:]:
        lines.append(f"others: {sum(share for _, share in rest):.2f}")
    return lines
