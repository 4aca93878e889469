"""Drift: have the sounds moved away from those the model was trained on, and by what?"""

import streamlit as st

from app import components, drifted, services
from app.drift_input import pair_chosen

st.title("Drift", anchor=False)
st.caption(
    "Have the sounds moved away from those the model was tested on? Current sounds are held against held-out clips, "
    "each difference against what chance alone gives at this number of sounds."
)

with components.errors_shown():
    reference, current = pair_chosen()
    report = services.drift.report(reference, current)
    drifted.verdict(report)
    if not len(current) or not len(reference):
        st.stop()
    drifted.tests(report)
    drifted.effects(report)
    drifted.distributions(reference, current, report)
    drifted.classes(report)
    drifted.where(current)
    drifted.days(reference, current)
    drifted.notes(report)
