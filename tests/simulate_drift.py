"""How often drift is found where there is none, and where there is: ``python -m tests.simulate_drift [--repeats 400]``.

Draws references and current records from the shipped held-out clips, so that both come from one population, and asks
``core.diagnostics.drift.compare`` for its whole verdict: descriptors, confidence, class mix, embedding, silence. Power
is the share of draws in which a descriptor that was shifted by half its standard deviation is flagged. ``--only``
chooses: ``none`` (no drift), ``halves`` (recordings split in two), ``clips`` (many clips of a recording), ``power``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from core.descriptors import NAMES
from core.diagnostics.drift import compare, one_row_a_clip
from core.recordset import RecordSet
from core.sources import shipped

SIZES = (50, 200, 1_000)
REFERENCES = (400, 1_600)
SHIFT_SD = 0.5
MANY_CLIPS = ((25, 8), (50, 4), (50, 20), (100, 10))  # recordings, clips of each


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=400)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", nargs="+", choices=CASES, default=CASES)
    given = options.parse_args(argv)
    population = one_row_a_clip(shipped())
    for case in given.only:
        CASES[case](population, given.repeats, np.random.default_rng(given.seed))
    return 0


def no_drift(population: RecordSet, repeats: int, rng: np.random.Generator) -> None:
    for n_reference in REFERENCES:
        for n in SIZES:
            alarms = [false_alarm(population, n_reference, n, rng=rng) for _ in range(repeats)]
            print(f"no drift, {n_reference:,} against {n:,}: {_share(alarms)} alarms", flush=True)


def halves(population: RecordSet, repeats: int, rng: np.random.Generator) -> None:
    alarms = [false_alarm_by_recording(population, 200, rng=rng) for _ in range(repeats)]
    print(f"no drift, recordings split in two, about 200 against 200: {_share(alarms)} alarms", flush=True)


def many_clips(population: RecordSet, repeats: int, rng: np.random.Generator) -> None:
    for recordings, clips in MANY_CLIPS:
        alarms = [false_alarm_of_clips(population, recordings, clips, rng=rng) for _ in range(repeats)]
        print(f"no drift, {recordings:,} new recordings of {clips:,} clips each: {_share(alarms)} alarms", flush=True)


def all_power(population: RecordSet, repeats: int, rng: np.random.Generator) -> None:
    """A quarter of ``repeats`` for each descriptor."""
    for n_reference in REFERENCES:
        found = {
            name: [power(population, name, n_reference, 200, rng=rng) for _ in range(repeats // 4)] for name in NAMES
        }
        worst = min(found, key=lambda name: np.mean(found[name]))
        every = [hit for hits in found.values() for hit in hits]
        print(
            f"one descriptor shifted by {SHIFT_SD:g} sd, {n_reference:,} against 200: found {_share(every)}; "
            f"least {worst} {_share(found[worst])}",
            flush=True,
        )


def false_alarm(population: RecordSet, n_reference: int, n: int, *, rng: np.random.Generator) -> bool:
    """One draw without drift: whether the verdict is drift all the same."""
    report = compare(draw(population, n_reference, rng), draw(population, n, rng), rng=rng)
    return report.verdict == "drift"


def false_alarm_by_recording(population: RecordSet, n: int, *, rng: np.random.Generator) -> bool:
    """As above, but no recording is on both sides, as no new sound is of a recording that was trained on."""
    by_recording = np.argsort(_rank(population, rng), kind="stable")
    return compare(population.take(by_recording[n:]), population.take(by_recording[:n]), rng=rng).verdict == "drift"


def false_alarm_of_clips(population: RecordSet, recordings: int, clips: int, *, rng: np.random.Generator) -> bool:
    """As above, one clip a recording, the current ones cut into ``clips`` that differ by a tenth of the spread."""
    one_each = np.unique(_rank(population, rng), return_index=True)[1]
    current = population.take(one_each[:recordings].repeat(clips))
    spread = {name: 0.1 * population.table[name].std() for name in NAMES if name != "active_fraction"}  # often just 1
    noise = {name: current.table[name] + rng.normal(0, sd, len(current)) for name, sd in spread.items()}
    current = replace(current, table=current.table.assign(**noise))
    return compare(population.take(one_each[recordings:]), current, rng=rng).verdict == "drift"


def _rank(population: RecordSet, rng: np.random.Generator) -> NDArray[np.int64]:
    """Each record's recording, as its place in a random order of all recordings."""
    codes, names = pd.factorize(population.table["source_group"])
    return np.asarray(rng.permutation(len(names))[codes], dtype=np.int64)


def power(population: RecordSet, name: str, n_reference: int, n: int, *, rng: np.random.Generator) -> bool:
    """One draw with ``name`` shifted by half its standard deviation: whether it is flagged."""
    current = shifted(draw(population, n, rng), name, SHIFT_SD * float(population.table[name].std()))
    report = compare(draw(population, n_reference, rng), current, rng=rng, with_embedding=False)
    return report.verdict == "drift" and any(f.flag for f in report.features if f.name == name)


def draw(population: RecordSet, n: int, rng: np.random.Generator) -> RecordSet:
    """``n`` records with replacement, each as of a recording of its own."""
    drawn = population.take(rng.integers(0, len(population), n))
    return replace(drawn, table=drawn.table.assign(source_group=[str(place) for place in rng.random(n)]))


def shifted(records: RecordSet, name: str, by: float) -> RecordSet:
    return replace(records, table=records.table.assign(**{name: records.table[name] + by}))


def _share(hits: Sequence[bool]) -> str:
    """``3.2 % (2.0 to 5.1 %, n = 400)``"""
    interval = binomtest(int(sum(hits)), len(hits)).proportion_ci(0.95, method="wilson")
    return f"{np.mean(hits):.1%} ({interval.low:.1%} to {interval.high:.1%}, n = {len(hits):,})"


CASES = {"none": no_drift, "halves": halves, "clips": many_clips, "power": all_power}

if __name__ == "__main__":
    raise SystemExit(main())
