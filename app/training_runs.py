"""What trainings there are and how one went: table, curves, confusion by epoch, TensorBoard. For two pages."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app import components, services, state, words
from core.config import ROOT

if TYPE_CHECKING:
    import pandas as pd

    from core.training.overview import RunFacts

LINES = 6  # of the table before it scrolls
MEAN = "All networks"
READ_AS = {
    "Loss (nats)": "Lower is better. Training loss is of augmented mixtures, so held-out loss may well lie below it.",
    "Accuracy": "Higher is better. Training counts mixtures of two sounds, so held-out accuracy may well lie above it.",
    "Learning rate": "How far each step goes: it rises for a tenth of the training, then falls to nothing.",
}


def runs_table(runs: Sequence[RunFacts], *, key: str) -> None:
    """One line a run."""
    st.dataframe(
        [
            {
                "Run": run.name,
                "State": words.plain(run.state),
                "Accuracy": words.accuracy(run),
                "Changed (UTC)": run.changed_at,
                "Dataset": run.dataset,
                "Trained": f"{run.protocol}, {run.epochs} epochs" if run.protocol else "",
                "Model": run.fingerprint[:12],
            }
            for run in runs
        ],
        hide_index=True,
        height="content" if len(runs) <= LINES else components.TWO_LINES_PX * LINES,
        row_height=components.TWO_LINES_PX,
        key=key,
        column_config={
            "Run": st.column_config.TextColumn(width=150),
            "Accuracy": st.column_config.TextColumn(width=150),
            "Changed (UTC)": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", width=140),
            "Trained": st.column_config.TextColumn(width=180),
        },
        alt="Every training run with its state, data and held-out accuracy.",
    )


def curves_panel(run: RunFacts, *, key: str) -> None:
    """Curves of ``run`` as far as it has come, of all its networks or one of them."""
    from core.training.overview import classes_of

    curves = services.training.curves(run.path)
    names = {member: classes_of(run, member) for member in sorted(set(curves["member"]))}
    chosen = _member(list(names), key)
    together = [member for member in names if names[member] == run.class_names] or list(names)
    shown = together if chosen is None else [chosen]
    _curves(curves[curves["member"].isin(shown)], key)
    if chosen is None and len(together) < len(names):
        st.caption(
            f"{len(names) - len(together)} more networks had classes left out, to measure how unknown sounds are told: "
            "choose one to see it."
        )
    _confusion(run, shown, names[shown[0]] if shown else run.class_names, key)


def live_curves(folder: Path, *, key: str) -> None:
    """Curves of a run that is going on, as far as it has come."""
    from core.figures.curves import CURVES, curve_figure

    curves = services.training.curves(folder)
    for axis, column in zip(CURVES, st.columns(len(CURVES)), strict=True):
        column.plotly_chart(
            curve_figure(curves, axis),
            key=f"{key}_{axis.split()[0].lower()}",
            config=components.NO_TOOLS,
            alt=f"{axis} by epoch, so far.",
        )


def tensorboard_command(run: RunFacts) -> None:
    """The command that opens the same folder in TensorBoard."""
    st.caption("The same in TensorBoard, with pictures of what the network heard and all hyper-parameters:")
    shown = run.path.relative_to(ROOT) if run.path.is_relative_to(ROOT) else run.path
    st.code(f".venv/bin/tensorboard --logdir {shlex.quote(str(shown))}", language="bash")


def _member(members: list[str], key: str) -> str | None:
    if len(members) < 2:
        return None
    options = [MEAN, *members]
    chosen = st.selectbox("Network", options, key=state.CURVES_MEMBER.of(key).name, width=320)
    return None if chosen == MEAN else chosen


def _curves(curves: pd.DataFrame, key: str) -> None:
    from core.figures.curves import CURVES, curve_figure

    networks = curves["member"].nunique()
    for axis, column in zip(CURVES, st.columns(len(CURVES)), strict=True):
        with column:
            st.plotly_chart(
                curve_figure(curves, axis),
                key=f"{key}_{axis.split()[0].lower()}",
                config=components.NO_TOOLS,
                alt=f"{axis} by epoch.",
            )
            st.caption(READ_AS[axis])
    if networks > 1:
        st.caption(f"Lines are means over {networks} networks; bands reach from the lowest of them to the highest.")


def _confusion(run: RunFacts, members: Sequence[str], class_names: Sequence[str], key: str) -> None:
    """Of ``members``, which tell the same classes apart."""
    from core.figures.curves import confusion_by_epoch_figure

    st.subheader("Confusion by epoch", anchor=False)
    counts = services.training.confusions(run.path)
    counts = counts[counts["member"].isin(members)]
    if counts.empty:
        st.caption(
            "This run wrote no counts of its held-out clips: it held none out, or has not come that far, or an earlier "
            "version trained it. The Performance page has the confusion of the last epoch."
        )
        return
    epochs = sorted(set(counts["epoch"].astype(int)))
    epoch = epochs[-1]
    if len(epochs) > 1:
        epoch = st.select_slider("Epoch", epochs, value=epochs[-1], key=state.CURVES_EPOCH.of(key).name)
    shown = counts[counts["epoch"] == epoch]
    st.plotly_chart(
        confusion_by_epoch_figure(shown, class_names),
        key=f"{key}_confusion",
        config=components.NO_TOOLS,
        alt=f"Which held-out classes were taken for which after epoch {epoch}.",
    )
    n, right = int(shown["n"].sum()), int(shown.loc[shown["true"] == shown["predicted"], "n"].sum())
    answers = "answers of all networks" if shown["member"].nunique() > 1 else "held-out clips"
    st.caption(
        f"n = {n:,} {answers} after epoch {epoch}, {words.percent(right / n)} on the diagonal, which is right. "
        "A strong cell off it is a pair that the network mixes up; the pointer names its classes."
    )
