"""Pictures for TensorBoard, as (H, W, 3) uint8 arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray


def confusion_picture(answers: Sequence[tuple[int, int]], class_names: Sequence[str]) -> NDArray[np.uint8]:
    """Counts of (true, predicted) class indices."""
    counts = np.zeros((len(class_names), len(class_names)), dtype=int)
    for true, predicted in answers:
        counts[true, predicted] += 1
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    axes.set_xticks(range(len(class_names)), class_names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(class_names)), class_names, fontsize=8)
    axes.set(xlabel="predicted", ylabel="true", title=f"Held-out clips, n = {len(answers)}")
    for true, predicted in np.argwhere(counts):
        dark = counts[true, predicted] > counts.max() / 2
        axes.text(predicted, true, str(counts[true, predicted]), ha="center", va="center", color="w" if dark else "k")
    return _pixels(figure)


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
