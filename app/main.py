"""Entry point, ``streamlit run app/main.py`` from the repository root. It only routes.

The server imports this file once, when it starts; every visit runs it.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # `streamlit run` puts app/ on sys.path, not the repository root
    sys.path.insert(0, str(ROOT))

import streamlit as st  # noqa: E402

from app import start  # noqa: E402

PAGES = ROOT / "pages"

if __name__ != "__main__":
    app = st.App(__file__, lifespan=start.told_the_token)
else:
    st.set_page_config(layout="wide")  # no page_title here: it would override every page's own
    # Streamlit leaves 80 px on both sides, which a screen of 1,280 px misses in every table.
    st.html("<style>@media (min-width: 768px) {.stMainBlockContainer {padding-inline: 3rem}}</style>")
    st.logo(ROOT / "app" / "static" / "logo.svg", size="large")

    navigation = st.navigation(
        {
            "Listen": [
                st.Page(
                    PAGES / "classify.py",
                    title="Classify",
                    icon=":material/hearing:",
                    help="Upload, record or pick a sound; see what it is, how sure that is, where the network looked.",
                    default=True,
                ),
            ],
            "Diagnose": [
                st.Page(
                    PAGES / "performance.py",
                    title="Performance",
                    icon=":material/grid_on:",
                    help="How often the answers are right, with intervals; what is taken for what.",
                ),
                st.Page(
                    PAGES / "inspector.py",
                    title="Sample inspector",
                    icon=":material/manage_search:",
                    help="One clip after the other: what it is, what was answered, why, and what is like it.",
                ),
                st.Page(
                    PAGES / "calibration.py",
                    title="Calibration",
                    icon=":material/balance:",
                    help="How far confidence can be trusted, and what accepting only sure answers costs.",
                ),
                st.Page(
                    PAGES / "drift.py",
                    title="Drift",
                    icon=":material/trending_up:",
                    help="Whether current sounds have moved away from the held-out clips, by what, how sure that is.",
                ),
                st.Page(
                    PAGES / "failures.py",
                    title="Failure modes",
                    icon=":material/troubleshoot:",
                    help="Confident errors, confusions to hear, a map, weak slices, doubtful labels, noise.",
                ),
            ],
            "Model": [
                st.Page(
                    PAGES / "model_card.py",
                    title="Model card",
                    icon=":material/badge:",
                    help="What the model is: data, licence, numbers with intervals, limits, how to cite.",
                ),
                st.Page(
                    PAGES / "training.py",
                    title="Training",
                    icon=":material/monitoring:",
                    help="Every training run: loss, accuracy, learning rate and confusion, epoch by epoch.",
                ),
            ],
            "Export": [
                st.Page(
                    PAGES / "tableau.py",
                    title="Tableau export",
                    icon=":material/table_chart:",
                    help="Every diagnostic as CSV, a Hyper extract and a workbook of dashboards.",
                ),
            ],
            "Admin": [
                st.Page(
                    PAGES / "admin.py",
                    title="Admin",
                    icon=":material/admin_panel_settings:",
                    help="Train, compare, promote and take back models. Asks you to sign in.",
                ),
            ],
        }
    )
    navigation.run()
