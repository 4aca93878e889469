"""What a drift comparison found: one frozen type that pages, JSON and Tableau read."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pandas as pd

from core.shares import in_percent

Verdict = Literal["not_enough_data", "no_drift", "drift"]
ENOUGH, CERTAIN = 50, 200  # records: none under the first is judged, from the second on the verdict is a verdict
ENOUGH_RECORDINGS, CERTAIN_RECORDINGS = 25, 100  # and how many recordings these must be of


@dataclass(frozen=True)
class FeatureDrift:
    """One number of every sound, compared.

    ``statistic`` and ``p`` are the two-sample Kolmogorov–Smirnov test's; ``p_adjusted`` is Holm's over all features.
    ``effect`` is the Wasserstein distance over the reference's standard deviation, ``null_95`` what chance alone stays
    under at these n 95 times in 100. ``median_shift`` has the feature's own unit. ``design_effect``: how many records
    say as much as an independent one would, since clips of one recording are alike. Undefined numbers are nan.
    """

    name: str
    unit: str
    n_reference: int
    n_current: int
    statistic: float
    p: float
    p_adjusted: float
    effect: float
    null_95: float
    psi: float
    psi_null_95: float
    median_reference: float
    median_current: float
    median_shift: float
    design_effect: float
    flag: bool


@dataclass(frozen=True)
class ClassShare:
    name: str
    reference: float
    current: float


@dataclass(frozen=True)
class ClassDrift:
    """Mix of predicted classes. ``distance`` (L∞): the largest change of a share. ``reason``: why not compared."""

    method: str
    statistic: float
    p: float
    distance: float
    null_95: float
    flag: bool
    shares: tuple[ClassShare, ...]
    reason: str = ""


@dataclass(frozen=True)
class EmbeddingDrift:
    """``mmd`` is the unbiased squared maximum mean discrepancy. ``reason`` says why it was not computed, where nan."""

    mmd: float
    p: float
    null_95: float
    flag: bool
    n_reference: int
    n_current: int
    reason: str = ""


@dataclass(frozen=True)
class RateDrift:
    """A share of records on both sides; ``p`` is Fisher's exact test."""

    reference: float
    current: float
    p: float
    flag: bool
    reason: str = ""


@dataclass(frozen=True)
class AccuracyEstimate:
    """Accuracy without labels: the mean calibrated top probability of the current records, with a 95 % interval.

    The interval takes the clips of one recording to be right or wrong together.

    ``reference_accuracy`` is measured, ``labelled_accuracy`` too, on the ``n_labelled`` current records that someone
    labelled. ``validity`` says when the estimate holds.
    """

    value: float
    low: float
    high: float
    n: int
    reference_value: float
    reference_accuracy: float
    labelled_accuracy: float
    n_labelled: int
    validity: str


@dataclass(frozen=True)
class DriftReport:
    """``verdict`` is for machines; ``indicative`` says that few records carry it; ``causes`` are words."""

    n_reference: int
    n_current: int
    n_reference_recordings: int
    n_current_recordings: int
    verdict: Verdict
    indicative: bool
    causes: tuple[str, ...]
    features: tuple[FeatureDrift, ...]
    confidence: FeatureDrift | None
    classes: ClassDrift
    embedding: EmbeddingDrift
    unknown: RateDrift
    silent: RateDrift
    accuracy_estimate: AccuracyEstimate | None
    permutations: int
    alpha: float
    notes: tuple[str, ...]

    def headline(self) -> str:
        """The verdict as a sentence, with its n."""
        of = (
            (self.n_current, self.n_current_recordings, "current"),
            (
                self.n_reference,
                self.n_reference_recordings,
                "reference",
            ),
        )
        if self.verdict == "not_enough_data":
            short, recordings, side = min(of)
            if short < ENOUGH:
                records = f"{short:,} {side} record{'s' * (short != 1)}"
                return f"Not enough data: {records}, at least {ENOUGH} are needed for a verdict."
            short, recordings, side = min(of, key=lambda given: given[1])
            if recordings >= ENOUGH_RECORDINGS:
                return (
                    f"Nothing to compare: {self.n_current:,} current records and {self.n_reference:,} have no "
                    "descriptor, no embedding and no classes in common."
                )
            return (
                f"Not enough data: {short:,} {side} records are of {recordings:,} recording{'s' * (recordings != 1)}, "
                f"at least {ENOUGH_RECORDINGS} are needed for a verdict."
            )
        found = "Drift" if self.verdict == "drift" else "No drift found"
        few = f"{CERTAIN} records" if min(of)[0] < CERTAIN else f"{CERTAIN_RECORDINGS} recordings"
        sure = f"Indicative only, under {few}: " if self.indicative else ""
        text = f"{found}, {self.n_current:,} current records against {self.n_reference:,}"
        if any(recordings < n for n, recordings, _ in of):
            text += f", of {self.n_current_recordings:,} and {self.n_reference_recordings:,} recordings"
        return f"{sure}{text[0].lower() + text[1:] if sure else text}."

    def in_words(self) -> str:
        """Verdict, causes and every test, for a terminal."""
        lines = [self.headline(), *(f"  - {cause}" for cause in self.causes), ""]
        lines.append(f"  {'':24}{'KS':>6}{'p':>9}{'Holm p':>9}{'effect':>8}{'chance':>8}{'PSI':>7}   median")
        for row in self.features:
            lines.append(
                f"{'*' if row.flag else ' '} {row.name:24}{row.statistic:6.2f}{row.p:9.2g}{row.p_adjusted:9.2g}"
                f"{row.effect:8.2f}{row.null_95:8.2f}{row.psi:7.2f}   {row.median_reference:.4g} → "
                f"{row.median_current:.4g} {row.unit}"
            )
        lines += ["", "  * flagged: Holm p under 0.05 and an effect over 0.2 sd and over what chance gives", ""]
        lines += [f"  {name}: {said}" for name, said in self._other_tests()]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _other_tests(self) -> list[tuple[str, str]]:
        tests = [
            (row.name, f"KS {row.statistic:.2f}, p {row.p:.2g}, effect {row.effect:.2f} sd{_mark(row.flag)}")
            for row in ([self.confidence] if self.confidence else [])
        ]
        mix, rate, far = self.classes, self.unknown, self.embedding
        of_mix = f"{mix.method}, p {mix.p:.2g}, largest change of a share {in_percent(mix.distance)}{_mark(mix.flag)}"
        tests.append(("predicted classes", mix.reason or of_mix))
        tests.append(("embedding", far.reason or f"MMD² {far.mmd:.2g}, p {far.p:.2g}{_mark(far.flag)}"))
        of_rate = f"{in_percent(rate.current)} against {in_percent(rate.reference)}, p {rate.p:.2g}{_mark(rate.flag)}"
        tests.append(("unknown sounds", rate.reason or of_rate))
        if (estimate := self.accuracy_estimate) is not None:
            span = f"{in_percent(estimate.low)} to {in_percent(estimate.high)}, n = {estimate.n:,}"
            tests.append(("estimated accuracy", f"{in_percent(estimate.value)} ({span}). {estimate.validity}"))
        return tests

    def table(self) -> pd.DataFrame:
        """One row a feature, the fields of ``FeatureDrift``; confidence last where it was compared."""
        rows = [*self.features, *([self.confidence] if self.confidence else [])]
        return pd.DataFrame([asdict(row) for row in rows], columns=list(FeatureDrift.__dataclass_fields__))

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON; undefined numbers are null."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def _mark(flag: bool) -> str:
    return ", flagged" if flag else ""


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
