"""How training went, epoch by epoch, as tables: TensorBoard's own numbers, without TensorBoard.

A run's event files hold them; ``write_curves`` keeps them beside a run as Parquet, a thousandth of the size, so that a
run can be handed on without its events. Confusion matrices are counts of held-out clips at each validated epoch.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from core.training.runs import write_table

if TYPE_CHECKING:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CURVES, CONFUSIONS = "curves.parquet", "confusions.parquet"
CURVE_COLUMNS = ("member", "epoch", "metric", "value")
CONFUSION_COLUMNS = ("member", "epoch", "true", "predicted", "n")  # true and predicted: class indices
CONFUSION_TAG = "val/confusion_counts"
_SKIPPED = ("final/",)  # hyper-parameter results, not curves


def read_curves(folder: Path) -> pd.DataFrame:
    """Every scalar of a run, or of all members of a cross-validation: ``CURVE_COLUMNS``; empty where there is none.

    ``curves.parquet`` is read where there is one, else the TensorBoard events, also of a run that is still going.
    """
    if (folder / CURVES).exists():
        return pd.read_parquet(folder / CURVES)
    return _stacked([_scalars(run, _events(run)) for run in _runs(folder)], CURVE_COLUMNS)


def read_confusions(folder: Path) -> pd.DataFrame:
    """How many held-out clips of each class were taken for which, at each validated epoch: ``CONFUSION_COLUMNS``."""
    if (folder / CONFUSIONS).exists():
        return pd.read_parquet(folder / CONFUSIONS)
    return _stacked([_confusions(run, _events(run)) for run in _runs(folder)], CONFUSION_COLUMNS)


def write_curves(folder: Path) -> None:
    """Keep what TensorBoard's events say as ``curves.parquet`` and ``confusions.parquet`` in ``folder``.

    Runs whose events are gone keep what these files said of them before.
    """
    runs = [(run, _events(run)) for run in _runs(folder)]
    for name, columns, read in ((CURVES, CURVE_COLUMNS, _scalars), (CONFUSIONS, CONFUSION_COLUMNS, _confusions)):
        tables = [read(run, events) for run, events in runs]
        if (folder / name).exists():
            before = pd.read_parquet(folder / name)
            tables.insert(0, before[~before["member"].isin([run.name for run, _ in runs])])
        write_table(folder / name, _stacked(tables, columns))


def stamp(folder: Path) -> tuple[tuple[str, int], ...]:
    """Sizes of everything curves are read from: changes whenever they would."""
    files = [
        path for pattern in ("events.out.*", "members/*/events.out.*", "*.parquet") for path in folder.glob(pattern)
    ]
    return tuple(sorted((str(path.relative_to(folder)), path.stat().st_size) for path in files))


def _runs(folder: Path) -> list[Path]:
    """The run itself, and the members of a cross-validation; only those that wrote events."""
    found = [folder, *sorted(path for path in (folder / "members").glob("*") if path.is_dir())]
    return [run for run in found if any(run.glob("events.out.*"))]


def _events(run: Path) -> EventAccumulator:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.WARNING)  # it tells each file it opens
    kept = {"scalars": 0, "tensors": 0, "images": 1, "histograms": 1, "audio": 1, "compressedHistograms": 1}
    return EventAccumulator(str(run), size_guidance=kept).Reload()


def _scalars(run: Path, events: EventAccumulator) -> pd.DataFrame:
    rows = [
        (run.name, event.step, tag, event.value)
        for tag in events.Tags()["scalars"]
        if not tag.startswith(_SKIPPED)
        for event in events.Scalars(tag)
    ]
    table = pd.DataFrame(rows, columns=list(CURVE_COLUMNS))
    return table.drop_duplicates(["metric", "epoch"], keep="last")  # a resumed run repeats the epoch it was killed in


def _confusions(run: Path, events: EventAccumulator) -> pd.DataFrame:
    from tensorboard.util.tensor_util import make_ndarray

    if CONFUSION_TAG not in events.Tags()["tensors"]:
        return pd.DataFrame(columns=list(CONFUSION_COLUMNS))
    by_epoch = {event.step: np.asarray(make_ndarray(event.tensor_proto)) for event in events.Tensors(CONFUSION_TAG)}
    rows = [
        (run.name, epoch, int(true), int(predicted), int(counts[true, predicted]))
        for epoch, counts in by_epoch.items()
        for true, predicted in np.argwhere(counts)
    ]
    return pd.DataFrame(rows, columns=list(CONFUSION_COLUMNS))


def _stacked(tables: list[pd.DataFrame], columns: tuple[str, ...]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    if not filled:
        return pd.DataFrame(
            {name: pd.Series(dtype="str" if name in ("member", "metric") else "float") for name in columns}
        )
    return pd.concat(filled, ignore_index=True).astype({"epoch": "int32"})
