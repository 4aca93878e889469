from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.artifact import Artifact
from core.classifier import Classifier
from core.config import Limits
from core.dataset import load_dataset
from core.descriptors import NAMES
from core.diagnostics.drift import compare
from core.drift_demo import (
    PRESETS,
    Degrading,
    degraded_sound,
    demo_clips,
    record_demo,
    recorded_demo,
    recorded_reference,
)
from core.errors import RecordsError
from tests.synthetic_dataset import write_dataset

CAUSES = {
    "as recorded": (),
    "band limit: nothing above 8 kHz": ("nothing above",),
    "noise: 10 dB under the sound": ("noise over the sounds",),
    "gain: 14 dB quieter": ("dB quieter",),
    "far away: 14 dB quieter, nothing above 8 kHz": ("dB quieter", "nothing above"),
}


@pytest.mark.parametrize("condition", PRESETS)
def test_every_recorded_demo_raises_its_own_alarm_and_the_control_none(condition: str) -> None:
    reference, current = recorded_reference(), recorded_demo(condition)
    report = compare(reference, current, rng=np.random.default_rng(0))
    assert (report.n_reference, report.n_current) == (400, 200)
    assert report.verdict == ("drift" if CAUSES[condition] else "no_drift")
    sound = [cause for cause in report.causes if not any(word in cause for word in ("answers", "unknown", "network"))]
    assert len(sound) == len(CAUSES[condition])
    assert all(part in cause for part, cause in zip(CAUSES[condition], sound, strict=True))
    assert (report.embedding.reason, report.unknown.reason) == ("", "")
    assert np.isfinite([report.embedding.mmd, report.unknown.current, report.unknown.reference]).all()
    assert report.accuracy_estimate is None  # the model learnt from these very clips
    assert any("trained on all clips of both sides" in note for note in report.notes)


def test_a_condition_that_was_not_recorded_is_told() -> None:
    with pytest.raises(RecordsError, match="as recorded"):
        recorded_demo("on the moon")


def test_a_demo_is_recorded_from_a_dataset_and_read_back(
    untrained: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path, n_classes=3, folds=1, per_class_and_fold=2, duration_s=0.3)
    monkeypatch.setattr("core.drift_demo.PRESETS", {"as recorded": Degrading(), "quiet": Degrading(gain_db=-14)})
    monkeypatch.setattr("core.drift_demo.DEMO_FILE", tmp_path / "demo.parquet")
    monkeypatch.setattr("core.drift_demo._recorded", lambda: pd.read_parquet(tmp_path / "demo.parquet"))
    dataset = load_dataset(tmp_path, clips_per_class=1)
    monkeypatch.setattr(demo_clips, "__kwdefaults__", {"per_class": 1})
    record_demo(Classifier(untrained, Limits()), dataset, tmp_path / "demo.parquet")
    plain, quiet = recorded_demo("as recorded"), recorded_demo("quiet")
    assert plain.table["clip_id"].tolist() == [clip.filename for clip in demo_clips(dataset)]
    assert plain.fingerprint == untrained.manifest.fingerprint
    assert set(NAMES) <= set(plain.table)
    assert sorted(recorded_reference().table["clip_id"]) == sorted(clip.filename for clip in dataset.clips)
    answer = Classifier(untrained, Limits()).predict(demo_clips(dataset)[0].path.read_bytes())
    assert plain.embedding is not None
    np.testing.assert_allclose(plain.embedding[0], answer.embedding, rtol=2e-3, atol=1e-3)  # float16
    np.testing.assert_allclose(quiet.table["rms_dbfs"], plain.table["rms_dbfs"] - 14, atol=0.01)


def test_degrading_is_repeatable_and_never_clips(tmp_path: Path, untrained: Artifact) -> None:
    write_dataset(tmp_path, n_classes=2, folds=1, per_class_and_fold=1, duration_s=0.3)
    clip = load_dataset(tmp_path, clips_per_class=1).clips[0]
    classifier = Classifier(untrained, Limits())

    def decode(data: bytes) -> tuple[np.ndarray, int]:
        wave = classifier.decode(data)
        return wave.samples, wave.sample_rate_hz

    loud = Degrading(gain_db=30, snr_db=10)
    sound = degraded_sound(clip, loud, decode)
    assert sound == degraded_sound(clip, loud, decode)
    assert sound[sound.index(b"PEAK") + 12 :][:4] == bytes(4)  # where the time of writing stood
    samples, _ = decode(degraded_sound(clip, Degrading(gain_db=30), decode))
    np.testing.assert_allclose(samples, decode(clip.path.read_bytes())[0] * 10**1.5, atol=1e-4)
