"""Accuracy against SNR, and the SNR at which one answer flips."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from core.artifact import Artifact
from core.audio import decode
from core.classifier import Classifier
from core.config import SHIPPED_RUN, AudioConfig, Limits
from core.diagnostics.noise import CURVE_COLUMNS, LEVELS_DB, SCAN_COLUMNS, condition_table, scan_noise, snr_curve
from core.errors import AudioError, RecordsError
from core.records import Prediction
from core.robustness import CONDITIONS, SNRS_DB

RATE_HZ = 32_000
TONE = np.sin(np.arange(RATE_HZ) / 5).astype(np.float32)


def test_every_snr_is_of_a_condition() -> None:
    assert set(SNRS_DB) < set(CONDITIONS)


def test_accuracy_under_each_condition_has_its_interval_at_the_number_of_clips() -> None:
    answers = pd.read_parquet(SHIPPED_RUN / "robustness.parquet").query("seed == 0")
    table = condition_table(pd.concat([answers, answers.assign(seed=9)]))  # another network adds no clips
    assert tuple(table.columns) == CURVE_COLUMNS
    assert table["condition"].tolist() == list(CONDITIONS)
    for row in table.itertuples():
        right = answers.loc[answers["condition"] == row.condition, "correct"]
        n = answers["clip_id"].nunique()
        theirs = binomtest(round(right.mean() * n), n).proportion_ci(0.95, method="wilson")
        assert (row.accuracy, row.low, row.high, row.n) == pytest.approx((right.mean(), theirs.low, theirs.high, n))
    assert snr_curve(answers)["snr_db"].tolist() == [math.inf, 20, 10, 0]


def test_no_clips_and_a_foreign_table() -> None:
    answers = pd.read_parquet(SHIPPED_RUN / "robustness.parquet")
    assert snr_curve(answers.head(0)).empty
    with pytest.raises(RecordsError, match="correct missing"):
        condition_table(answers.drop(columns="correct"))


def snr_of(data: bytes) -> float:
    """Of a tone in noise, from the share of power that projects onto the tone."""
    heard = decode(data, audio=AudioConfig(sample_rate_hz=RATE_HZ)).samples.astype(np.float64)
    tone = TONE.astype(np.float64)
    signal = (heard @ tone / (tone @ tone)) * tone
    noise = heard - signal
    return 10 * math.log10((signal @ signal) / max(noise @ noise, 1e-12))


def listener(flips_db: float, untrained: Artifact) -> "Flips":
    return Flips(flips_db, Classifier(untrained, Limits()).predict(wav()))


def wav() -> bytes:
    from core.audio import write_wav

    return write_wav(TONE, RATE_HZ, exact=True)


class Flips:
    """Answers "dog" down to an SNR and "rain" below it, and counts what it was asked."""

    def __init__(self, flips_db: float, pattern: Prediction) -> None:
        self.flips_db, self.pattern, self.asked = flips_db, pattern, 0

    def __call__(self, sounds: Sequence[bytes]) -> list[Prediction | AudioError]:
        self.asked += len(sounds)
        answers: list[Prediction | AudioError] = []
        for sound in sounds:
            dog = float(snr_of(sound) > self.flips_db)
            facts = {"label": "dog" if dog else "rain", "probabilities": {"dog": dog, "rain": 1 - dog}}
            answers.append(self.pattern.model_copy(update=facts | {"confidence": 1.0}))
        return answers


@pytest.mark.parametrize("flips_db", [13.2, -7.9])
def test_the_flip_is_found_to_a_decibel(flips_db: float, untrained: Artifact) -> None:
    scan = scan_noise(listener(flips_db, untrained), TONE, RATE_HZ)
    assert scan.label == "dog"
    assert len(scan.flips_db) == 3
    assert all(flips_db - 1.3 <= flip <= flips_db + 0.3 for flip in scan.flips_db), scan.flips_db
    assert tuple(scan.table.columns) == SCAN_COLUMNS
    held = scan.table["snr_db"] > max(scan.flips_db) + 0.3
    assert (scan.table["probability"][held] == 1).all()


def test_an_answer_that_never_flips_says_so_and_one_that_flips_at_once_too(untrained: Artifact) -> None:
    never = listener(-99, untrained)
    scan = scan_noise(never, TONE, RATE_HZ, draws=2)
    assert all(math.isnan(flip) for flip in scan.flips_db)
    assert scan.flipped == ()
    assert never.asked == 1 + 2 * len(LEVELS_DB)
    assert scan_noise(listener(45, untrained), TONE, RATE_HZ, draws=1).flips_db == (LEVELS_DB[0],)


def test_the_scan_repeats_itself_and_asks_the_real_model(untrained: Artifact) -> None:
    classifier = Classifier(untrained, Limits())

    def ask(sounds: Sequence[bytes]) -> list[Prediction | AudioError]:
        return [classifier.predict(sound) for sound in sounds]

    quiet = TONE[: RATE_HZ // 2] * 1e-3
    one, two = (scan_noise(ask, quiet, RATE_HZ, draws=1) for _ in range(2))
    pd.testing.assert_frame_equal(one.table, two.table)
    assert one.scanned_s == 0.5
    assert one.label == classifier.predict(wav_of(quiet)).label


def wav_of(samples: np.ndarray) -> bytes:
    from core.audio import write_wav

    return write_wav(samples, RATE_HZ, exact=True)


def test_silence_and_unusable_sounds_are_told(untrained: Artifact) -> None:
    with pytest.raises(AudioError, match="digital silence"):
        scan_noise(listener(0, untrained), np.zeros(RATE_HZ, dtype=np.float32), RATE_HZ)

    def refuse(sounds: Sequence[bytes]) -> list[Prediction | AudioError]:
        return [AudioError("no") for _ in sounds]

    with pytest.raises(AudioError, match="no"):
        scan_noise(refuse, TONE, RATE_HZ)
