"""How often the answers are right, where they are not, and what that is worth.

Several seeds answer for the same clips: their numbers are averaged and n counts clips. F1 = 2·TP / (true + predicted);
the macro average runs over classes that occur among true or predicted ones, as in scikit-learn and torchmetrics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

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
from core.errors import RecordsError
from core.families import by_family
from core.recordset import RecordSet

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
OTHER = "(other)"
MANY_CLASSES = 30  # above it a confusion matrix is not read, so it shows the most confused
MOST_CONFUSED = 20
FLIPS = 10_000
CLASS_COLUMNS = (
    "label",
    "n",
    "n_predicted",
    "precision",
    "precision_low",
    "precision_high",
    "recall",
    "recall_low",
    "recall_high",
    "f1",
    "f1_low",
    "f1_high",
)
FOLD_COLUMNS = ("fold", "n", "accuracy", "low", "high", "macro_f1")
CONFUSION_COLUMNS = ("true", "predicted", "n", "share", "of")
PAIR_COLUMNS = ("true", "predicted", "n", "of", "share", "low", "high", "back", "confidence")
CHANGE_COLUMNS = ("label", "n", "a", "b", "difference", "only_a", "only_b")


@dataclass(frozen=True)
class Performance:
    """``baseline`` always answers ``commonest``. ``bootstrap_*``: how the intervals of what is no share were made."""

    n: int
    seeds: int
    accuracy: Estimate
    accuracy_sd_over_seeds: float
    macro_f1: Estimate
    balanced_accuracy: Estimate
    baseline: Estimate
    commonest: str
    per_class: pd.DataFrame
    per_fold: pd.DataFrame
    bootstrap_draws: int
    bootstrap_seed: int
    sources: int


@dataclass(frozen=True)
class Comparison:
    """Two models on the clips that both answered. ``p``: chance of a difference as large if they were equally good.

    ``only_a`` and ``only_b`` count clips that one alone has right (means over seeds); ``test`` says how ``p`` was made.
    """

    n: int
    a: Estimate
    b: Estimate
    difference: Estimate
    only_a: float
    only_b: float
    p: float
    test: str
    per_class: pd.DataFrame


def performance(records: RecordSet, *, seed: int = 0, draws: int = DRAWS) -> Performance:
    """Every number of ``records`` whose true class is known. Wilson's intervals for shares; F1 resamples recordings."""
    known = records.labelled()
    parts = list(known.by_seed().values()) if len(known) else []
    counts = [confusion_counts(part.targets, part.predicted, len(part.class_names)) for part in parts]
    n, accuracies = known.n_clips, [float(part.correct.mean()) for part in parts]
    per_class, bounds, sources = _per_class(known, counts, seed=seed, draws=draws)
    accuracy = share(float(np.mean(accuracies)) if parts else math.nan, n)
    macro = float(np.mean([macro_f1(count) for count in counts])) if parts else math.nan
    true = counts[0].sum(axis=1) if parts else np.zeros(len(known.class_names))
    commonest = int(true.argmax())

    def mean_of_classes(value: float, low: float, high: float) -> Estimate:
        if sources >= LEAST_BLOCKS and not high > low:  # no error in any recording: a share bounds it as well
            low, high = (float(bound) for bound in exact(np.rint(accuracy.value * n), n))
        return Estimate(value, float(np.minimum(low, value)), float(np.maximum(high, value)), n)

    return Performance(
        n=n,
        seeds=len(parts),
        accuracy=accuracy,
        accuracy_sd_over_seeds=float(np.std(accuracies, ddof=1)) if len(parts) > 1 else math.nan,
        macro_f1=mean_of_classes(macro, *bounds.macro_f1),
        balanced_accuracy=mean_of_classes(float(per_class["recall"].mean()), *bounds.balanced_accuracy),
        baseline=share(float(true[commonest] / true.sum()) if parts else math.nan, n),
        commonest=known.class_names[commonest],
        per_class=per_class,
        per_fold=_per_fold(known),
        bootstrap_draws=draws,
        bootstrap_seed=seed,
        sources=sources,
    )


def confusion_counts(targets: Counts, predicted: Counts, classes: int) -> Counts:
    """(K, K): how often class i was answered with class j."""
    return np.bincount(targets * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def macro_f1(counts: Counts) -> float:
    """Of a (K, K) confusion; nan without records."""
    return float(_macro(np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)))


def _f1(right: Floats, true: Floats, predicted: Floats) -> Floats:
    total = true + predicted
    return np.divide(2 * right, total, out=np.full(np.shape(total), np.nan), where=total > 0)


