"""What makes a clip hard: the eleven gold clips in tables, of the model that answers.

The shipped model's tables lie in ``core/assets/gold`` (made by ``make gold``), so that an export is complete before
any sound has been downloaded. Another model's are computed from the clips where these are at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.artifact import read_manifest
from core.classifier import Classifier
from core.config import ROOT
from core.dataset import GOLD, HARD_PAIR
from core.descriptors import NAMES, spreads
from core.download import read_checksums
from core.errors import DatasetError
from core.explain import explain
from core.gold import gold_clips
from core.inference import infer, softmax
from core.tableau import schema

FOLDER = ROOT / "core" / "assets" / "gold"
TABLES = (schema.CLIP_FEATURES, schema.MEL_BANDS, schema.WINDOWS, schema.FEATURE_MAPS)
STEP_S = 0.1  # of the spectrograms
HEARD_S, HOP_S = 1.0, 0.5  # stretches that are heard by themselves
DIGITS = 6


def compute(classifier: Classifier, folder: Path) -> dict[str, pa.Table]:
    """The tables of the gold clips in ``folder/audio``, asked of ``classifier``. Raises ``DatasetError``."""
    truth = {row["filename"]: row["category"] for row in read_checksums()}
    rows: dict[str, list[pd.DataFrame]] = {table.name: [] for table in TABLES}
    for name, data in gold_clips(folder).items():
        samples = classifier.decode(data).samples
        rows["clip_features"].append(_features(classifier, name, truth[name], data, samples))
        why = explain(classifier, samples)
        mel = _mel_bands(name, why.log_mel, why.mel_hz, why.hop_s)
        rows["mel_bands"].append(mel.assign(clip_name=_called(name, truth[name]), true_label=truth[name]))
        rows["feature_maps"] += [_channels(name, stage.name, stage.strength) for stage in why.stages]
        rows["windows"].append(_heard(classifier, name, samples))
    return {table.name: schema.conform(table, pd.concat(rows[table.name], ignore_index=True)) for table in TABLES}


def record(tables: Mapping[str, pa.Table], folder: Path = FOLDER) -> None:
    """Hold ``tables`` from now on."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in TABLES:
        # Levels to a tenth of a decibel: dictionaries serve them better than ``write_parquet``'s split floats.
        pq.write_table(tables[table.name], folder / f"{table.name}.parquet", compression="zstd", compression_level=19)


def recorded(folder: Path = FOLDER) -> dict[str, pa.Table]:
    """The tables held. Raises ``DatasetError``."""
    try:
        return {table.name: pq.read_table(folder / f"{table.name}.parquet", schema=table.arrow) for table in TABLES}
    except (OSError, pa.ArrowException) as exc:
        raise DatasetError(
            f"Expected the tables of the gold clips in {folder}, got: {exc}. Make them again: make gold.",
            code="no_gold",
        ) from exc


def served(artifact: Path, data: Path) -> dict[str, pa.Table]:
    """The tables of the model in ``artifact``: held, or computed from the clips in ``data``; none where neither is."""
    tables = recorded()
    if read_manifest(artifact).fingerprint == fingerprint(tables):
        return tables
    try:
        gold_clips(data)
    except DatasetError:
        return {}
    return compute(Classifier.from_artifact(artifact), data)


def fingerprint(tables: Mapping[str, pa.Table]) -> str:
    """Of the model that ``tables`` are of."""
    return str(tables["clip_features"]["fingerprint"][0])


def _features(classifier: Classifier, name: str, truth: str, data: bytes, samples: NDArray[np.float32]) -> pd.DataFrame:
    answer = classifier.predict(data)
    said = {clip.filename: clip.reason for clip in GOLD}
    facts = {
        "clip_id": name,
        "clip_name": _called(name, truth),
        "true_label": truth,
        "predicted_label": answer.label,
        "confidence": round(answer.confidence, DIGITS),
        "unknown": answer.unknown,
        "hard": name in HARD_PAIR,
        "why": said[name],
        "fingerprint": answer.fingerprint,
        "thumbnail_path": None,
        "audio_path": None,
    }
    numbers = answer.descriptors | spreads(samples, classifier.manifest.audio.sample_rate_hz)
    rounded = {key: round(numbers[key], DIGITS) for key in (*NAMES, "centroid_spread_hz", "rms_spread_db")}
    return pd.DataFrame([facts | rounded])


def _called(name: str, truth: str) -> str:
    """True class and clip, for people."""
    return f"{truth.replace('_', ' ')} {Path(name).stem}"


def _mel_bands(name: str, log_mel: NDArray[np.float32], mel_hz: NDArray[np.float64], hop_s: float) -> pd.DataFrame:
    """Means over steps of ``STEP_S``; a last step that is not full is left out."""
    columns = max(round(STEP_S / hop_s), 1)
    steps = max(log_mel.shape[1] // columns, 1)
    means = np.stack([part.mean(axis=1) for part in np.array_split(log_mel[:, : steps * columns], steps, axis=1)])
    step, band = np.meshgrid(np.arange(steps), np.arange(len(mel_hz)), indexing="ij")
    return pd.DataFrame(
        {
            "clip_id": name,
            "band": band.ravel(),
            "frequency_hz": np.round(mel_hz[band.ravel()], 1),
            "time_s": np.round(step.ravel() * columns * hop_s, 3),
            "mean_db": np.round(means.ravel().astype(np.float64), 2),
        }
    )


def _channels(name: str, stage: str, strength: NDArray[np.float32]) -> pd.DataFrame:
    rank = np.empty(len(strength), dtype=np.int64)
    rank[np.argsort(-strength, kind="stable")] = np.arange(1, len(strength) + 1)
    return pd.DataFrame(
        {
            "clip_id": name,
            "stage": stage,
            "channel": np.arange(len(strength)),
            "strength": np.round(strength.astype(np.float64), DIGITS),
            "rank": rank,
        }
    )


def _heard(classifier: Classifier, name: str, samples: NDArray[np.float32]) -> pd.DataFrame:
    """Class probabilities of each stretch, as if nothing else of the clip were known."""
    audio, names = classifier.manifest.audio, classifier.manifest.class_names
    length, hop = round(HEARD_S * audio.sample_rate_hz), round(HOP_S * audio.sample_rate_hz)
    rows = []
    for start in range(0, max(samples.size - length, 0) + 1, hop):
        logits = infer(classifier.net, samples[start : start + length], audio).logits
        p = softmax(logits, classifier.manifest.temperature)
        spans = {"start_s": start / audio.sample_rate_hz, "end_s": (start + length) / audio.sample_rate_hz}
        rows += [
            {"clip_id": name, **spans, "label": label, "probability": round(float(q), DIGITS)}
            for label, q in zip(names, p, strict=True)
        ]
    return pd.DataFrame(rows)
