"""balance: synthetic images of the rare classes, made from training images only."""

from collections.abc import Sequence

import numpy as np

from pipeline.data.balancing.balance import (
    Copy,
    Counts,
    Policies,
    balance_key,
    class_targets,
    plan_copies,
    spread_copies,
    write_balanced,
)
from pipeline.data.reuse import keep, open_kept
from pipeline.data.shards.shards import ImageSet
from pipeline.errors import PipelineError, did_you_mean, some
from pipeline.evaluation.plots import balance as plots
from pipeline.evaluation.plots import save
from pipeline.files import fresh_folder, repository, write_json
from pipeline.params import Balance, Params
from pipeline.stages._paths import BALANCED, PACKED, PICTURES, REPORTS, STATE

TRAIN = PACKED / "train"
ROWS_OF_SHEET = 12
COPIES_IN_ROW = 9


def run(params: Params) -> None:
    """Write data/balanced, reports/balance.json and the pictures of both.

    Recipes that are made take no synthetic images: none are made then.
    """
    balance, made = params.balance, params.recipe.made
    train = ImageSet.open(TRAIN)
    classes, before = train.info.classes, train.class_counts()
    policies = _policies(balance, train)
    targets = before
    if not made:
        targets = class_targets(before, balance.target, balance.ratio, balance.beta)
    per_class = plan_copies(before, targets, balance.max_copies_per_image)
    copies = spread_copies(train, per_class, balance.seed)
    state, key = repository() / STATE / "balanced", balance_key(train.info)
    kept = open_kept(state, key)
    with fresh_folder(BALANCED) as folder:
        write_balanced(TRAIN, copies, policies, folder, kept=kept)
    keep(state, key, BALANCED)
    _report(classes, before, targets, per_class)
    _draw(train, before, copies)

    if made:
        print(f"balance: no synthetic images: recipe.name: {params.recipe.name} takes none")
        return
    after = before + per_class
    short = [
        f"{name} ({after[i]} of {targets[i]})"
        for i, name in enumerate(classes)
        if after[i] < targets[i]
    ]
    print(
        f"balance: {len(copies)} synthetic images; classes of {before.min()} to {before.max()}"
        f" images become {after.min()} to {after.max()} -> {BALANCED}"
    )
    if short:
        print(
            f"balance: max_copies_per_image {balance.max_copies_per_image} keeps below"
            f" target: {some(short)}"
        )


def _policies(balance: Balance, train: ImageSet) -> Policies:
    """Build every policy once, so that a mistake is found before any work is done."""
    classes = train.info.classes
    for name in balance.per_class:
        if name not in classes:
            raise PipelineError(
                f"balance.per_class: no class {name} in the data{did_you_mean(name, classes)}"
                f" (classes: {some(classes, 20)})"
            )
    policies = Policies(balance.policy, balance.per_class)
    for name in {next(iter(set(classes) - set(balance.per_class)), classes[0]), *balance.per_class}:
        policies.augmenter(name, train.info.shape)
    return policies


def _report(classes: tuple[str, ...], before: Counts, targets: Counts, copies: Counts) -> None:
    after = before + copies
    report = {
        "synthetic_images": int(copies.sum()),
        "capped_classes": [n for i, n in enumerate(classes) if after[i] < targets[i]],
        "classes": {
            name: {
                "before": int(before[i]),
                "copies": int(copies[i]),
                "after": int(after[i]),
                "target": int(targets[i]),
            }
            for i, name in enumerate(classes)
        },
    }
    write_json(REPORTS / "balance.json", report)


def _draw(train: ImageSet, before: Counts, copies: Sequence[Copy]) -> None:
    pictures = PICTURES / "balance"
    synthetic = ImageSet.open(BALANCED)
    histogram = plots.histogram(train.info.classes, before, synthetic.class_counts())
    save(histogram, pictures / "histogram.png")
    save(plots.sheet(_sheet_rows(train, synthetic, before, copies)), pictures / "sheet.png")


def _sheet_rows(
    train: ImageSet, synthetic: ImageSet, before: Counts, copies: Sequence[Copy]
) -> list[plots.SheetRow]:
    """Pick, of each of the rarest classes, the image with the most copies."""
    parents = np.array([copy.parent for copy in copies], dtype=np.int64)
    made = np.bincount(parents, minlength=len(train))
    rows: list[plots.SheetRow] = []
    for label in np.argsort(before, kind="stable"):
        candidates = np.flatnonzero((train.labels == label) & (made > 0))
        if len(candidates) and len(rows) < ROWS_OF_SHEET:
            parent = candidates[np.argmax(made[candidates])]
            shown = np.flatnonzero(parents == parent)[:COPIES_IN_ROW]
            original = train.gather(np.array([parent]))[0]
            rows.append(
                plots.SheetRow(train.info.classes[label], original, synthetic.gather(shown))
            )
    return rows
