"""Training: every run here, its curves, and the way to the same in TensorBoard. Read-only."""

import streamlit as st

from app import components, services, state, words
from app.training_runs import curves_panel, runs_table, tensorboard_command

st.title("Training", anchor=False)

with components.errors_shown():
    runs = {run.name: run for run in services.training.runs()}
    st.caption(
        "Runs in the runs folder, and the one that the shipped model comes from. Accuracy is of clips that the "
        "answering network never heard. The Admin page starts new ones, and so does `make train`."
    )
    runs_table(list(runs.values()), key="training_runs")
    name = st.selectbox(
        "Run",
        list(runs),
        key=state.TRAINING_RUN.name,
        bind="query-params",
        width=420,
    )
    run = runs[name]
    st.caption(words.run_in_words(run))
    curves_panel(run, key="training")
    tensorboard_command(run)
