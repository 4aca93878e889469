"""Sounds degraded on purpose, so that drift and its cause can be seen before any happens.

Twenty clips of every class of ESC-10 under each of ``PRESETS``, and all clips as recorded, were answered by the shipped
model and are kept in ``core/assets/drift_demo.parquet``: descriptors, answers and embeddings, no sounds. With the
dataset at hand the same clips are degraded as one wishes. One network that was trained on all of them answered both
sides, so that embeddings and unknown rates compare like with like; what it thinks of its accuracy means nothing there,
and ``TRAINED_ON`` says so. After a change of the model:

    python -m core.drift_demo --data DIR    # `make gold` does it too; two minutes of one core
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from core import descriptors
from core.audio import write_wav
from core.classifier import Classifier
from core.config import SHIPPED_ARTIFACT
from core.dataset import Clip, Dataset, load_dataset
from core.errors import RecordsError
from core.inference import leave_cores_free
from core.parquet import write_parquet
from core.record_tables import record_set
from core.records import Prediction
from core.recordset import TRAINED_ON, RecordSet
from core.robustness import add_noise, gain, low_pass

DEMO_FILE = Path(__file__).parent / "assets" / "drift_demo.parquet"
PER_CLASS = 20
AS_RECORDED, OTHERS = "as recorded", "other clips as recorded"  # together the reference


@dataclass(frozen=True)
class Degrading:
    """What is done to a sound: nothing above ``edge_hz``, a change of level, white noise ``snr_db`` under its power."""

    edge_hz: float | None = None
    gain_db: float = 0.0
    snr_db: float | None = None

    def __call__(self, samples: NDArray[np.float32], rate_hz: int, rng: np.random.Generator) -> NDArray[np.float32]:
        if self.edge_hz is not None:
            samples = low_pass(self.edge_hz)(samples, rate_hz, rng)
        if self.snr_db is not None:
            samples = add_noise(self.snr_db)(samples, rate_hz, rng)
        return gain(self.gain_db)(samples, rate_hz, rng) if self.gain_db else samples


PRESETS: Mapping[str, Degrading] = {
    AS_RECORDED: Degrading(),
    "band limit: nothing above 8 kHz": Degrading(edge_hz=8_000),
    "noise: 10 dB under the sound": Degrading(snr_db=10),
    "gain: 14 dB quieter": Degrading(gain_db=-14),
    "far away: 14 dB quieter, nothing above 8 kHz": Degrading(edge_hz=8_000, gain_db=-14),
}


def demo_clips(dataset: Dataset, *, per_class: int = PER_CLASS) -> list[Clip]:
    """The same clips every time, ``per_class`` of each class or all there are, in no order of recordings."""
    shuffled = sorted(dataset.clips, key=lambda clip: hashlib.sha256(clip.filename.encode()).digest())
    return [
        clip
        for target in range(len(dataset.class_names))
        for clip in [clip for clip in shuffled if clip.target == target][:per_class]
    ]


def degraded_sound(
    clip: Clip, degrading: Degrading, decode: Callable[[bytes], tuple[NDArray[np.float32], int]], *, seed: int = 0
) -> bytes:
    """The clip's sound, degraded, as wav of float samples: nothing clips."""
    samples, rate_hz = decode(clip.path.read_bytes())
    digest = hashlib.sha256(clip.filename.encode()).digest()
    rng = np.random.default_rng([seed, int.from_bytes(digest[:4], "little")])
    return write_wav(degrading(samples, rate_hz, rng), rate_hz, exact=True)


def record_demo(classifier: Classifier, dataset: Dataset, to: Path = DEMO_FILE) -> None:
    """Answer the demo's clips under every preset and keep what was answered."""

    def decode(data: bytes) -> tuple[NDArray[np.float32], int]:
        wave = classifier.decode(data)
        return wave.samples, wave.sample_rate_hz

    chosen = demo_clips(dataset)
    names = {clip.filename for clip in chosen}
    asked = [(condition, degrading, clip) for condition, degrading in PRESETS.items() for clip in chosen]
    asked += [(OTHERS, Degrading(), clip) for clip in dataset.clips if clip.filename not in names]
    rows = [
        {"condition": condition, **_row(clip, classifier.predict(degraded_sound(clip, degrading, decode)))}
        for condition, degrading, clip in asked
    ]
    table = pd.DataFrame(rows).assign(fingerprint=classifier.manifest.fingerprint)
    for name in descriptors.NAMES:
        table[name] = table[name].astype("float32")
    table["class_names"] = ",".join(classifier.manifest.class_names)
    table["temperature"] = classifier.manifest.temperature
    write_parquet(to, pa.Table.from_pandas(table, preserve_index=False))


def _row(clip: Clip, answer: Prediction) -> dict[str, object]:
    return {
        "clip_id": clip.filename,
        "source_group": clip.source_group,
        "logits": np.asarray(answer.logits, dtype=np.float32),
        "embedding": np.asarray(answer.embedding, dtype=np.float16),
        "unknown": answer.unknown,
        **answer.descriptors,
    }


def recorded_demo(condition: str) -> RecordSet:
    """What the shipped model answered under the preset ``condition``. Raises ``RecordsError``."""
    if condition not in PRESETS:
        raise RecordsError(f"Expected one of {', '.join(PRESETS)}, got {condition!r}.", code="no_records")
    return _records((condition,), title=f"demo, {condition}")


def recorded_reference() -> RecordSet:
    """What the same model answered to every clip as recorded: what the demo is held against."""
    return _records((AS_RECORDED, OTHERS), title="all clips as recorded")


def _records(conditions: tuple[str, ...], *, title: str) -> RecordSet:
    table = _recorded()
    chosen = table[table["condition"].isin(conditions)].reset_index(drop=True)
    facts = chosen.iloc[0]
    plain = chosen.drop(columns=["condition", "embedding", "fingerprint", "class_names", "temperature"])
    return record_set(
        plain.assign(fold=0, label=None, **{TRAINED_ON: True}),
        embedding=np.stack(chosen["embedding"].to_list()).astype(np.float32),
        title=title,
        class_names=str(facts["class_names"]).split(","),
        temperature=float(facts["temperature"]),
        fingerprint=str(facts["fingerprint"]),
    )


@lru_cache(maxsize=1)
def _recorded() -> pd.DataFrame:
    return pd.read_parquet(DEMO_FILE)


def main(argv: Sequence[str] | None = None) -> int:
    """Record the demo anew with the shipped model."""
    options = argparse.ArgumentParser(prog="python -m core.drift_demo", description=main.__doc__)
    options.add_argument("--data", type=Path, required=True, help="ESC-10, all of it")
    given = options.parse_args(argv)
    leave_cores_free()
    dataset = load_dataset(given.data, clips_per_class=PER_CLASS)
    record_demo(Classifier.from_artifact(SHIPPED_ARTIFACT), dataset)
    print(f"wrote {DEMO_FILE.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
