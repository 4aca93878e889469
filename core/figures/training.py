"""Pictures for TensorBoard, as (H, W, 3) uint8 arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

SMALLEST_INCHES, CLASS_INCHES, LABELS_INCHES = 6.0, 0.18, 3.0  # a line of 8 points takes 0.15 inches
SLANTED = 12  # labels under the columns; more stand upright


def confusion_picture(answers: Sequence[tuple[int, int]], class_names: Sequence[str]) -> NDArray[np.uint8]:
    """Counts of (true, predicted) class indices."""
    counts = confusion_counts(answers, len(class_names))
    side = max(SMALLEST_INCHES, LABELS_INCHES + CLASS_INCHES * len(class_names))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    slant = {"rotation": 60, "ha": "right"} if len(class_names) <= SLANTED else {"rotation": 90}
    axes.set_xticks(range(len(class_names)), class_names, fontsize=8, **slant)
    axes.set_yticks(range(len(class_names)), class_names, fontsize=8)
    axes.set(xlabel="predicted", ylabel="true", title=f"Held-out clips, n = {len(answers)}")
    for true, predicted in np.argwhere(counts):
        dark = counts[true, predicted] > counts.max() / 2
        axes.text(predicted, true, str(counts[true, predicted]), ha="center", va="center", color="w" if dark else "k")
    return _pixels(figure)


def confusion_counts(answers: Sequence[tuple[int, int]], n_classes: int) -> NDArray[np.int32]:
    """(K, K): row true, column predicted."""
    counts = np.zeros((n_classes, n_classes), dtype=np.int32)
    for true, predicted in answers:
        counts[true, predicted] += 1
    return counts


def spectrogram_picture(features: NDArray[np.float32], title: str) -> NDArray[np.uint8]:
    """What the network saw: level-normalised log-mel (F, T), masks included."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.imshow(features, origin="lower", aspect="auto", cmap="magma")
    axes.set(xlabel="frame", ylabel="mel band")
    axes.set_title(title, fontsize=9)
    return _pixels(figure)


def _pixels(figure: Figure) -> NDArray[np.uint8]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