def _macro(right: NDArray[np.generic], true: NDArray[np.generic], predicted: NDArray[np.generic]) -> Floats:
    f1 = _f1(np.asarray(right, dtype=np.float64), np.asarray(true, np.float64), np.asarray(predicted, np.float64))
    occurs = np.isfinite(f1)
    n = occurs.sum(axis=-1)
    return np.divide(np.where(occurs, f1, 0).sum(axis=-1), n, out=np.full(np.shape(n), np.nan), where=n > 0)


def _per_class(
    known: RecordSet, counts: Sequence[Counts], *, seed: int, draws: int
) -> tuple[pd.DataFrame, _Bounds, int]:
    """The table, the bootstrap bounds, and how many recordings there are."""
    names, seeds = list(known.class_names), max(len(counts), 1)
    total = np.sum(counts, axis=0) if counts else np.zeros((len(names), len(names)))
    right, true, predicted = (values / seeds for values in (np.diagonal(total), total.sum(axis=1), total.sum(axis=0)))
    table = pd.DataFrame({"label": names, "n": np.rint(true).astype(np.int64), "n_predicted": predicted})
    for measure, of in (("precision", predicted), ("recall", true)):
        table[measure] = np.divide(right, of, out=np.full(len(names), np.nan), where=of > 0)
        table[f"{measure}_low"], table[f"{measure}_high"] = wilson(right, of)
    table["f1"] = np.mean([_f1_of(count) for count in counts], axis=0) if counts else math.nan
    bounds, sources = _resampled(known, seed=seed, draws=draws)
    low, high = bounds.f1
    # Where no draw differs (every answer right, or too few recordings) the harmonic mean of the shares' bounds stands.
    flat = ~(high > low)
    bound_low, bound_high = (_harmonic(table[f"precision_{end}"], table[f"recall_{end}"]) for end in ("low", "high"))
    table["f1_low"] = np.fmin(np.where(flat, bound_low, low), table["f1"])
    table["f1_high"] = np.fmax(np.where(flat, bound_high, high), table["f1"])
    table.loc[table["f1"].isna(), ["f1_low", "f1_high"]] = math.nan
    return table[list(CLASS_COLUMNS)], bounds, sources


def _f1_of(count: Counts) -> Floats:
    return _f1(*(np.asarray(part, dtype=np.float64) for part in (np.diagonal(count), count.sum(1), count.sum(0))))


def _harmonic(a: pd.Series[float], b: pd.Series[float]) -> Floats:
    total = np.asarray(a + b)
    return np.divide(2 * np.asarray(a * b), total, out=np.full(len(total), np.nan), where=total > 0)


@dataclass(frozen=True)
class _Bounds:
    """Lower and upper ends of bootstrap intervals; nan with too few recordings. ``f1``: of every class."""

    f1: tuple[Floats, Floats]
    macro_f1: tuple[float, float] = (math.nan, math.nan)
    balanced_accuracy: tuple[float, float] = (math.nan, math.nan)


def _resampled(known: RecordSet, *, seed: int, draws: int) -> tuple[_Bounds, int]:
    """What resampling recordings gives, and how many there are."""
    classes = len(known.class_names)
    sources = int(known.table["source_group"].nunique())
    if sources < LEAST_BLOCKS:
        nothing = np.full(classes, np.nan)
        return _Bounds((nothing, nothing)), sources
    rng = np.random.default_rng(seed)
    block = blocks_of(known.table["source_group"], rng=rng)
    blocks = int(block.max()) + 1
    weights = resamples(blocks, rng=rng, draws=draws)
    f1, macro, balanced = np.zeros((draws, classes)), np.zeros(draws), np.zeros(draws)
    seeds = known.table["seed"].to_numpy()
    found = np.unique(seeds)
    for one in found:
        of = seeds == one
        target, answer, where = known.targets[of], known.predicted[of], block[of]
        hit = target == answer
        sums = [_by_block(where[hit], target[hit], blocks, classes)]
        sums += [_by_block(where, label, blocks, classes) for label in (target, answer)]
        right, true, predicted = (weights @ part for part in sums)
        f1 += _f1(right, true, predicted) / len(found)
        macro += _macro(right, true, predicted) / len(found)
        recall = np.divide(right, true, out=np.zeros_like(right), where=true > 0)
        balanced += recall.sum(axis=1) / np.maximum((true > 0).sum(axis=1), 1) / len(found)
    return _Bounds(percentiles(f1), _ends(macro), _ends(balanced)), sources


def _ends(resampled: Floats) -> tuple[float, float]:
    low, high = percentiles(resampled)
    return float(low), float(high)


