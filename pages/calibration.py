"""Calibration: how far confidence can be trusted, and what accepting only sure answers costs."""

import streamlit as st

from app import calibrated, components
from app.measured import labelled
from app.records_input import records_chosen

st.title("Calibration", anchor=False)

with components.errors_shown():
    records = records_chosen()
    if not labelled(records):
        st.stop()
    chosen = calibrated.on_scale(records)
    calibrated.reliability(chosen)
    calibrated.measures(records, chosen)
    calibrated.accepting(chosen)
    calibrated.thresholds(chosen)
    calibrated.conformal(chosen)
    calibrated.by_class(chosen)
