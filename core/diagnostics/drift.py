"""Has the world moved? Current records against a reference: what changed, by how much, beyond what chance gives.

The verdict knows its n: under 50 records or 25 recordings on either side it is ``not_enough_data``; under 200 or 100
it is marked ``indicative``; from there on it is ``drift`` or ``no_drift``. Tests that can raise an alarm, and how often
each may without drift: all descriptors together 5 % (Kolmogorov–Smirnov, Holm; in truth 2 to 3 %, since descriptors
hang together and the effect must be large too), confidence, class mix, embedding, unknown rate and silence 0.5 % each.
``tests/simulate_drift.py`` measures the whole: false alarms and power. Clips cut from one recording are no independent
evidence, so every test takes records for as many as they are worth (``design_effect``), and embeddings trade places by
whole recordings.

The reference is held-out clips: what a model was fitted on looks unlike anything new. Held-out clips of different
folds were answered by different networks, and the prediction log by yet another one. Embeddings of different networks
have nothing in common, so they are compared only where the same networks answered both sides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import fisher_exact

from core.descriptors import NAMES
from core.diagnostics import design_effect
from core.diagnostics.causes import UNITS, causes_in_words
from core.diagnostics.comparability import (
    FEW,
    comparable_answers,
    networks,
    on_one_scale,
    said_of_answers,
    trained_on,
)
from core.diagnostics.design_effect import Recordings, recordings_of
from core.diagnostics.drift_report import (
    CERTAIN,
    CERTAIN_RECORDINGS,
    ENOUGH,
    ENOUGH_RECORDINGS,
    AccuracyEstimate,
    ClassDrift,
    ClassShare,
    DriftReport,
    EmbeddingDrift,
    FeatureDrift,
    RateDrift,
    Verdict,
)
from core.diagnostics.two_sample import (
    PERMUTATIONS,
    ShiftNull,
    class_mix,
    holm,
    ks_p,
    mmd_test,
)
from core.recordset import RecordSet

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
ALPHA = 0.05  # of the descriptors together
OTHER_SHARE = 0.1  # of ALPHA, for each of the other tests
LARGE_EFFECT = 0.2  # standard deviations; a smaller shift is real perhaps, and harmless
LARGE_RATE = 0.05  # change of a share of records
KERNEL_PERMUTATIONS = 400  # so that p can fall under half a percent
CBPE = (
    "Holds where the sounds changed but not what they are called, and where confidence is still calibrated. "
    "A model that is sure of the wrong answer is taken at its word."
)


def compare(
    reference: RecordSet,
    current: RecordSet,
    *,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
    alpha: float = ALPHA,
    with_embedding: bool = True,
) -> DriftReport:
    """Test ``current`` against ``reference``, either of any size. Several seeds' answers to a clip count once."""
    reference, current = one_row_a_clip(reference), one_row_a_clip(current)
    notes = [*_prefixed("reference", reference.notes), *_prefixed("current", current.notes)]
    recordings = recordings_of(reference, current)
    null = ShiftNull(rng=rng, permutations=permutations)
    features, not_compared = _descriptors(reference, current, recordings, null, alpha=alpha)
    other = alpha * OTHER_SHARE
    why_not, heard = comparable_answers(reference, current)
    answered = current if heard is None else current.take(~heard)
    pair = on_one_scale(reference, answered)
    of_answered = recordings if heard is None else recordings.where(slice(None), ~heard)
    confidence = None if why_not else _confidence(*pair, of_answered, null, alpha=other)
    fitted = all(len(side) and trained_on(side).all() for side in (reference, current))
    classes = _classes(reference, current, recordings, why_not, rng=rng, alpha=other)
    unknown = _unknown(reference, answered, of_answered, why_not, alpha=other)
    silent = _silent(reference, current, recordings, alpha=other)
    embedding = no_embedding("not asked for")
    if with_embedding:
        most = max(permutations, KERNEL_PERMUTATIONS)
        embedding = _embedding(reference, current, recordings, rng=rng, permutations=most, alpha=other)
    flags = [feature.flag for feature in features]
    flags += [confidence is not None and confidence.flag, classes.flag, unknown.flag, silent.flag, embedding.flag]
    n_records, n_recordings = (len(reference), len(current)), recordings.counts
    verdict = _verdict(min(n_records), min(n_recordings), any(flags))
    if not (features or confidence) and all((classes.reason, unknown.reason, silent.reason, embedding.reason)):
        verdict = "not_enough_data"  # however many there are, nothing of theirs could be compared
    causes = causes_in_words(features, confidence, classes, embedding, unknown, silent)
    return DriftReport(
        n_reference=n_records[0],
        n_current=n_records[1],
        n_reference_recordings=n_recordings[0],
        n_current_recordings=n_recordings[1],
        verdict=verdict,
        indicative=verdict != "not_enough_data"
        and (min(n_records) < CERTAIN or min(n_recordings) < CERTAIN_RECORDINGS),
        causes=causes if verdict == "drift" else (),
        features=tuple(features),
        confidence=confidence,
        classes=classes,
        embedding=embedding,
        unknown=unknown,
        silent=silent,
        accuracy_estimate=None if why_not or fitted else _accuracy(*pair, of_answered),
        permutations=permutations,
        alpha=alpha,
        notes=(
            *notes,
            *not_compared,
            *said_of_answers(why_not, heard, fitted),
            *_not_told(reference, current, recordings),
        ),
    )


