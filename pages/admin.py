"""Admin: train, compare, promote, roll back. Every action asks anew whether you may."""

import streamlit as st

from app import auth, components, services
from app.adapt_panel import adapt_panel
from app.audit_panel import audit_panel
from app.jobs_panel import jobs_panel, launch_panel
from app.models_panel import models_panel, served_panel

st.title("Admin", anchor=False)

with components.errors_shown():
    admin = auth.admin()
    if admin is None:
        auth.sign_in_form()
        st.stop()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"Signed in as {admin.name}.", width="stretch")
        st.button("Sign out", on_click=auth.sign_out, icon=":material/logout:", key="admin_sign_out")

    desk = services.administration.desk(auth.guard())
    served_panel(desk)
    train, own, models, audit = st.tabs(
        [
            ":material/play_circle: Train",
            ":material/tune: Own sounds",
            ":material/model_training: Models",
            ":material/receipt_long: Audit",
        ],
        key="admin_tab",
        on_change="rerun",
    )
    if train.open:
        with train:
            launch_panel(desk)
            jobs_panel(desk)
    if own.open:
        with own:
            adapt_panel(desk)
    if models.open:
        with models:
            models_panel(desk)
    if audit.open:
        with audit:
            audit_panel()
