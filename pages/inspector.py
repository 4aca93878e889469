"""Sample inspector: one answer after the other, with all that is known about each."""

import streamlit as st

from app import clip_view, components, inspected
from app.records_input import records_chosen

st.title("Sample inspector", anchor=False)

with components.errors_shown():
    records = records_chosen()
    if not len(records):
        components.empty_state("There is no answer yet: classify a sound, or choose other records.")
        st.stop()
    selection = inspected.wanted(records)
    listed, card = st.columns([6, 5])
    with listed:
        position = inspected.choose(records, selection)
    if position is None:
        components.empty_state("No answer passes these filters. Take one of them away.")
        st.stop()
    answer = clip_view.Answer.of(records, position)
    with card:
        clip_view.answer_card(answer)
    sound = clip_view.sound_of(answer)
    by = clip_view.explainer(answer)
    if sound is not None:
        clip_view.heard(answer, sound, by)
    clip_view.alike(answer, sound, by)
    clip_view.acoustics(answer, by)
