"""Launching trainings and watching them, on the Admin page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import streamlit as st

from app import components, services, state, words
from app.training_runs import live_curves
from core.config import ROOT, TrainConfig
from core.errors import EarshotError

if TYPE_CHECKING:
    from core.administration import Administration
    from core.dataset import Layout
    from core.jobs import Augmentation, Evaluation, Job, Progress, TrainingRequest, Where

T = TypeVar("T", bound=str)
POLL = "2s"
SHOWN_ENDED = 5  # jobs that ended, below the running and waiting ones
WHERE: dict[Where, str] = {"local": "This machine", "modal": "Modal, on a GPU"}
WAITS: dict[Where, str] = {
    "local": "Waits for its turn: one training at a time on this machine, first come, first served.",
    "modal": "Waits for a machine on Modal.",
}
PROTOCOL: dict[Evaluation, str] = {"fold": "One fold", "crossval": "Cross-validation"}
AUGMENTATION: dict[Augmentation, str] = {"full": "Full", "mild": "Mild", "off": "Off"}
ICONS = {
    "queued": ":material/schedule:",
    "running": ":material/directions_run:",
    "finished": ":material/check_circle:",
    "failed": ":material/error:",
    "cancelled": ":material/cancel:",
    "dead": ":material/heart_broken:",
}


def launch_panel(desk: Administration) -> None:
    """Ask what to train, and queue it."""
    st.subheader("Launch a training", anchor=False)
    dataset = _dataset()
    try:
        layout = services.datasets.layout(dataset)
    except EarshotError as error:
        components.error_box(error)
        return
    st.caption(
        f"{words.literal(layout.name)}: {layout.n_clips:,} clips, {len(layout.class_names)} classes, "
        f"{len(layout.folds)} folds."
    )
    request = _request(dataset, layout)
    if st.button("Launch", type="primary", icon=":material/play_arrow:", key="admin_launch"):
        with components.errors_shown():
            job = desk.launch(request)
            st.toast(f"Queued {job.id}.", icon=":material/schedule:")


def _dataset() -> Path:
    options = [shown(path) for path in services.datasets.known()]
    chosen = st.selectbox(
        "Dataset",
        options,
        key=state.LAUNCH_DATASET.name,
        accept_new_options=True,
        width=520,
        help="A folder on this machine in ESC-50's layout: audio/ and meta/esc50.csv. Type a path for another one.",
    )
    path = Path(chosen or options[0]).expanduser()
    return path if path.is_absolute() else ROOT / path


def shown(path: Path) -> str:
    """A path as short as it is clear."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def _request(dataset: Path, layout: Layout) -> TrainingRequest:
    from core.jobs import TrainingRequest

    with st.container(horizontal=True):
        protocol = _one_of(
            "Evaluation",
            PROTOCOL,
            state.LAUNCH_PROTOCOL,
            "One fold is quick and uncalibrated. A cross-validation trains every fold and one network on all clips, "
            "and fits calibration and the rule for unknown sounds.",
        )
        where = where_to_train(state.LAUNCH_WHERE)
        augmentation = _one_of(
            "Augmentation",
            AUGMENTATION,
            state.LAUNCH_AUGMENTATION,
            "Mixtures, stretching, noise, reverberation, masks. Full is what the shipped model was trained with.",
        )
    fold: int | None = 1
    seed, seeds = 0, 1
    with st.container(horizontal=True):
        if protocol == "fold":
            folds: list[int | None] = [*layout.folds, None]
            fold = st.selectbox("Held-out fold", folds, format_func=_fold, key=state.LAUNCH_FOLD.name, width=200)
            seed = int(st.number_input("Seed", 0, 10_000, 0, key=state.LAUNCH_SEED.name, width=140))
        else:
            seeds = int(st.number_input("Seeds", 1, 10, 1, key=state.LAUNCH_SEEDS.name, width=140))
        epochs = int(st.number_input("Epochs", 1, 5_000, TrainConfig().epochs, key=state.LAUNCH_EPOCHS.name, width=140))
        rate = st.number_input(
            "Learning rate",
            1e-6,
            1.0,
            TrainConfig().learning_rate,
            format="%.5f",
            step=1e-4,
            key=state.LAUNCH_RATE.name,
            width=160,
            help="The highest; it rises to it for a tenth of the training and falls to nothing.",
        )
    return TrainingRequest(
        where=where,
        protocol=protocol,
        dataset=dataset,
        fold=fold,
        seed=seed,
        seeds=seeds,
        epochs=epochs,
        learning_rate=rate,
        augmentation=augmentation,
    )