def one_row_a_clip(records: RecordSet) -> RecordSet:
    """The first seed's answer to each clip: several networks that heard one sound are one piece of evidence."""
    seeds = records.table["seed"].to_numpy()
    if len(np.unique(seeds)) < 2:
        return records
    order = np.argsort(seeds, kind="stable")
    first = order[~records.table["clip_id"].iloc[order].duplicated().to_numpy()]
    return records.take(np.sort(first))


def _prefixed(side: str, notes: Sequence[str]) -> Iterator[str]:
    return (f"{side}: {note}" for note in notes)


def _not_told(reference: RecordSet, current: RecordSet, recordings: Recordings) -> Iterator[str]:
    """Where one name stands for all recordings."""
    if recordings.alone and min(len(reference), len(current)) > 1 and reference.table["source_group"].nunique() == 1:
        yield (
            "every record of both sides names the same recording, which tells nothing: each is taken for evidence of "
            "its own. Where sounds hang together, the verdict is less sure than its n says."
        )


def _verdict(n_records: int, n_recordings: int, flagged: bool) -> Verdict:
    """Of the shorter side."""
    if n_records < ENOUGH or n_recordings < ENOUGH_RECORDINGS:
        return "not_enough_data"
    return "drift" if flagged else "no_drift"


def _descriptors(
    reference: RecordSet, current: RecordSet, recordings: Recordings, null: ShiftNull, *, alpha: float
) -> tuple[list[FeatureDrift], list[str]]:
    """Every descriptor that both sides have; and which have none, in words."""
    compared, absent = [], []
    for name in NAMES:
        values = [_values(records, name) for records in (reference, current)]
        finite = [np.isfinite(column) for column in values]
        a, b = (column[kept] for column, kept in zip(values, finite, strict=True))
        if len(a) >= FEW and len(b) >= FEW:
            compared.append(_compare_feature(name, a, b, recordings.where(finite[0], finite[1]), null))
        else:
            absent.append(name)
    adjusted = holm(np.array([feature.p for feature in compared]))
    features = [
        replace(feature, p_adjusted=float(p), flag=bool(p < alpha and _is_large(feature)))
        for feature, p in zip(compared, adjusted, strict=True)
    ]
    notes = [f"not compared, too few values on one side: {', '.join(absent)}"] if absent else []
    return features, notes


def finite_values(records: RecordSet, name: str) -> Floats:
    """The finite values of a column; none where there is no such column."""
    values = _values(records, name)
    return np.asarray(values[np.isfinite(values)])


def _values(records: RecordSet, name: str) -> Floats:
    """One number a record (N,), nan where it is none."""
    if name == "confidence":
        return records.confidence
    if name not in records.table:
        return np.full(len(records), math.nan)
    return pd.to_numeric(records.table[name], errors="coerce").to_numpy(dtype=np.float64)


