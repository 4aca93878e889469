"""Failure modes: which clips fail, what they have in common, and how much it takes."""

import streamlit as st

from app import components, state
from app.failure_patterns import map_of_sounds, noise, weak_slices
from app.failures import confusions, doubtful_labels, errors, near_duplicates
from app.records_input import records_chosen

SECTIONS = {
    "Errors": (errors,),
    "Confusions": (confusions,),
    "Map": (map_of_sounds,),
    "Weak slices": (weak_slices,),
    "Labels and copies": (doubtful_labels, near_duplicates),
    "Noise": (noise,),
}

st.title("Failure modes", anchor=False)

with components.errors_shown():
    records = records_chosen()
    if not len(records):
        components.empty_state("No answers yet: classify some sounds, or choose other records.")
        st.stop()
    tabs = st.tabs(list(SECTIONS), key=state.FAILURES_SECTION.name, on_change="rerun", bind="query-params")
    for tab, draw in zip(tabs, SECTIONS.values(), strict=True):
        if tab.open:
            with tab, components.errors_shown():
                for section in draw:
                    section(records)
