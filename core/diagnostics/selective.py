"""What is gained by answering only when sure: risk against coverage, thresholds for a wanted precision, tiers.

An answer is accepted where its confidence is at or above a threshold. Coverage is the share accepted, risk the share of
wrong answers among them. Answers of equal confidence are accepted together; between them the curve is what a random
order gives on average, so that no number depends on the order of the records.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import digamma

from core.diagnostics.intervals import (
    DRAWS,
    LEAST_BLOCKS,
    Estimate,
    blocks_of,
    exact,
    percentiles,
    resamples,
    share,
    wilson,
)
from core.recordset import RecordSet

Floats = NDArray[np.float64]
CURVE_COLUMNS = ("threshold", "coverage", "n", "risk", "low", "high")
THRESHOLD_COLUMNS = (
    "target",
    "threshold",
    "n",
    "coverage",
    "precision",
    "low",
    "high",
    "held_out_n",
    "held_out_coverage",
    "held_out_precision",
)
TIER_COLUMNS = ("low", "high", "n", "share", "precision", "precision_low", "precision_high")
ESTIMATED = ("aurc", "augrc", "cov_at_risk", "risk_at_cov")
TARGETS = (0.85, 0.90, 0.95, 0.99)
TIERS = (1.0, 0.9, 0.7, 0.5, 0.0)
RISK, COVERAGE = 0.05, 0.80
POINTS = 400  # of a curve that is drawn or resampled


@dataclass(frozen=True)
class Selection:
    """``aurc``: mean risk over all coverages (Geifman & El-Yaniv 2017); ``augrc``: mean share of all clips that are
    accepted and wrong (Traub et al. 2024). ``aurc_best``: if every right answer were surer than every wrong one;
    ``aurc_random``: if confidence said nothing. ``cov_at_risk``: largest coverage with risk ≤ 5 %; ``risk_at_cov``:
    risk where 80 % are accepted.
    """

    n: int
    aurc: Estimate
    aurc_best: float
    aurc_random: float
    augrc: Estimate
    cov_at_risk: Estimate
    risk_at_cov: Estimate

    @property
    def estimates(self) -> dict[str, Estimate]:
        """Those with an interval, by name."""
        return {name: getattr(self, name) for name in ESTIMATED}


@dataclass(frozen=True)
class Acceptance:
    """What a threshold does to ``n`` answers. ``lost``: right answers given up; ``avoided``: wrong ones."""

    n: int
    accepted: int
    coverage: float
    precision: Estimate
    wrong: int
    avoided: int
    lost: int


def selection(records: RecordSet, *, seed: int = 0, draws: int = DRAWS) -> Selection:
    """Every number of the risk–coverage curve, as means over seeds; intervals resample source recordings.

    There is none for fewer than ``LEAST_BLOCKS`` recordings, nor where every resample gives the same, as with no error.
    """
    known = records.labelled()
    parts = list(known.by_seed().values()) if len(known) else []
    measured = [_measured(*_steps(part.confidence, ~part.correct)[:2]) for part in parts]
    means = np.mean(measured, axis=0) if measured else np.full(len(ESTIMATED), np.nan)
    low, high = _bounds(known, seed=seed, draws=draws)
    of = {
        name: Estimate(float(value), float(np.minimum(below, value)), float(np.maximum(above, value)), known.n_clips)
        for name, value, below, above in zip(ESTIMATED, means, low, high, strict=True)
    }
    best = [_best(~part.correct) for part in parts]
    chance = [float((~part.correct).mean()) for part in parts]
    return Selection(
        n=known.n_clips,
        aurc_best=float(np.mean(best)) if best else math.nan,
        aurc_random=float(np.mean(chance)) if chance else math.nan,
        **of,
    )


def _best(wrong: NDArray[np.bool_]) -> float:
    """AURC if every right answer were surer than every wrong one."""
    rank = np.arange(1, wrong.size + 1)
    return float((np.maximum(rank - (wrong.size - int(wrong.sum())), 0) / rank).mean())


def _measured(accepted: NDArray[np.generic], errors: NDArray[np.generic]) -> Floats:
    """``ESTIMATED`` of curves given by their steps along the last axis, which may accept nothing: (…, 4).

    Between A₀ and A₁ accepted answers the errors grow evenly by s each: their risks add up to
    s·(A₁ − A₀) + (E₀ − s·A₀)·(H(A₁) − H(A₀)), H the harmonic numbers.
    """
    a1, e1 = np.asarray(accepted, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    a0, e0 = (np.concatenate([np.zeros((*x.shape[:-1], 1)), x[..., :-1]], axis=-1) for x in (a1, e1))
    n, gained = a1[..., -1], a1 - a0
    slope = np.divide(e1 - e0, gained, out=np.zeros_like(gained), where=gained > 0)
    risks = slope * gained + (e0 - slope * a0) * (digamma(a1 + 1) - digamma(a0 + 1))
    generalised = ((e0 + e1) / 2 * gained).sum(axis=-1) / n**2
    coverage = np.where((e1 <= RISK * a1) & (gained > 0), a1, 0).max(axis=-1) / n
    at = np.ceil(COVERAGE * n - 1e-9)[..., None]
    reached = (a0 < at) & (at <= a1)
    risk = np.where(reached, e0 + slope * (at - a0), 0).sum(axis=-1) / at[..., 0]
    return np.stack([risks.sum(axis=-1) / n, generalised, coverage, risk], axis=-1)


def _bounds(known: RecordSet, *, seed: int, draws: int) -> tuple[Floats, Floats]:
    """95 % bounds of ``ESTIMATED``; nan where there are none."""
    nothing = np.full(len(ESTIMATED), np.nan)
    if known.table["source_group"].nunique() < LEAST_BLOCKS:
        return nothing, nothing
    rng = np.random.default_rng([seed, 2])
    block = blocks_of(known.table["source_group"], rng=rng)
    blocks = int(block.max()) + 1
    weights = resamples(blocks, rng=rng, draws=draws)
    seeds = known.table["seed"].to_numpy()
    drawn = np.mean(
        [_resampled(part, block[seeds == number], weights) for number, part in known.by_seed().items()], axis=0
    )
    low, high = percentiles(drawn)
    flat = ~(high > low)
    return np.where(flat, np.nan, low), np.where(flat, np.nan, high)


def _resampled(part: RecordSet, block: NDArray[np.int64], weights: Floats) -> Floats:
    """``ESTIMATED`` in every bootstrap sample: (draws, 4)."""
    blocks, order = weights.shape[1], np.argsort(-part.confidence, kind="stable")
    wrong, block = ~part.correct[order], block[order]
    ends = _ordered_steps(part.confidence[order], wrong)[0]
    if ends.size > POINTS:
        ends = ends[np.unique(np.searchsorted(ends, np.linspace(1, len(part), POINTS)))]
    step = np.searchsorted(ends, np.arange(1, len(part) + 1))
    place = block * ends.size + step
    taken = np.bincount(place, minlength=blocks * ends.size).reshape(blocks, -1)
    missed = np.bincount(place[wrong], minlength=blocks * ends.size).reshape(blocks, -1)
    return _measured(np.cumsum(weights @ taken, axis=1), np.cumsum(weights @ missed, axis=1))


def _steps(confidence: Floats, wrong: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """At every different confidence, from the highest: how many are accepted, how many of these are wrong, and it."""
    order = np.argsort(-confidence, kind="stable")
    return _ordered_steps(confidence[order], wrong[order])


def _ordered_steps(ordered: Floats, wrong: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """The same for confidences that fall."""
    last = np.flatnonzero(np.r_[np.diff(ordered) != 0, True]) if ordered.size else np.zeros(0, dtype=np.int64)
    return last + 1, np.cumsum(wrong, dtype=np.int64)[last], ordered[last]


def risk_coverage_table(records: RecordSet, *, points: int = POINTS) -> pd.DataFrame:
    """The curve at ``points`` thresholds or fewer, ``CURVE_COLUMNS``; Wilson's interval at the number of clips.

    Where several networks answer for each clip, their answers are pooled and ``n`` counts answers.
    """
    known = records.labelled()
    accepted, errors, threshold = _steps(known.confidence, ~known.correct)
    wanted = np.searchsorted(accepted, np.linspace(1, max(len(known), 1), points)) if accepted.size else np.zeros(0)
    chosen = np.unique(np.minimum(wanted, max(accepted.size - 1, 0)).astype(np.int64))
    n, wrong = accepted[chosen], errors[chosen]
    per_clip = _answers_per_clip(known)
    low, high = wilson(wrong / per_clip, n / per_clip)
    columns = (threshold[chosen], n / max(len(known), 1), n, wrong / np.maximum(n, 1), low, high)
    return pd.DataFrame(dict(zip(CURVE_COLUMNS, columns, strict=True)))


def threshold_for(confidence: Floats, correct: NDArray[np.bool_], target: float) -> float:
    """The lowest threshold at which ``target`` of the accepted answers are right; 0 where all may be accepted.

    nan where no threshold reaches it.
    """
    return _threshold(_steps(confidence, ~correct), target)


def _threshold(steps: tuple[NDArray[np.int64], NDArray[np.int64], Floats], target: float) -> float:
    accepted, errors, thresholds = steps
    reached = np.flatnonzero(accepted - errors >= target * accepted - 1e-9)
    if not reached.size:
        return math.nan
    return 0.0 if reached[-1] == accepted.size - 1 else float(thresholds[reached[-1]])


def threshold_table(records: RecordSet, *, targets: Sequence[float] = TARGETS) -> pd.DataFrame:
    """One row a wanted precision, ``THRESHOLD_COLUMNS``; nan where no threshold reaches it.

    The threshold is chosen on all records, which flatters its ``precision`` a little. ``held_out_…``: each fold is
    accepted by the threshold of the other folds, which does not. ``n`` counts answers, exact intervals count clips.
    """
    known = records.labelled()
    order = np.argsort(-known.confidence, kind="stable")
    sure, right = known.confidence[order], known.correct[order]
    folds = known.table["fold"].to_numpy()[order]
    outside = {fold: folds != fold for fold in np.unique(folds)}
    steps = {fold: _ordered_steps(sure[others], ~right[others]) for fold, others in outside.items()}
    whole, rows = _ordered_steps(sure, ~right), []
    for target in targets:
        threshold = _threshold(whole, target)
        held_out = np.zeros(len(known), dtype=bool)
        if len(outside) > 1 and not math.isnan(threshold):
            for fold, others in outside.items():
                held_out |= ~others & (sure >= _threshold(steps[fold], target))
        n, held = int((sure >= threshold).sum()), int(held_out.sum())  # none where nan
        tested = [held, held / len(known), float(right[held_out].mean())] if held else [0, math.nan, math.nan]
        rows.append((*_accepted(target, threshold, n, right[:n], len(known), _answers_per_clip(known)), *tested))
    return pd.DataFrame(rows, columns=list(THRESHOLD_COLUMNS))


def _accepted(
    target: float, threshold: float, n: int, right: NDArray[np.bool_], of: int, answers_per_clip: float
) -> tuple[float, ...]:
    """The columns of ``THRESHOLD_COLUMNS`` that are not held out."""
    precision = float(right.mean()) if n else math.nan
    low, high = exact(np.rint(right.sum() / answers_per_clip), np.rint(n / answers_per_clip))
    coverage = n / of if n else math.nan
    return target, threshold, n, coverage, precision, float(np.fmin(low, precision)), float(np.fmax(high, precision))


def _answers_per_clip(known: RecordSet) -> float:
    return max(len(known) / max(known.n_clips, 1), 1.0)


def class_thresholds(records: RecordSet, *, target: float = 0.95) -> pd.DataFrame:
    """The same for the answers that name each class: ``label`` and ``THRESHOLD_COLUMNS`` but the held-out ones."""
    known = records.labelled()
    order = np.lexsort((-known.confidence, known.predicted))
    ends = np.cumsum(np.bincount(known.predicted, minlength=len(known.class_names)))[:-1]
    parts = zip(
        known.class_names, np.split(known.confidence[order], ends), np.split(known.correct[order], ends), strict=True
    )
    per_clip, rows = _answers_per_clip(known), []
    for name, sure, right in parts:
        threshold = _threshold(_ordered_steps(sure, ~right), target)
        n = int((sure >= threshold).sum())
        rows.append((name, *_accepted(target, threshold, n, right[:n], sure.size, per_clip)))
    return pd.DataFrame(rows, columns=["label", *THRESHOLD_COLUMNS[:7]])


def confidence_tiers(records: RecordSet, *, edges: Sequence[float] = TIERS) -> pd.DataFrame:
    """How often answers of each range of confidence are right, the surest first, ``TIER_COLUMNS``. Ranges hold their
    lower edge. ``n`` counts answers, exact intervals count clips."""
    known = records.labelled()
    per_clip = _answers_per_clip(known)
    rows = []
    for high, low in pairwise(edges):
        within = (known.confidence >= low) & ((known.confidence < high) | (high == max(edges)))
        n, right = int(within.sum()), int(known.correct[within].sum())
        bounds = exact(np.rint(right / per_clip), np.rint(n / per_clip))
        precision = right / n if n else math.nan
        spread = (np.fmin(bounds[0], precision), np.fmax(bounds[1], precision))
        rows.append((low, high, n, n / max(len(known), 1), precision, *map(float, spread)))
    return pd.DataFrame(rows, columns=list(TIER_COLUMNS))


def acceptance(records: RecordSet, threshold: float) -> Acceptance:
    """What answering only at or above ``threshold`` gains and costs."""
    known = records.labelled()
    taken = known.confidence >= threshold
    accepted, right = int(taken.sum()), int((taken & known.correct).sum())
    all_right = int(known.correct.sum())
    per_clip = _answers_per_clip(known)
    return Acceptance(
        n=len(known),
        accepted=accepted,
        coverage=accepted / len(known) if len(known) else math.nan,
        precision=share(right / accepted if accepted else math.nan, round(accepted / per_clip)),
        wrong=accepted - right,
        avoided=len(known) - all_right - (accepted - right),
        lost=all_right - right,
    )
