"""Model card: what the model is, what was measured of it, and what not to expect."""

import streamlit as st

from app import card, components, services

st.title("Model card", anchor=False)

with components.errors_shown():
    manifest = services.environment.manifest()
    card.identity(manifest)
    card.measured(manifest)
    card.preprocessing(manifest)
    card.limits_and_licence(manifest)