def _by_block(block: Counts, label: Counts, blocks: int, classes: int) -> Floats:
    """How many records of each class each block holds: (blocks, K)."""
    counted = np.bincount(block * classes + label, minlength=blocks * classes)
    return counted.reshape(blocks, classes).astype(np.float64)


def _per_fold(known: RecordSet) -> pd.DataFrame:
    """One row a fold, ``FOLD_COLUMNS``: means over seeds, Wilson's interval at the number of clips."""
    table, classes = known.table, len(known.class_names)
    fold, seed = table["fold"].to_numpy(), table["seed"].to_numpy()
    seeds, rows = np.unique(seed), []
    for one in np.unique(fold).tolist():
        of = fold == one
        n = int(of.sum()) if len(seeds) == 1 else int(table["clip_id"][of].nunique())
        parts = [of & (seed == network) for network in seeds]
        counts = [confusion_counts(known.targets[part], known.predicted[part], classes) for part in parts if part.any()]
        accuracy = share(float(np.mean([np.trace(count) / count.sum() for count in counts])), n)
        f1 = float(np.mean([macro_f1(count) for count in counts]))
        rows.append((one, n, accuracy.value, accuracy.low, accuracy.high, f1))
    return pd.DataFrame(rows, columns=list(FOLD_COLUMNS))


def most_confused(records: RecordSet, most: int = MOST_CONFUSED) -> tuple[str, ...]:
    """The classes that take part in most errors, in the order of their families."""
    known = records.labelled()
    counts = confusion_counts(known.targets, known.predicted, len(known.class_names))
    errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diagonal(counts)
    chosen = {known.class_names[k] for k in np.argsort(-errors, kind="stable")[:most]}
    return tuple(name for name in by_family(known.class_names) if name in chosen)


def confusion_table(records: RecordSet, *, classes: Sequence[str] | None = None) -> pd.DataFrame:
    """Every pair of ``classes`` in the order given, ``CONFUSION_COLUMNS``: ``n`` answers, ``share`` of the true class.

    ``None``: all, or the most confused where there are over ``MANY_CLASSES``. The rest are taken together as ``OTHER``,
    whose diagonal counts answers within them, right and wrong. ``of``: answers to sounds of the true class.
    """
    known = records.labelled()
    names = known.class_names
    if classes is None:
        classes = by_family(names) if len(names) <= MANY_CLASSES else most_confused(known)
    shown = [*classes, *([OTHER] if set(names) - set(classes) else [])]
    position = {name: k for k, name in enumerate(shown)}
    place = np.array([position.get(name, len(shown) - 1) for name in names])
    counts = confusion_counts(place[known.targets], place[known.predicted], len(shown))
    of = np.repeat(counts.sum(axis=1), len(shown))
    n = counts.ravel()
    table = pd.DataFrame({"true": np.repeat(shown, len(shown)), "predicted": np.tile(shown, len(shown)), "n": n})
    table["share"] = np.divide(n, of, out=np.full(n.size, np.nan), where=of > 0)
    return table.assign(of=of)[list(CONFUSION_COLUMNS)]


def confused_pairs(records: RecordSet, *, most: int | None = None) -> pd.DataFrame:
    """Errors by true and predicted class, the commonest first, ``PAIR_COLUMNS``; only those that happened.

    ``share`` of the true class's answers with Wilson's interval at the number of clips; ``back`` counts the opposite
    error; ``confidence`` is the mean of those wrong answers.
    """
    known = records.labelled()
    classes = len(known.class_names)
    counts = confusion_counts(known.targets, known.predicted, classes)
    seeds = max(len(known) / max(known.n_clips, 1), 1)
    sure = np.bincount(known.targets * classes + known.predicted, known.confidence, classes * classes)
    errors = counts - np.diag(np.diagonal(counts))
    flat = np.flatnonzero(errors)
    flat = flat[np.lexsort((flat, -(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).ravel()[flat]))]
    flat = flat[np.argsort(-errors.ravel()[flat], kind="stable")][:most]
    true, predicted = np.divmod(flat, classes)
    n, of = errors.ravel()[flat], counts.sum(axis=1)[true]
    low, high = wilson(n / seeds, of / seeds)
    names = np.asarray(known.class_names, dtype=object)
    return pd.DataFrame(
        {
            "true": names[true],
            "predicted": names[predicted],
            "n": n,
            "of": of,
            "share": n / np.maximum(of, 1),
            "low": low,
            "high": high,
            "back": errors[predicted, true],
            "confidence": sure[flat] / np.maximum(n, 1),
        },
        columns=list(PAIR_COLUMNS),
    )