def _compare_feature(
    name: str, reference: Floats, current: Floats, recordings: Recordings, null: ShiftNull
) -> FeatureDrift:
    worth = design_effect.of_distributions(reference, current, recordings)
    reference, current = np.sort(reference), np.sort(current)  # once for all that sort
    found = null.effects(reference, current, worth)
    p = ks_p(found.ks, reference, current, worth)
    middle = float(np.median(reference)), float(np.median(current))
    return FeatureDrift(
        name=name,
        unit=UNITS[name],
        n_reference=len(reference),
        n_current=len(current),
        statistic=found.ks,
        p=p,
        p_adjusted=p,
        effect=found.shift,
        null_95=found.shift_null_95,
        psi=found.psi,
        psi_null_95=found.psi_null_95,
        median_reference=middle[0],
        median_current=middle[1],
        median_shift=middle[1] - middle[0],
        design_effect=worth,
        flag=False,
    )


def _is_large(feature: FeatureDrift) -> bool:
    return feature.effect > max(LARGE_EFFECT, feature.null_95)


def _confidence(
    reference: RecordSet, current: RecordSet, recordings: Recordings, null: ShiftNull, *, alpha: float
) -> FeatureDrift | None:
    if min(len(reference), len(current)) < FEW:
        return None
    found = _compare_feature("confidence", reference.confidence, current.confidence, recordings, null)
    return replace(found, flag=bool(found.p < alpha and _is_large(found)))


def _classes(
    reference: RecordSet,
    current: RecordSet,
    recordings: Recordings,
    why_not: str,
    *,
    rng: np.random.Generator,
    alpha: float,
) -> ClassDrift:
    names = (*reference.class_names, *(name for name in current.class_names if name not in reference.class_names))
    answers = [_answers(records, names) for records in (reference, current)]
    counts = [np.bincount(answer, minlength=len(names))[: len(reference.class_names)] for answer in answers]
    shares = tuple(
        ClassShare(name, float(a), float(b))
        for name, a, b in zip(reference.class_names, *(count / max(count.sum(), 1) for count in counts), strict=True)
    )
    if why_not or not all(count.sum() for count in counts):
        reason = why_not or "one side has no records"
        return ClassDrift("", math.nan, math.nan, math.nan, math.nan, False, shares, reason)
    worth = design_effect.worth_of_mixes(answers[0], answers[1], len(names), recordings)
    test = class_mix(*counts, rng=rng, worth=worth)
    flag = test.p < alpha and test.distance > max(LARGE_RATE, test.distance_null_95)
    return ClassDrift(test.method, test.statistic, test.p, test.distance, test.distance_null_95, bool(flag), shares)


def _answers(records: RecordSet, names: Sequence[str]) -> NDArray[np.int64]:
    """Position in ``names`` of each record's answer (N,)."""
    place = {name: position for position, name in enumerate(names)}
    return np.array([place[name] for name in records.class_names], dtype=np.int64)[records.predicted]


def _rate(reference: Flags, current: Flags, recordings: Recordings, *, alpha: float) -> RateDrift:
    """Two arrays of flags, neither empty."""
    rates = float(reference.mean()), float(current.mean())
    worth = design_effect.worth_of_rates(recordings)
    table = [[round(rate * n), round(n) - round(rate * n)] for rate, n in zip(rates, worth, strict=True)]
    p = float(fisher_exact(table).pvalue)
    return RateDrift(*rates, p, bool(p < alpha and abs(rates[1] - rates[0]) > LARGE_RATE))


def _unknown(
    reference: RecordSet, current: RecordSet, recordings: Recordings, why_not: str, *, alpha: float
) -> RateDrift:
    told = [_told(records) for records in (reference, current)]
    flags = [
        records.table["unknown"][known].astype(bool).to_numpy() if known.any() else known[:0]
        for records, known in zip((reference, current), told, strict=True)
    ]
    rates = [float(flag.mean()) if len(flag) else math.nan for flag in flags]
    if why_not or not all(len(flag) for flag in flags):
        reason = why_not or "one side does not say which sounds are unknown"
        return RateDrift(rates[0], rates[1], math.nan, False, reason)
    return _rate(flags[0], flags[1], recordings.where(told[0], told[1]), alpha=alpha)


