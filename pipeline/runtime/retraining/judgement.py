"""Whether new images drift, and have wrong labels, as far as the champion sees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.groups import groups_from
from pipeline.data.tables import SPLIT
from pipeline.evaluation.drift.label_noise import judge_labels
from pipeline.evaluation.drift.two_sample import class_shift, classifier_test, kernel_test
from pipeline.evaluation.retraining.record import DriftReport, NoiseReport, Strange, Suspect
from pipeline.params import Params
from pipeline.parquet import read_table
from pipeline.runtime.retraining.records import KNOWN
from pipeline.runtime.retraining.sight import Seen, Sight, some_by_content
from pipeline.runtime.retraining.survey import Images

_MOST_REFERENCE, _MOST_NEW = 2000, 5000  # images that the champion looks at
_STRANGEST, _SUSPECTS = 12, 20  # listed
_SHIFTED = 5  # classes listed
_SHIFT_LEVEL = 0.05
_NOISE_LEVEL = 0.01


def judge_new(
    images: Images, reference: Sequence[int], sight: Sight, params: Params, since: datetime | None
) -> tuple[DriftReport, NoiseReport | None]:
    """Judge new images by what the champion makes of them and of validation and test images.

    Args:
        images: of now.
        reference: from `reference_rows`, at least one.
        sight: of the champion.
        params: all of them.
        since: when the reference begins; None for all images.

    Returns:
        What was found of drift and of label noise; None where no label can be judged.
    """
    paths, contents, labels = (
        images.index[name].to_pylist() for name in ("path", "sha256", "label")
    )
    chosen_reference, chosen_new = (
        [rows[i] for i in some_by_content([contents[row] for row in rows], most)]
        for rows, most in ((reference, _MOST_REFERENCE), (images.new, _MOST_NEW))
    )
    seen_reference, seen_new = (
        sight.see([(paths[row], contents[row]) for row in rows], f"champion sees {what} images")
        for rows, what in ((chosen_reference, "known"), (chosen_new, "new"))
    )
    units = _units(images.index, params.split.group_from)
    both = _Both(
        sight.classes,
        [_Labelled(paths[row], labels[row]) for row in chosen_reference],
        [_Labelled(paths[row], labels[row]) for row in chosen_new],
        seen_reference,
        seen_new,
        units[chosen_reference],
        units[chosen_new],
    )
    return both.drift(params.retrain.drift_level, since), both.noise()


@dataclass(frozen=True)
class _Labelled:
    path: str
    label: str


@dataclass(frozen=True)
class _Both:
    """Reference and new images, and what the champion makes of them."""

    classes: tuple[str, ...]
    reference: Sequence[_Labelled]
    new: Sequence[_Labelled]
    seen_reference: Seen
    seen_new: Seen
    units_reference: npt.NDArray[np.intp]
    units_new: npt.NDArray[np.intp]

    def drift(self, level: float, since: datetime | None) -> DriftReport:
        """Test whether the new images come from where the reference came from."""
        old, new = self.seen_reference.vectors, self.seen_new.vectors
        units: dict[str, Any] = {
            "units_reference": self.units_reference,
            "units_new": self.units_new,
        }
        classifier = classifier_test(old, new, seed=0, **units)
        kernel = kernel_test(old, new, seed=0, **units)
        answers = [seen.posteriors.argmax(axis=1) for seen in (self.seen_reference, self.seen_new)]
        shift = class_shift(answers[0], answers[1], self.classes, **units)
        order = np.argsort(-classifier.strangeness, kind="stable")[:_STRANGEST]
        shifted = [
            f"{one.name} is predicted for {one.new_share:.0%} of the new images and"
            f" {one.reference_share:.0%} of the others"
            for one in shift.changes[:_SHIFTED]
        ]
        return DriftReport(
            new=len(self.new),
            reference=len(self.reference),
            since=since,
            classifier_p=classifier.p,
            kernel_p=kernel.p,
            class_p=shift.p,
            auc=classifier.auc,
            level=level,
            drifted=classifier.p is not None and classifier.p < level,
            shifted=tuple(shifted) if shift.p is not None and shift.p < _SHIFT_LEVEL else (),
            strangest=tuple(
                Strange(
                    path=self.new[i].path,
                    label=self.new[i].label,
                    predicted=self.classes[answers[1][i]],
                    strangeness=float(classifier.strangeness[i]),
                )
                for i in order
            ),
        )

    def noise(self) -> NoiseReport | None:
        """Look for wrong labels among new images of classes that champion and reference have."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        there = {one.label for one in self.reference} & numbers.keys()
        rows = [
            [i for i, one in enumerate(side) if one.label in there]
            for side in (self.reference, self.new)
        ]
        if not all(rows):
            return None
        reference, new = (
            (
                np.array([numbers[side[i].label] for i in chosen]),
                seen.posteriors[chosen],
            )
            for side, seen, chosen in zip(
                (self.reference, self.new), (self.seen_reference, self.seen_new), rows, strict=True
            )
        )
        found = judge_labels(
            reference,
            new,
            self.classes,
            units_reference=self.units_reference[rows[0]],
            units_new=self.units_new[rows[1]],
        )
        whole = next((one for one in found.shares if one.scope == "all"), None)
        if whole is None:
            return None
        findings = found.findings(_NOISE_LEVEL, 0.0)
        return NoiseReport(
            new=whole.images,
            unjudged=len(self.new) - len(rows[1]),
            suspects=whole.suspects,
            expected=whole.expected,
            excess=whole.excess,
            ci95=whole.interval,
            findings=tuple(
                f"{one.suspects} of {one.images} images {_SCOPES[one.scope].format(one.name)},"
                f" where {one.expected:.1f} are expected (p = {one.corrected_p:.2g})"
                for one in findings
            ),
            worst=max((one.excess for one in findings), default=0.0),
            listed=tuple(
                Suspect(
                    path=self.new[rows[1][i]].path,
                    label=self.new[rows[1][i]].label,
                    suggested=self.classes[suggested],
                )
                for i, suggested in zip(
                    found.rows[:_SUSPECTS].tolist(), found.suggested, strict=False
                )
            ),
        )