def compare(a: RecordSet, b: RecordSet, *, seed: int = 0, draws: int = DRAWS) -> Comparison:
    """Whether ``b`` answers the same clips better than ``a``.

    One network each and a recording for each clip: exact McNemar (binomial on the clips that one alone has right). Else
    each clip counts with the share of networks that have it right, and the signs of the differences, summed over the
    clips of a recording, are flipped at random. The interval of the difference resamples source recordings. Raises
    ``RecordsError`` where no clip is common.
    """
    ours, theirs = _right_by_clip(a), _right_by_clip(b)
    both = ours.merge(theirs, left_index=True, right_index=True, suffixes=("_a", "_b"))
    both = both[both["label_a"] == both["label_b"]]
    if both.empty:
        raise RecordsError(
            f"Expected clips that both {a.title} and {b.title} answered, with the same label, found none. "
            "Compare models on the same held-out clips.",
            code="no_common_clips",
        )
    n = len(both)
    right_a, right_b = both["right_a"].to_numpy(), both["right_b"].to_numpy()
    rng = np.random.default_rng(seed)
    p, test = _paired_p(right_b - right_a, both["source_group_a"], rng=rng)
    per_class = both.groupby("label_a", observed=True).agg(
        n=("right_a", "size"), a=("right_a", "mean"), b=("right_b", "mean")
    )
    alone = pd.DataFrame({"only_a": right_a * (1 - right_b), "only_b": right_b * (1 - right_a)}, index=both.index)
    per_class[["only_a", "only_b"]] = alone.groupby(both["label_a"], observed=True).sum()
    per_class["difference"] = per_class["b"] - per_class["a"]
    order = [name for name in by_family(a.class_names) if name in per_class.index]
    return Comparison(
        n=n,
        a=share(float(right_a.mean()), n),
        b=share(float(right_b.mean()), n),
        difference=_difference(right_b - right_a, both["source_group_a"], rng=rng, draws=draws),
        only_a=float(alone["only_a"].sum()),
        only_b=float(alone["only_b"].sum()),
        p=p,
        test=test,
        per_class=per_class.loc[order].reset_index(names="label")[list(CHANGE_COLUMNS)],
    )


def _right_by_clip(records: RecordSet) -> pd.DataFrame:
    """Share of networks that have each clip right, by ``clip_id``."""
    known = records.labelled()
    table = known.table[["clip_id", "label", "source_group"]].assign(right=known.correct.astype(np.float64))
    if table["clip_id"].is_unique:
        return table.set_index("clip_id")
    return table.groupby("clip_id", sort=False).agg(
        label=("label", "first"), source_group=("source_group", "first"), right=("right", "mean")
    )


def _paired_p(difference: Floats, groups: pd.Series[str], *, rng: np.random.Generator) -> tuple[float, str]:
    """Of clips that are each a recording of their own, exactly; clips of one recording are right or wrong together, so
    the signs of their sum are flipped.
    """
    several = not groups.is_unique
    if several:
        difference = np.asarray(np.bincount(pd.factorize(groups)[0], weights=difference), dtype=np.float64)
    apart = difference[np.abs(difference) > 1e-9]
    if apart.size == 0:
        return 1.0, "no clip tells them apart"
    if not several and (np.abs(apart) == 1).all():
        return float(binomtest(int((apart > 0).sum()), apart.size).pvalue), "exact McNemar"
    seen = abs(apart.sum())
    # sums of flipped signs, by the few sizes a difference of shares can have
    sizes, how_many = np.unique(np.abs(apart), return_counts=True)
    flipped = sum(
        size * (2.0 * rng.binomial(many, 0.5, FLIPS) - many) for size, many in zip(sizes, how_many, strict=True)
    )
    as_large = int((np.abs(flipped) >= seen - 1e-9).sum())
    of = "differences of whole recordings" if several else "paired differences"
    return (as_large + 1) / (FLIPS + 1), f"sign flips of {of}, {FLIPS:,} draws"


def _difference(difference: Floats, groups: pd.Series[str], *, rng: np.random.Generator, draws: int) -> Estimate:
    n, mean = difference.size, float(difference.mean())
    block = blocks_of(groups, rng=rng)
    blocks = int(block.max()) + 1
    if blocks < LEAST_BLOCKS:
        return Estimate(mean, math.nan, math.nan, n)
    weights = resamples(blocks, rng=rng, draws=draws)
    drawn = (weights @ np.bincount(block, difference, blocks)) / np.maximum(
        weights @ np.bincount(block, minlength=blocks), 1
    )
    low, high = percentiles(drawn)
    if not high > low:  # no draw differs: what no clip in n can rule out
        low, high = mean - exact(0, n)[1], mean + exact(0, n)[1]
    return Estimate(mean, float(low), float(high), n)
