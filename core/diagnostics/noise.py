"""How much noise answers survive: a set of clips against SNR, and the SNR at which one clip's answer flips.

The set is measured by networks that never heard the clips, under the conditions of ``core.robustness``. One clip is
asked of the model that serves: white noise is added at falling SNR until another class leads, and the edge is then
halved down to ``FINE_DB``. A draw of noise is one waveform scaled to every level, so that levels compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.audio import write_wav
from core.diagnostics.intervals import wilson
from core.errors import AudioError, RecordsError
from core.records import Prediction
from core.robustness import SNRS_DB

COLUMNS = ("clip_id", "fold", "seed", "condition", "correct")
CURVE_COLUMNS = ("condition", "snr_db", "accuracy", "low", "high", "n")
SCAN_COLUMNS = ("draw", "snr_db", "predicted", "confidence", "probability")
LEVELS_DB = tuple(range(40, -21, -5))
FINE_DB = 1.0  # to which the SNR of a flip is told
DRAWS = 3
SCANNED_S = 10.0  # the beginning of longer sounds

Classify = Callable[[Sequence[bytes]], Sequence[Prediction | AudioError]]


def condition_table(answers: pd.DataFrame) -> pd.DataFrame:
    """Accuracy under each condition, in the order of the table, with its interval: ``CURVE_COLUMNS``.

    Means over networks at n clips; ``snr_db`` is inf for clips as recorded and nan where the condition is no noise.
    Raises ``RecordsError`` for a table without ``COLUMNS``.
    """
    if missing := [column for column in COLUMNS if column not in answers]:
        raise RecordsError(
            f"Expected the columns {', '.join(COLUMNS)} in the answers under noise, {', '.join(missing)} missing. "
            "Measure them anew: python -m core crossval.",
            code="missing_columns",
        )
    grouped = answers.groupby("condition", sort=False).agg(accuracy=("correct", "mean"), n=("clip_id", "nunique"))
    table = grouped.reset_index()
    table["low"], table["high"] = wilson(table["accuracy"] * table["n"], table["n"])
    table["snr_db"] = table["condition"].map(SNRS_DB).astype(float)
    return table[list(CURVE_COLUMNS)]


def snr_curve(answers: pd.DataFrame) -> pd.DataFrame:
    """The noisy conditions of ``condition_table`` and the clips as recorded (snr_db inf), by falling SNR."""
    table = condition_table(answers)
    return table[table["snr_db"].notna()].sort_values("snr_db", ascending=False).reset_index(drop=True)


@dataclass(frozen=True)
class NoiseScan:
    """What the serving model answers as noise rises over one clip.

    ``table`` has ``SCAN_COLUMNS``, one row a draw and SNR, by falling SNR; ``probability`` is of ``label``, the answer
    to the clip as it is, whose confidence is ``confidence``. ``flips_db``: of each draw, the highest SNR at which
    another class leads, to ``FINE_DB``; nan where none does down to ``lowest_db``. ``scanned_s``: how much was heard.
    """

    label: str
    confidence: float
    flips_db: tuple[float, ...]
    table: pd.DataFrame
    lowest_db: float
    scanned_s: float

    @property
    def flipped(self) -> tuple[float, ...]:
        """The draws that flipped, by falling SNR."""
        return tuple(sorted((flip for flip in self.flips_db if not math.isnan(flip)), reverse=True))


def scan_noise(
    classify: Classify, samples: NDArray[np.float32], sample_rate_hz: int, *, draws: int = DRAWS, seed: int = 0
) -> NoiseScan:
    """Ask ``classify`` for ``samples`` (N,) under rising white noise. Raises its ``AudioError``.

    Raises ``AudioError`` with code ``silent`` for a clip without sound: it has no signal-to-noise ratio.
    """
    heard = samples[: round(SCANNED_S * sample_rate_hz)]
    level = math.sqrt(float(np.mean(np.square(heard, dtype=np.float64))))
    if level == 0:
        raise AudioError(
            "Expected a clip with sound, got digital silence: noise has no ratio to it. Choose another clip.",
            code="silent",
        )
    noise = [np.random.default_rng([seed, draw]).standard_normal(heard.size) for draw in range(draws)]

    def ask(asked: Sequence[tuple[int, float]]) -> list[Prediction]:
        sounds = [heard + level * 10 ** (-snr_db / 20) * noise[draw] for draw, snr_db in asked]
        return _answers(classify, sounds, sample_rate_hz)

    clean = _answers(classify, [heard], sample_rate_hz)[0]
    rows: dict[tuple[int, float], Prediction] = {}

    def answer(asked: Sequence[tuple[int, float]]) -> None:
        rows.update(zip(asked, ask(asked), strict=True))

    answer([(draw, float(snr_db)) for draw in range(draws) for snr_db in LEVELS_DB])
    edges = {draw: _edge(rows, draw, clean.label) for draw in range(draws)}
    while middle := [(d, (held + lost) / 2) for d, (held, lost) in edges.items() if held - lost > FINE_DB]:
        answer(middle)
        for draw, snr_db in middle:
            held, lost = edges[draw]
            holds = rows[draw, snr_db].label == clean.label
            edges[draw] = (snr_db, lost) if holds else (held, snr_db)
    return NoiseScan(
        label=clean.label,
        confidence=clean.confidence,
        flips_db=tuple(edges[draw][1] for draw in range(draws)),
        table=_table(rows, clean.label),
        lowest_db=float(LEVELS_DB[-1]),
        scanned_s=heard.size / sample_rate_hz,
    )


def _answers(classify: Classify, sounds: Sequence[NDArray[np.floating]], sample_rate_hz: int) -> list[Prediction]:
    answers = []
    for one in classify([write_wav(sound.astype(np.float32), sample_rate_hz, exact=True) for sound in sounds]):
        if isinstance(one, AudioError):
            raise one
        answers.append(one)
    return answers


def _edge(rows: dict[tuple[int, float], Prediction], draw: int, label: str) -> tuple[float, float]:
    """From above: the last level that holds and the first that does not; (nan, nan) where all hold.

    Where not even the highest level holds, both are that level.
    """
    held = float(LEVELS_DB[0])
    for snr_db in LEVELS_DB:
        if rows[draw, float(snr_db)].label != label:
            return held, float(snr_db)
        held = float(snr_db)
    return math.nan, math.nan


def _table(rows: dict[tuple[int, float], Prediction], label: str) -> pd.DataFrame:
    facts = [(draw, db, one.label, one.confidence, one.probabilities[label]) for (draw, db), one in rows.items()]
    table = pd.DataFrame(facts, columns=list(SCAN_COLUMNS))
    return table.sort_values(["draw", "snr_db"], ascending=[True, False]).reset_index(drop=True)
