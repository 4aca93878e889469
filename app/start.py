"""What the server does when it starts, before anyone visits: it makes the admin token and prints it, once."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

from core.admin import admin_token
from core.config import Settings
from core.errors import EarshotError


@asynccontextmanager
async def told_the_token(_: object) -> AsyncIterator[None]:
    """The server's life. What is wrong with the token, the Admin page tells."""
    if not uses_oidc():
        with contextlib.suppress(EarshotError):
            admin_token(Settings.load(), tell=partial(print, flush=True))
    yield


def uses_oidc() -> bool:
    """Whether ``.streamlit/secrets.toml`` sets up an identity provider; the token then counts for nothing."""
    try:
        return "auth" in st.secrets
    except StreamlitSecretNotFoundError:
        return False
