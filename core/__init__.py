"""Earshot's domain: audio to decision to diagnosis. Imports neither streamlit nor modal."""
