"""What the Admin page acts through: the gate, the actions, adapting to own sounds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app.services import environment, training
from core.records import NONE_OF_THE_CLASSES

if TYPE_CHECKING:
    from core.adaptation import Plan
    from core.admin import Gate, Guard
    from core.administration import Administration
    from core.dataset import Dataset


def desk(guard: Guard) -> Administration:
    """What an admin can do, for whoever passes ``guard``."""
    from core.administration import Administration

    return Administration(guard, environment.store(), training.trainers(), environment.settings().runs_dir)


@st.cache_resource(max_entries=1_000, show_spinner=False)
def note_sign_in(who: str, issued: str, outcome: str) -> int:
    """Write down a sign-in at the identity provider, once: every visit brings it again. Raises ``StoreError``."""
    from app.auth import PROVIDER

    return environment.store().begin_action(who, "sign in", PROVIDER, outcome=outcome)


def gate() -> Gate:
    """The one door for admin tokens of this server."""
    from core.admin import admin_token

    admin_token(environment.settings())
    return _gate()


@st.cache_resource(max_entries=1, show_spinner=False)
def _gate() -> Gate:
    from core.admin import Gate, admin_token

    return Gate(lambda: admin_token(environment.settings()))


def starting_model() -> Path:
    """What adapting goes on from."""
    from core.served import starting_point

    return starting_point(environment.settings())


def adaptation_plan(base: Dataset) -> Plan:
    """Which own sounds could be learnt beside ``base``; made again when either has changed."""
    database, version = environment.settings().database, environment.store().version()
    return _adaptation_plan(base.content_hash, database, version, _base=base)


@st.cache_resource(max_entries=2, show_spinner="Looking through the log…")
def _adaptation_plan(base: str, database: str, version: tuple[int, int], *, _base: Dataset) -> Plan:
    from core.adaptation import plan

    return plan(environment.store(), _base, none_of_the_classes=NONE_OF_THE_CLASSES)