_SCOPES = {"all": "in all", "given": "filed under {}", "suggested": "that look like {}"}


def reference_rows(
    images: Images, split: Path, known: pa.Table, since: datetime | None
) -> list[int]:
    """Return the rows of known images that the champion did not learn from.

    Args:
        images: of now.
        split: the file with the split of the last training.
        known: the images of the last training.
        since: when the reference begins; None for all images.
    """
    if not split.exists():
        return []
    table = read_table(split, SPLIT.names)
    judging = table.filter(pc.is_in(table["split"], pa.array(["val", "test"])))
    if since is not None:
        begin = pa.scalar(since, KNOWN.field("arrived").type)
        known = known.filter(pc.greater_equal(known["arrived"], begin))
    kept = set(judging["sha256"].to_pylist()) & set(known["sha256"].to_pylist())
    problems, contents = (images.index[name].to_pylist() for name in ("problem", "sha256"))
    return [
        row
        for row, (problem, content) in enumerate(zip(problems, contents, strict=True))
        if problem is None and content in kept
    ]


def _units(index: pa.Table, group_from: str | None) -> npt.NDArray[np.intp]:
    """Return a number for each image; those of one group, or near duplicates, share one."""
    groups = index["group"].to_pylist()
    if group_from is not None:
        named = groups_from(group_from, index["path"].to_pylist())
        groups = [one or other for one, other in zip(groups, named, strict=True)]
    clusters, paths = index["cluster"].to_pylist(), index["path"].to_pylist()
    names = [
        f"group {group}" if group else f"cluster {cluster or path}"
        for group, cluster, path in zip(groups, clusters, paths, strict=True)
    ]
    return np.unique(names, return_inverse=True)[1]