def _one_of(label: str, options: dict[T, str], key: state.Key[T], why: str | None = None) -> T:
    """One of a few, always one."""
    chosen: T = st.segmented_control(
        label,
        list(options),
        format_func=options.__getitem__,
        default=key.default,
        required=True,
        key=key.name,
        help=why,
    )
    return chosen


def where_to_train(key: state.Key[Where]) -> Where:
    """Ask on which of the machines that are set up."""
    return _one_of("Where", {place: WHERE[place] for place in services.training.trainers()}, key)


def _fold(fold: int | None) -> str:
    return "None: train on all clips" if fold is None else str(fold)


def jobs_panel(desk: Administration) -> None:
    """Running and waiting jobs, and the last that ended; looks again by itself while one of them moves."""
    st.subheader("Jobs", anchor=False)
    moving = any(job.active for job in services.training.jobs())
    st.fragment(_jobs, run_every=POLL if moving else None)(desk, moving)


def _jobs(desk: Administration, moving: bool) -> None:
    with components.errors_shown():
        jobs = services.training.jobs()
        active = [job for job in jobs if job.active]
        if bool(active) != moving:
            st.rerun()  # the whole page: polling starts or stops, and finished runs have changed
        if not jobs:
            components.empty_state("Nothing was launched yet.")
        for job in sorted(active, key=lambda job: (job.state != "running", job.queued_at)):
            _active_job(desk, job)
        for job in [job for job in jobs if not job.active][:SHOWN_ENDED]:
            _ended_job(desk, job)


def _active_job(desk: Administration, job: Job) -> None:
    try:
        progress = services.training.trainers()[job.request.where].follow(job.id)
    except EarshotError as error:
        components.error_box(error)
        return
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"{ICONS[job.state]} **{words.literal(job.id)}** · {job.state} · {_what(job)}", width="stretch")
            if st.button("Cancel", icon=":material/stop:", key=f"admin_cancel_{job.id}"):
                _act(lambda: desk.cancel(job.id))
        if progress.job.message:
            st.caption(words.literal(progress.job.message))
        if progress.job.state == "queued":
            st.caption(WAITS[job.request.where])
            return
        _progress(progress)


def _progress(progress: Progress) -> None:
    share = min(1.0, progress.epoch / max(1, progress.epochs))
    left = words.remaining(progress.eta_s)
    stage = f" · {progress.stage}" if progress.stage else ""
    st.progress(share, text=f"Epoch {progress.epoch} of {progress.epochs}{words.literal(stage)} · {left}")
    if progress.metrics:
        st.caption(words.epoch_in_words(progress.metrics))
        live_curves(progress.job.run, key=f"live_{progress.job.id}")
    with st.expander("Log", expanded=False):
        st.code("\n".join(progress.log) or "Nothing was said yet.", language=None, height=240)


def _ended_job(desk: Administration, job: Job) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        told = f" · {words.literal(job.message)}" if job.message else ""
        st.markdown(
            f"{ICONS[job.state]} **{words.literal(job.id)}** · {job.state} · {_what(job)}{told}", width="stretch"
        )
        if job.resumable and st.button(
            "Resume",
            icon=":material/resume:",
            key=f"admin_resume_{job.id}",
            help="Goes on at its last finished epoch and ends with the weights it would have had.",
        ):
            _act(lambda: desk.resume(job.id))


def _what(job: Job) -> str:
    request = job.request
    if request.protocol == "crossval":
        folds = f"cross-validation, {request.seeds} seed{'s' * (request.seeds != 1)}"
    else:
        folds = "all clips" if request.fold is None else f"fold {request.fold} held out"
    return f"{words.literal(request.dataset.name)}, {folds}, {request.epochs} epochs, {WHERE[request.where].lower()}"


def _act(action: object) -> None:
    assert callable(action)
    with components.errors_shown():
        action()
        st.rerun()
