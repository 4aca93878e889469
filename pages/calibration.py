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
    calibrated.reliability(records)
    calibrated.measures(records)
    calibrated.accepting(records)
    calibrated.thresholds(records)
    calibrated.conformal(records)
    calibrated.by_class(records)
