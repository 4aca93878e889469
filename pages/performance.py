"""Performance: how often the answers are right, and what is taken for what."""

import streamlit as st

from app import components, measured
from app.records_input import records_chosen

st.title("Performance", anchor=False)

with components.errors_shown():
    records = records_chosen()
    if not measured.labelled(records):
        st.stop()
    measured.headline(records)
    matrix, beside = st.columns([5, 4])
    with matrix:
        measured.confusions(records)
    with beside:
        measured.folds(records)
    measured.pairs(records)
    measured.classes(records)
    measured.comparison(records)
