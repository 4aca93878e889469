"""Classify: a sound in, an explained answer out."""

from functools import partial

import streamlit as st

from app import components, logbook, services
from app.explained import clearest_window, heard
from app.sound_input import sound_input

st.title("Classify a sound", anchor=False)

with components.errors_shown():
    components.backend_choice()
    with st.spinner("Loading the model…"):
        backend = services.answering.backend()
    names = backend.manifest.class_names
    components.known_sounds(backend.manifest)

    sound = sound_input(trained_on=backend.manifest.dataset_hash)
    if sound is None:
        components.empty_state("Upload a file, record something or pick a sample clip: the answer appears here.")
        st.stop()

    with st.spinner("Listening…", show_time=True):
        prediction = services.sounds.classify(backend, sound)

    picture = partial(services.sounds.picture, backend, sound, clearest_window(prediction, names))
    answer, bars = st.columns([5, 7], border=True)
    with answer:
        components.prediction_card(sound, prediction, names)
        components.quality_warnings(prediction)
        components.downloads(sound, prediction, picture)
        components.provenance(prediction)
        log = st.container()
    with bars:
        components.confidence_bars(prediction)
    heard(backend, sound, prediction)
    with log:  # last: the answer does not wait for the database
        logbook.logged_answer(sound, prediction, backend.manifest)
