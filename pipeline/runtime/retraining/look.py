"""What a call finds before it decides: the images, and what the champion makes of new ones."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.errors import PipelineError, some
from pipeline.evaluation.retraining.changes import beyond
from pipeline.evaluation.retraining.decide import Decision, Findings, decide
from pipeline.evaluation.retraining.history import rows_of
from pipeline.evaluation.retraining.record import (
    CALLS_FILE,
    STRANGEST_FILE,
    Call,
    Changes,
    DriftReport,
    NoiseReport,
)
from pipeline.files import write_json
from pipeline.params import Params
from pipeline.runtime.registry.lookup import lookup_holder
from pipeline.runtime.retraining.records import KNOWN, Records
from pipeline.runtime.retraining.survey import Images, survey_images
from pipeline.runtime.tracking.store import shown, tracking_uri
from pipeline.vision.bundle.digest import values_digest

if TYPE_CHECKING:
    from pipeline.runtime.retraining.sight import Sight

_SHOWN = 10  # calls on the page
# No result depends on these sections.
_FREE = {"resources", "tracking", "retrain", "report"}


@dataclass(frozen=True)
class Places:
    """Where the workflow keeps what a call reads and leaves, relative to the current folder.

    Attributes:
        measurements: folder in which the stage index remembers them.
        seen: folder for what champions have seen.
        champions: folder for bundles of champions.
        shown: folder whose files the stage register puts on the page.
        index, split, register, evaluate: files of these stages.
        dvc_lock: copy of dvc.lock.
        images_seen: copy of the .dvc file of the images, as the call before saw it.
    """

    measurements: Path
    seen: Path
    champions: Path
    shown: Path
    index: Path
    split: Path
    register: Path
    evaluate: Path
    dvc_lock: Path
    images_seen: Path


@dataclass(frozen=True)
class Look:
    """What a call has found.

    Attributes:
        images: of now.
        before: those of the last training.
        drift, noise: None where they were not looked for.
        champion: its version, None without one.
        sections: digests of the sections of params.yaml on which results depend.
        notes: what could not be looked at, and why.
        strangest: thumbnails of the strangest images, as PNG; None without any.
    """

    images: Images
    before: pa.Table
    drift: DriftReport | None
    noise: NoiseReport | None
    champion: str | None
    sections: dict[str, str]
    notes: tuple[str, ...]
    strangest: bytes | None

    @property
    def changes(self) -> Changes:
        """What has changed since the last training."""
        return self.images.changes

    def decide(
        self, history: Sequence[Call], params: Params, accepted: Collection[str]
    ) -> Decision:
        """Decide by the rules what to do."""
        found = Findings(
            changes=self.changes,
            drift=self.drift,
            noise=self.noise,
            now=datetime.now(UTC),
            champion=self.champion is not None,
            sections=self.sections,
        )
        return decide(found, history, params.retrain, accepted)

    def beyond(self, offered: pa.Table) -> int:
        """Count the images that have changed since a person agreed to those `offered`."""
        return beyond(offered, self.before, self.images.index)

    def known_from_now_on(self, now: datetime) -> pa.Table:
        """Return the table of known images after a training."""
        return self.images.known_from_now_on(self.before, now)

    def lines(self) -> list[str]:
        """Describe it."""
        changes = self.changes
        counts = [
            f"{count} {kind}"
            for kind in ("new", "vanished", "moved", "relabelled", "conflicting", "unusable")
            if (count := getattr(changes, kind))
        ]
        found = [f"{changes.images} images, {', '.join(counts) or 'all of them known'}"]
        for kind, texts in changes.examples.items():
            if texts and kind != "new":
                found.append(f"  {kind}: {some(texts, 3)}")
        if self.drift:
            found.append(f"  drift: {_drift_line(self.drift)}")
        if self.noise:
            found.append(f"  labels: {_noise_line(self.noise)}")
        elif self.drift:
            found.append(
                f"  labels: none of {self.drift.new} new ones can be judged: the champion, or"
                " validation and test images, lack their classes"
            )
        return [*found, *(f"  {note}" for note in self.notes)]


def look(params: Params, places: Places, records: Records, history: Sequence[Call]) -> Look:
    """Look at the images; reads those that are new.

    Args:
        params: all of them.
        places: of the workflow.
        records: of the calls before.
        history: the calls before.

    Raises:
        PipelineError: images, store or champion cannot be had.
    """
    trained = [call for call in history if call.known]
    latest = trained[-1].known if trained else None
    before = records.known(latest) if latest else KNOWN.empty_table()
    images = survey_images(params, before, places.measurements)
    champion = _champion(params)
    drift = noise = strangest = None
    notes: tuple[str, ...] = ()
    if len(before) and images.new and champion:
        drift, noise, strangest, notes = _judge(params, places, images, before, trained)
    return Look(images, before, drift, noise, champion, _sections(params), notes, strangest)


def _judge(
    params: Params, places: Places, images: Images, before: pa.Table, trained: Sequence[Call]
) -> tuple[DriftReport | None, NoiseReport | None, bytes | None, tuple[str, ...]]:
    # Here, since torch and MLflow take seconds to import, and most calls find nothing new.
    from pipeline.runtime.registry.aliases import find_champion
    from pipeline.runtime.registry.versions import cached_bundle
    from pipeline.runtime.retraining.judgement import judge_new, reference_rows
    from pipeline.runtime.retraining.sight import Sight

    rules = params.register_
    champion = find_champion(params.tracking, rules.name, rules.alias)
    if champion is None or champion.bundle is None:
        return None, None, None, ("the champion was not registered by Convoy, and judges nothing",)
    bundle = cached_bundle(
        params.tracking, rules.name, champion.version, champion.bundle, places.champions
    )
    agreed = [call.begun for call in trained if "drift" in call.accepted]
    since = agreed[-1] if agreed else None
    reference = reference_rows(images, places.split, before, since)
    if not reference:
        return None, None, None, ("no validation or test images to compare new images with",)
    sight = Sight(bundle, images.source, places.seen)
    drift, noise = judge_new(images, reference, sight, params, since)
    return drift, noise, _draw(drift, images, sight), ()


def _draw(drift: DriftReport, images: Images, sight: "Sight") -> bytes:
    """Draw the strangest images, as PNG."""
    from pipeline.evaluation.plots import to_png
    from pipeline.evaluation.plots.drift import StrangeImage, draw_strangest

    contents = dict(
        zip(images.index["path"].to_pylist(), images.index["sha256"].to_pylist(), strict=True)
    )
    pixels = sight.pixels([(one.path, contents[one.path]) for one in drift.strangest])
    cells = [
        StrangeImage(image, one.path, one.label, one.predicted, one.strangeness)
        for one, image in zip(drift.strangest, pixels, strict=True)
    ]
    return to_png(draw_strangest(cells, drift.new))


def show_calls(places: Places, calls: Sequence[Call], found: Look | None) -> None:
    """Leave what the page shows: the latest calls, the history, and the strangest images."""
    from pipeline.evaluation.plots import save
    from pipeline.evaluation.plots.retraining import draw_history

    free = {"call": {"known", "sections"}}
    shown = [row.model_dump(mode="json", exclude=free) for row in rows_of(calls)[-_SHOWN:]]
    write_json(places.shown / CALLS_FILE, shown)
    save(draw_history(calls), places.shown / "history.png")
    if found and found.strangest:
        (places.shown / STRANGEST_FILE).write_bytes(found.strangest)


def _champion(params: Params) -> str | None:
    uri = tracking_uri(params.tracking)
    try:
        return lookup_holder(uri, params.register_.name, params.register_.alias)
    except LookupError as error:
        raise PipelineError(
            f"the MLflow store at {shown(uri)} does not answer, so that nobody knows the"
            f" {params.register_.alias}; start it, or correct tracking.uri"
        ) from error


def _sections(params: Params) -> dict[str, str]:
    dumped = params.model_dump(mode="json", by_alias=True, exclude=_FREE)
    return {name: values_digest(section)[:16] for name, section in dumped.items()}


def _noise_line(noise: NoiseReport) -> str:
    line = (
        f"{noise.suspects} of {noise.new} new ones look wrong to the champion, {noise.expected:.1f}"
        " are expected"
    )
    if noise.unjudged:
        line += f"; {noise.unjudged} more cannot be judged, for their classes are too new"
    return line


def _drift_line(drift: DriftReport) -> str:
    if drift.classifier_p is None:
        return f"too few images to compare ({drift.new} new, {drift.reference} others)"
    alarm = "an alarm" if drift.drifted else "no alarm"
    return (
        f"{alarm} for {drift.new} new images beside {drift.reference} of validation and test:"
        f" classifier p = {drift.classifier_p:.2g} (AUC {drift.auc:.2f}), kernel p ="
        f" {drift.kernel_p:.2g}, predicted classes p = {drift.class_p:.2g}"
    )
