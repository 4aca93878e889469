"""Earshot's domain: audio to decision to diagnosis. Imports neither streamlit nor modal."""

__version__ = "0.1.0"
