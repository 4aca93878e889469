"""Addresses within Earshot: a page and its URL. ``links.inspector(true="dog", predicted="rain").follow()``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from app import state
from app.records_input import PARAMETER as RECORDS
from core.config import ROOT


@dataclass(frozen=True)
class Link:
    """``page``: script of the page; ``query``: parameters of its URL."""

    page: Path
    query: dict[str, str]

    def follow(self) -> None:
        """Leave the running page for this one."""
        st.switch_page(self.page, query_params=self.query)

    def show(self, label: str, *, icon: str | None = None, help: str | None = None) -> None:  # noqa: A002
        """A link to click."""
        st.page_link(self.page, label=label, icon=icon, help=help, query_params=self.query)


def inspector(
    *,
    true: str | None = None,
    predicted: str | None = None,
    clip: str | None = None,
    seed: int | None = None,
    answer: int | None = None,
    records: str | None = None,
) -> Link:
    """The sample inspector: clips whose true and predicted classes are these, opened at ``clip``.

    ``seed``: one of several networks that answered; ``answer``: id in the prediction log, where one clip may stand
    often; ``records``: the source, as in ``?records=``; the one shown now where ``None``.
    """
    shown = records or st.query_params.get(RECORDS) or state.RECORDS.get()
    wanted = {RECORDS: shown, "true": true, "predicted": predicted, "clip": clip, "seed": seed, "answer": answer}
    return Link(
        ROOT / "pages" / "inspector.py", {name: str(value) for name, value in wanted.items() if value is not None}
    )
