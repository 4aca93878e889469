"""A small dataset in ESC-50's layout whose classes anyone could tell apart."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile


def write_dataset(
    root: Path,
    *,
    n_classes: int = 3,
    folds: int = 3,
    per_class_and_fold: int = 2,
    duration_s: float = 1.0,
    sample_rate_hz: int = 44_100,
    seed: int = 0,
) -> None:
    """Write ``audio/`` and ``meta/esc50.csv``. Class k is a tone of its own pitch, pulsed at its own rate, in noise."""
    rng = np.random.default_rng(seed)
    (root / "audio").mkdir(parents=True, exist_ok=True)
    (root / "meta").mkdir(exist_ok=True)
    rows, source = [], 100
    for fold in range(1, folds + 1):
        for target in range(n_classes):
            for _ in range(per_class_and_fold):
                source += 1
                name = f"{fold}-{source}-A-{target}.wav"
                sound = _sound(target, n_classes, duration_s, sample_rate_hz, rng)
                soundfile.write(root / "audio" / name, sound, sample_rate_hz)
                rows.append([name, fold, target, f"class_{target}", False, source, "A"])
    with (root / "meta" / "esc50.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["filename", "fold", "target", "category", "esc10", "src_file", "take"])
        writer.writerows(rows)


def _sound(target: int, n_classes: int, duration_s: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    time_s = np.arange(round(duration_s * rate)) / rate
    pitch_hz = 200 * (20 ** (target / max(n_classes - 1, 1))) * rng.uniform(0.95, 1.05)
    pulse = np.sin(2 * np.pi * (2 + 3 * (target % 4)) * time_s + rng.uniform(0, 6.28)) > 0
    tone = 0.3 * np.sin(2 * np.pi * pitch_hz * time_s) * pulse
    return (tone + 0.01 * rng.standard_normal(time_s.size)).astype(np.float32)
