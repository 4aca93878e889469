"""Where accuracy gives way: groups of clips that share something, held against all the others.

A slice is weak when it holds at least ``LEAST_SHARE`` of the clips and its accuracy is under ``WEAK_RATIO`` of the
average. Among dozens of slices some look weak by chance, so each is also tested: Fisher's exact test of its errors
against those of the clips outside, one-sided, with Holm's correction over every slice looked at. One that passes the
test without being that far under is "below average". Slices overlap: the quiet clips may be the short ones. Clips of
one recording count as independent here, which flatters p a little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import hypergeom

from core.descriptors import MEL_BANDS
from core.diagnostics.clips import Clips, labelled_clips
from core.diagnostics.intervals import wilson
from core.diagnostics.two_sample import holm
from core.recordset import RecordSet

LEAST_SHARE, WEAK_RATIO = 0.05, 0.8  # deepchecks' weak segments
SIGNIFICANT = 0.05
TAIL = 0.1  # the lowest and the highest tenth of a descriptor
NO_TAIL = 0.5  # a "tenth" that ties make larger than this is no tail
FEWEST = 5  # clips a slice needs to be listed at all
VALUES = range(2, 31)  # how many different values make a column a set of groups
SILENT_TREBLE_DB = 60.0  # under the loudest mel band: nothing is there
SHORT_S = 1.0
COLUMNS = ("family", "slice", "rule", "n", "share", "accuracy", "low", "high", "ratio", "p", "p_adjusted", "verdict")
WEAK, MAYBE, BELOW, SMALL, FINE = "weak", "weak, perhaps by chance", "below average", "too few clips", ""
RECORDING_COLUMNS = ("source_group", "label", "n", "wrong", "accuracy", "low", "high")

# What the tails of a descriptor are called: family, low end, high end ("" is not looked at), how an edge reads.
TAILS = {
    "rms_dbfs": ("level", "quiet", "loud", "level {} {:.1f} dBFS"),
    "crest_factor_db": ("dynamics", "even", "peaky", "crest factor {} {:.1f} dB"),
    "spectral_centroid_hz": ("spectrum", "dull", "bright", "spectral centroid {} {:,.0f} Hz"),
    "spectral_bandwidth_hz": ("spectrum", "narrow", "broad", "spectral bandwidth {} {:,.0f} Hz"),
    "spectral_rolloff_hz": ("spectrum", "low rolloff", "high rolloff", "85 % rolloff {} {:,.0f} Hz"),
    "spectral_flatness": ("spectrum", "tonal", "noisy", "spectral flatness {} {:.2g}"),
    "active_fraction": ("length", "mostly silence", "", "sound in {} {:.0f} % of the clip"),
    "duration_s": ("length", "short", "long", "duration {} {:.2f} s"),
}
NOT_GROUPS = {"clip_id", "seed", "source_group", "label", "predicted", "correct", "name", "id", "created_at"}


@dataclass(frozen=True)
class Slice:
    """``member`` (M,) says which clips belong; ``rule`` says why, in words and units."""

    family: str
    name: str
    rule: str
    member: NDArray[np.bool_]


def slices(clips: Clips) -> Iterator[Slice]:
    """Every slice of these clips that holds ``FEWEST`` clips or more, and not all of them."""
    for found in (*_tails(clips.table), *_limits(clips.table), *_groups(clips)):
        if FEWEST <= found.member.sum() < len(clips):
            yield found


def slice_table(records: RecordSet) -> pd.DataFrame:
    """Every slice with its verdict, the weakest first: ``COLUMNS``.

    ``ratio`` is its accuracy over the average; ``p`` of Fisher's test, ``p_adjusted`` after Holm.
    """
    clips = labelled_clips(records)
    found = list(slices(clips))
    table = pd.DataFrame(
        {
            "family": [one.family for one in found],
            "slice": [one.name for one in found],
            "rule": [one.rule for one in found],
            "n": np.array([one.member.sum() for one in found], dtype=np.int64),
        }
    )
    right = np.array([clips.right[one.member].sum() for one in found])
    n = table["n"].to_numpy()
    table["share"] = n / max(len(clips), 1)
    table["accuracy"] = right / n
    table["low"], table["high"] = wilson(right, n)
    table["ratio"] = table["accuracy"] / (clips.accuracy or np.nan)
    table["p"] = fisher_p(n - right, n, float(len(clips) - clips.right.sum()), len(clips))
    table["p_adjusted"] = holm(table["p"].to_numpy())
    table["verdict"] = _verdicts(table)
    return table.sort_values(["accuracy", "p"], kind="stable").reset_index(drop=True)[list(COLUMNS)]


def members(records: RecordSet, family: str, name: str) -> pd.DataFrame:
    """The clips of one slice, wrong ones first, by falling confidence."""
    clips = labelled_clips(records)
    member = next(one.member for one in slices(clips) if (one.family, one.name) == (family, name))
    table = clips.table.assign(wrong=clips.wrong, networks=clips.networks)[member]
    return table.sort_values(["wrong", "confidence"], ascending=False, kind="stable").reset_index(drop=True)


def recordings(records: RecordSet) -> pd.DataFrame:
    """Source recordings with errors, the one with the most wrong clips first: ``RECORDING_COLUMNS``.

    One recording is seldom ``LEAST_SHARE`` of the data, but its clips tend to fail together. Empty where no recording
    has two clips.
    """
    clips = labelled_clips(records)
    table = pd.DataFrame(
        {"source_group": clips.table["source_group"], "label": clips.table["label"], "right": clips.right}
    )
    grouped = table.groupby("source_group", sort=False).agg(
        label=("label", "first"), n=("right", "size"), right=("right", "sum")
    )
    if len(grouped) == len(table):
        return pd.DataFrame(columns=list(RECORDING_COLUMNS))
    grouped["wrong"] = grouped["n"] - grouped["right"]
    grouped["accuracy"] = grouped["right"] / grouped["n"]
    grouped["low"], grouped["high"] = wilson(grouped["right"], grouped["n"])
    failing = grouped[grouped["wrong"] > 0].sort_values(["wrong", "accuracy"], ascending=[False, True], kind="stable")
    return failing.reset_index()[list(RECORDING_COLUMNS)]


def fisher_p(wrong: NDArray[np.float64], n: NDArray[np.int64], all_wrong: float, total: int) -> NDArray[np.float64]:
    """P(at least ``wrong`` errors among ``n`` clips), were ``all_wrong`` of the ``total`` clips wrong by chance.

    Fisher's exact test, one-sided. Means over networks are rounded to whole clips.
    """
    return np.asarray(hypergeom.sf(np.round(wrong) - 1, total, round(all_wrong), n), dtype=np.float64)


def _verdicts(table: pd.DataFrame) -> NDArray[np.object_]:
    under = table["ratio"] < WEAK_RATIO
    large = table["share"] >= LEAST_SHARE
    sure = table["p_adjusted"] < SIGNIFICANT
    rules = [under & large & sure, under & large, under, sure]
    return np.select(rules, [WEAK, MAYBE, SMALL, BELOW], default=FINE)


def _tails(table: pd.DataFrame) -> Iterator[Slice]:
    """The lowest and the highest tenth of each descriptor; ties belong to it."""
    for column, (family, low_name, high_name, words) in TAILS.items():
        if column not in table:
            continue
        values = table[column].to_numpy(dtype=np.float64, na_value=np.nan)
        finite = values[np.isfinite(values)]
        if finite.size == 0 or finite.min() == finite.max():
            continue
        low, high = np.quantile(finite, [TAIL, 1 - TAIL])
        ends = ((low_name, values <= low, "≤", low), (high_name, values >= high, "≥", high))
        for name, member, sign, edge in ends:
            if name and member.mean() <= NO_TAIL:
                shown = 100 * edge if column == "active_fraction" else edge
                yield Slice(family, name, words.format(sign, shown), member)


def _limits(table: pd.DataFrame) -> Iterator[Slice]:
    """Groups by a fixed rule, however many clips fall under it."""
    bands = [f"mel_band_{band}_db" for band in range(1, MEL_BANDS + 1)]
    if set(bands) <= set(table.columns):
        level = table[bands].to_numpy(dtype=np.float64, na_value=np.nan)
        treble = level[:, :-1].max(axis=1) - level[:, -1] >= SILENT_TREBLE_DB
        rule = f"highest mel band {SILENT_TREBLE_DB:.0f} dB or more under the loudest"
        yield Slice("spectrum", "band-limited", rule, treble)
    if "peak_dbfs" in table:
        peak = table["peak_dbfs"].to_numpy(dtype=np.float64, na_value=np.nan)
        yield Slice("level", "at full scale", "peak ≥ −0.1 dBFS: perhaps clipped", peak >= -0.1)
    if "duration_s" in table:
        duration = table["duration_s"].to_numpy(dtype=np.float64, na_value=np.nan)
        yield Slice("length", "under a second", f"duration < {SHORT_S:g} s", duration < SHORT_S)


def _groups(clips: Clips) -> Iterator[Slice]:
    """Each class, each fold, and each value of every other column that sorts the clips into a few groups."""
    for target, name in enumerate(clips.class_names):
        yield Slice("class", name.replace("_", " "), f"true class {name.replace('_', ' ')}", clips.targets == target)
    for column in clips.table.columns:
        values = clips.table[column]
        if column in NOT_GROUPS or (pd.api.types.is_float_dtype(values) and column != "fold"):
            continue
        code, found = pd.factorize(values)
        if len(found) in VALUES:
            called = column.replace("_", " ")
            for index, value in enumerate(found):
                if pd.api.types.is_bool(value):  # a flag
                    name = f"called {called}" if value else f"not called {called}"
                    yield Slice(called, name, f"flag {called} {'set' if value else 'not set'}", code == index)
                else:
                    yield Slice(called, f"{called} {value}", f"{called} is {value}", code == index)