def _told(records: RecordSet) -> Flags:
    """Which records say whether their sound is unknown."""
    if "unknown" not in records.table:
        return np.zeros(len(records), dtype=bool)
    return records.table["unknown"].notna().to_numpy(dtype=bool)


def _silent(reference: RecordSet, current: RecordSet, recordings: Recordings, *, alpha: float) -> RateDrift:
    """Of digital silence no descriptor is defined but how much of it is active; where some sounds have any."""
    sides = [_heard(records) for records in (reference, current) if "rms_dbfs" in records.table]
    if len(sides) < 2 or not all(len(side) for side in sides):
        return RateDrift(math.nan, math.nan, math.nan, False, "one side has no levels")
    silent = [~side for side in sides]
    if silent[1].all() and finite_values(current, "active_fraction").size == 0:
        return RateDrift(math.nan, math.nan, math.nan, False, "one side has no levels")
    return _rate(silent[0], silent[1], recordings, alpha=alpha)


def _heard(records: RecordSet) -> Flags:
    """Which records (N,) have a descriptor beside the active fraction: a level alone may be missing otherwise."""
    known = [name for name in NAMES if name != "active_fraction" and name in records.table]
    return np.asarray(np.isfinite([_values(records, name) for name in known]).any(axis=0))


def no_embedding(reason: str) -> EmbeddingDrift:
    return EmbeddingDrift(math.nan, math.nan, math.nan, False, 0, 0, reason)


def _embedding(
    reference: RecordSet,
    current: RecordSet,
    recordings: Recordings,
    *,
    rng: np.random.Generator,
    permutations: int,
    alpha: float,
) -> EmbeddingDrift:
    finite = [_finite_embedding(records) for records in (reference, current)]
    a, b = (
        records if kept.all() else records.take(kept)
        for records, kept in zip((reference, current), finite, strict=True)
    )
    reason, strata = networks(a, b)
    if reason or a.embedding is None or b.embedding is None:
        return no_embedding(reason)
    of = recordings.where(finite[0], finite[1])
    test = mmd_test(
        a.embedding,
        b.embedding,
        rng=rng,
        permutations=permutations,
        strata=strata,
        groups=None if of.alone else (of.reference, of.current),
    )
    flag = test.p < alpha and test.mmd2 > test.null_95
    return EmbeddingDrift(test.mmd2, test.p, test.null_95, bool(flag), test.n_reference, test.n_current)


def _finite_embedding(records: RecordSet) -> Flags:
    if records.embedding is None:
        return np.ones(len(records), dtype=bool)
    return np.asarray(np.isfinite(records.embedding).all(axis=1))


def _accuracy(reference: RecordSet, current: RecordSet, recordings: Recordings) -> AccuracyEstimate | None:
    """Mean calibrated top probability, and how far the share of right answers may stray from it by chance.

    No label tells how a recording's answers hang together, so they are taken to be right or wrong together.
    """
    n = len(current)
    if n == 0:
        return None
    p = current.confidence
    of_recording = np.bincount(recordings.current, weights=np.sqrt(p * (1 - p)))
    value, spread = float(p.mean()), 1.96 * math.sqrt(float(np.square(of_recording).sum())) / n
    known = current.is_labelled
    return AccuracyEstimate(
        value=value,
        low=max(0.0, value - spread),
        high=min(1.0, value + spread),
        n=n,
        reference_value=float(reference.confidence.mean()) if len(reference) else math.nan,
        reference_accuracy=_share_right(reference),
        labelled_accuracy=_share_right(current),
        n_labelled=int(known.sum()),
        validity=CBPE,
    )


def _share_right(records: RecordSet) -> float:
    known = records.is_labelled
    return float(records.correct[known].mean()) if known.any() else math.nan
