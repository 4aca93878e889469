"""What admins did, the latest first."""

from __future__ import annotations

import streamlit as st

from app import components, services

ACTIONS_SHOWN = 200


def audit_panel() -> None:
    """Every action and every refusal, as the audit table has it."""
    actions = services.environment.store().actions(last=ACTIONS_SHOWN)
    if actions.empty:
        components.empty_state("Nothing was done yet.")
        return
    st.dataframe(
        actions,
        hide_index=True,
        key="admin_audit",
        column_config={
            "at": st.column_config.DatetimeColumn("When (UTC)", format="YYYY-MM-DD HH:mm:ss"),
            "who": "Who",
            "action": "Action",
            "subject": "What",
            "outcome": "Outcome",
        },
        alt="Admin actions with time, person, subject and outcome.",
    )
    st.caption(f"The last {ACTIONS_SHOWN:,} at most. An action is written down before it is done; a refusal, too.")
