"""Sample inspector: one clip after the other, with all that is known about each answer."""

import streamlit as st

from app import components
from core.sources import shipped

COLUMNS = {"true": "label", "predicted": "predicted", "seed": "seed", "clip": "clip_id"}

st.title("Sample inspector", anchor=False)

with components.errors_shown():
    frame = shipped().frame()
    for name, column in COLUMNS.items():
        if name in st.query_params:
            frame = frame[frame[column].astype(str) == st.query_params[name]]
    st.caption(f"{len(frame):,} answers of networks that never heard the clip.")
    st.dataframe(frame[["clip_id", "label", "predicted", "confidence", "fold", "seed"]], hide_index=True)
