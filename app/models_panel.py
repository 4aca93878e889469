"""Which model serves, and which finished run could take its place: compare, promote, roll back, export."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app import components, services, state, words
from app.training_runs import runs_table

if TYPE_CHECKING:
    from core.administration import Administration
    from core.training.overview import RunFacts


def served_panel(desk: Administration) -> None:
    """The model that answers now, and the way back to the one before."""
    from core.served import served

    settings = services.environment.settings()
    fingerprint = services.environment.fingerprint()
    promotions = served(settings.runs_dir)
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**Serving {fingerprint[:12]}** · {_origin(promotions.current, settings.artifact_is_set)}", width="stretch"
        )
        if promotions.current is not None and not settings.artifact_is_set:
            before = promotions.previous.fingerprint[:12] if promotions.previous else "the shipped model"
            if st.button(f"Roll back to {before}", icon=":material/undo:", key="admin_roll_back"):
                _act(desk.roll_back)
    if settings.artifact_is_set:
        st.info(
            f"`EARSHOT_ARTIFACT` names the model that answers: {words.literal(str(settings.artifact))}. It wins over "
            "whatever is promoted here; unset it and start anew to serve promoted models.",
            icon=":material/info:",
        )
    elif services.environment.modal_is_set_up():
        st.caption(
            "Modal serves the copy that it was deployed with, and its answers are refused while another model serves "
            "here. After a promotion or a roll-back: `modal deploy modal_backend.py`."
        )


def _origin(current: object, explicit: bool) -> str:
    from core.served import Promotion

    if explicit:
        return "named by EARSHOT_ARTIFACT"
    if not isinstance(current, Promotion):
        return "the shipped model"
    return f"promoted from {words.literal(current.run)} by {words.literal(current.by)}, {current.at:%Y-%m-%d %H:%M} UTC"


def models_panel(desk: Administration) -> None:
    """Finished runs side by side, and what may be done with one of them."""
    finished = {run.name: run for run in services.training.runs() if run.state == "finished" and run.fingerprint}
    own = {name: run for name, run in finished.items() if name != services.records.SHIPPED}
    if not own:
        components.empty_state("No run of yours has finished yet. Launch one under Train.")
        return
    runs_table(list(finished.values()), key="admin_runs")
    st.caption("Accuracy is of clips that the answering network never heard, with its 95 % interval (Wilson).")
    name = st.selectbox("Run", list(own), key=state.ADMIN_RUN.name, width=420)
    run = own[name]
    _compared(run, [other for other in finished if other != name])
    _tuned(run)
    _warn(run)
    with st.container(horizontal=True):
        serving = run.fingerprint == services.environment.fingerprint()
        if st.button(
            "Promote",
            type="primary",
            icon=":material/upgrade:",
            key="admin_promote",
            disabled=serving or services.environment.settings().artifact_is_set,
            help="Loads the model, replays its probe, and serves it from then on."
            if not serving
            else "It serves already.",
        ):
            _act(partial(desk.promote, run.name))
        st.download_button(
            "Export",
            partial(_zipped, desk, run.name),
            file_name=f"{run.name}.zip",
            mime="application/zip",
            icon=":material/folder_zip:",
            on_click="ignore",
            key="admin_export",
            help="Model, held-out records, metrics, curves and log as a zip, without the networks of single folds.",
        )
    st.caption(f"{words.run_in_words(run)} · model {run.fingerprint[:12]}", help=f"Fingerprint: {run.fingerprint}")


def _compared(run: RunFacts, others: Sequence[str]) -> None:
    """Whether the run answers the same held-out clips better than another."""
    from core.diagnostics.classification import compare

    other = st.selectbox(
        "Compare with",
        others,
        index=None,
        placeholder="Choose a run",
        key=state.ADMIN_OTHER.name,
        width=420,
        help="On the clips that both answered without having heard them.",
    )
    if other is None:
        return
    with components.errors_shown():
        found = compare(
            services.records.read(services.training.source_of(other)),
            services.records.read(services.training.source_of(run.name)),
        )
        st.markdown(words.comparison(run.name, other, found))
        st.caption(f"p by {found.test}: how often a difference as large comes about between equally good models.")


def _tuned(run: RunFacts) -> None:
    """What training on from another model gained and cost."""
    if run.start is None:
        return
    new, heard = run.start["new"], run.start["heard"]
    st.caption(f"Tuned from model {run.started_from[:12]}.")
    if new["n"]:
        st.caption(
            f"On {new['n']:,} held-out clips new to both: {words.percent(new['before'])} right before, "
            f"{words.percent(new['after'])} after."
        )
    if heard["n"]:
        st.caption(
            f"On {heard['n']:,} clips of held-out folds that the starting model was trained on, which flatters it: "
            f"{words.percent(heard['before'])} before, {words.percent(heard['after'])} after. A fall is what it forgot."
        )


def _warn(run: RunFacts) -> None:
    if not run.calibrated:
        st.warning(
            "This model is uncalibrated: its confidence is as it came out of training, and it calls no sound unknown. "
            "A cross-validation fits both.",
            icon=":material/warning:",
        )
    if run.accuracy is None:
        st.warning("No clip was held out, so nobody knows how well this model answers.", icon=":material/warning:")
    elif run.n < FEW_CLIPS:
        st.warning(
            f"Its accuracy rests on {run.n:,} held-out clips only: {words.accuracy(run)}.", icon=":material/warning:"
        )
    serving = services.environment.manifest().class_names
    lost = [words.plain(name).lower() for name in serving if name not in run.class_names]
    if lost:
        st.warning(
            f"It does not know what the serving model knows: {words.literal(', '.join(lost))}.",
            icon=":material/warning:",
        )


def _zipped(desk: Administration, run: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.zip"
        desk.export(run, file)
        return file.read_bytes()


def _act(action: object) -> None:
    assert callable(action)
    with components.errors_shown():
        action()
        st.rerun()


FEW_CLIPS = 80  # of one fold of ESC-10: an interval of ± 5 points at 95 %
