"""Whether the person at this page is the admin: by the admin token, or by ``st.login`` where ``[auth]`` is set up."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from app import components, services, state
from app.start import uses_oidc
from core.errors import AdminError, EarshotError, StoreError

if TYPE_CHECKING:
    from core.admin import Admin, Guard

PROVIDER = "at the identity provider"


def guard() -> Guard:
    """What every admin action asks: bound to this session's sign-in, so that it also holds where downloads are made."""
    if uses_oidc():
        from core.admin import listed

        email = _email()
        verified = st.user.get("email_verified")
        return lambda: listed(email, verified=verified, settings=services.environment.settings())
    return partial(services.administration.gate().check, state.TICKET.get())


def admin() -> Admin | None:
    """Who is signed in and may; None where nobody is. Raises ``StoreError`` where that cannot be written down."""
    try:
        found = guard()()
    except AdminError as refused:
        if uses_oidc() and st.user.is_logged_in:
            services.administration.note_sign_in(_email() or "nobody", _issued(), f"refused: {refused.code}")
        return None
    if uses_oidc():
        services.administration.note_sign_in(found.name, _issued(), "done")
    return found


def sign_in_form() -> None:
    """Ask for the token, or send to the identity provider."""
    if uses_oidc():
        _sign_in_elsewhere()
        return
    services.administration.gate()
    with st.form("admin_sign_in", width=420):
        st.text_input(
            "Admin token",
            type="password",
            key=state.TOKEN.name,
            autocomplete="off",
            help="Printed in the terminal at the first start; kept in `.admin-token` in the runs folder, readable by "
            "its owner alone. `EARSHOT_ADMIN_TOKEN` replaces it.",
        )
        st.form_submit_button("Sign in", type="primary", key="admin_sign_in_button", on_click=_sign_in)
    st.caption("The server printed it in its terminal at the first start.")
    error = state.SIGN_IN_ERROR.get()
    if error is not None:
        components.error_box(error)


def sign_out() -> None:
    """End this session's sign-in."""
    from core import administration

    if uses_oidc():
        with contextlib.suppress(StoreError):
            services.environment.store().begin_action(_email() or "nobody", "sign out", PROVIDER, outcome="done")
        st.logout()
        return
    ticket = state.TICKET.get()
    if ticket is not None:
        administration.sign_out(services.administration.gate(), ticket, services.environment.store())
    state.TICKET.set(None)


def _email() -> str:
    return str(st.user.get("email") or "") if st.user.is_logged_in else ""


def _issued() -> str:
    """Tells one sign-in at the identity provider from the next."""
    return str(st.user.get("iat") or "")


def _sign_in() -> None:
    from core.administration import sign_in

    given = state.TOKEN.get()
    state.TOKEN.set("")
    state.SIGN_IN_ERROR.set(None)
    try:
        state.TICKET.set(sign_in(services.administration.gate(), given, services.environment.store()))
    except EarshotError as error:
        state.SIGN_IN_ERROR.set(error)


def _sign_in_elsewhere() -> None:
    if st.user.is_logged_in:
        try:
            guard()()
        except AdminError as error:
            components.error_box(error)
        st.button("Sign out", on_click=sign_out, key="admin_sign_out")
    else:
        st.button("Sign in", type="primary", on_click=st.login, key="admin_sign_in_button")
