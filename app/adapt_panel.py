"""Adapting the served model to one's own sounds, on the Admin page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app import components, services, state, words
from app.jobs_panel import where_to_train

if TYPE_CHECKING:
    from core.adaptation import Plan
    from core.administration import Administration
    from core.dataset import Dataset

EPOCHS, LEARNING_RATE = 20, 2e-4  # a tenth of the training's rate: the model is near its end already


def adapt_panel(desk: Administration) -> None:
    """Which own sounds there are, and a training that starts from the served model with them."""
    st.caption(
        "Sounds that were kept in the log and that somebody confirmed or corrected join the dataset, and the served "
        "model is trained on with both. It is judged as every model is, and serves nobody until you promote it."
    )
    base = services.datasets.configured()
    if base is None:
        st.info(
            "The model's own clips are needed beside yours, or it forgets them. Set `EARSHOT_DATA_DIR`, or download "
            "them on the Classify page.",
            icon=":material/info:",
        )
        return
    planned = services.administration.adaptation_plan(base)
    _told(planned)
    if not planned.taken:
        components.empty_state(
            "No sound to learn from yet. Set `EARSHOT_KEEP_AUDIO=1`, classify sounds, confirm or correct the answers."
        )
        return
    _launch(desk, base, planned)


def _told(planned: Plan) -> None:
    if planned.taken:
        st.dataframe(
            [
                {"Class": words.plain(name), "Own sounds": n, "New": name in planned.new_classes}
                for name, n in planned.counts.items()
            ],
            hide_index=True,
            width=420,
            key="admin_own_sounds",
            alt="Own sounds by class.",
        )
    for reason, n in planned.left_out.items():
        st.caption(f":material/remove: {n:,} left out: {words.literal(reason)}.")


def _launch(desk: Administration, base: Dataset, planned: Plan) -> None:
    with st.container(horizontal=True):
        where = where_to_train(state.ADAPT_WHERE)
        epochs = int(st.number_input("Epochs", 1, 1_000, EPOCHS, key=state.ADAPT_EPOCHS.name, width=140))
        rate = st.number_input(
            "Learning rate", 1e-6, 1e-1, LEARNING_RATE, format="%.5f", step=1e-4, key=state.ADAPT_RATE.name, width=160
        )
    st.caption(
        f"A cross-validation of {len(base.folds)} folds and a network on everything: {len(base.folds) + 1} trainings "
        f"of {epochs} epochs. A clip counts as held out only if neither the new network nor the one it starts from was "
        "trained on it. From the shipped model, that leaves your own sounds alone, and its calibration is kept; from a "
        "cross-validation of your own, all clips. People correct what was wrong, so the served model looks worse on "
        "these sounds than it is."
    )
    if where == "modal":
        st.caption("Your sounds and the model are uploaded to the Volume of your Modal account.")
    if st.button("Adapt", type="primary", icon=":material/tune:", key="admin_adapt"):
        with components.errors_shown():
            start = services.administration.starting_model()
            job = desk.adapt(base, planned, init=start, epochs=epochs, learning_rate=rate, where=where)
            st.toast(f"Queued {job.id}.", icon=":material/schedule:")
