"""Tableau: every diagnostic as tables, an extract and a finished workbook."""

import streamlit as st

from app import components, tableau_export

st.title("Tableau export", anchor=False)
st.caption(
    "Everything the diagnostics know as one star schema: CSV, a .hyper extract, and a workbook of dashboards. "
    "Text that a spreadsheet would run as a formula gets an apostrophe in front."
)

with components.errors_shown():
    choice = tableau_export.choose()
    if not choice.runs and choice.window is None:
        components.empty_state("Choose a run or a window of the prediction log: its files appear here.")
        st.stop()
    if not tableau_export.too_many(choice):
        done = tableau_export.made(choice)
        tableau_export.downloads(choice, done)
        tableau_export.contents(choice, done)
    tableau_export.instructions()
