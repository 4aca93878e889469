"""What to export, what is in it, and the files: the pieces of the Tableau page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from app import components, services, state, words
from core.tableau import hyper, schema
from core.tableau.files import WIDE, ZIP
from core.tableau.workbook import NAME as TWBX

if TYPE_CHECKING:
    from core.tableau.export import Exported

MOST = 200_000  # answers the page exports; downloads pass through the server's memory
PREVIEW_ROWS = 50
WINDOWS: dict[str, timedelta | None] = {
    "Last day": timedelta(days=1),
    "Last week": timedelta(days=7),
    "Last 30 days": timedelta(days=30),
    "All of it": None,
}
DESKTOP = """
1. Download the **workbook** (.twbx) and open it: dashboards, their data inside. It needs Tableau 2026.1 or later.
2. An earlier Tableau: download the **extract** (.hyper), then *Connect* → *To a File* → *More…*, and choose it.
3. Drag `predictions` in; relate a table by *every* pair of one relation under *Dictionary* above, or keep it apart.
4. A new export: *Data* → the source → *Edit Connection…*, and point it at the new extract.
"""
PUBLIC = """
1. Everything on Tableau Public can be seen by everyone, names of your files included.
2. Download the **zip** and unpack it, or the **one wide CSV** alone.
3. In Tableau Public: *Connect* → *Text file*, and choose `predictions.csv` or `earshot_predictions.csv`.
4. Relate other tables by *every* pair of one relation under *Dictionary* above; *File* → *Save to Tableau Public*.
"""
CLOUD = """
1. In the browser: *New* → *Workbook Upload*, choose the **workbook** (.twbx), a project, and upload.
2. From a shell: make a personal access token there (*My Account Settings*), set the five `EARSHOT_TABLEAU_…` settings.
3. Then `python -m core tableau --out DIR --publish` exports and publishes in one step; run again, it replaces.
4. Publish the extract inside the workbook: by itself it would need a single fact table, and it has several.
"""


def choose() -> services.tableau.Choice:
    """Runs, a window of the log, and for whom the extract is."""
    runs = [name for name in services.records.sources() if name != services.records.LOG]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.multiselect(
            "Runs",
            runs,
            default=[services.records.SHIPPED],
            format_func=_called,
            key=state.TABLEAU_RUNS.name,
            width=340,
            help="Cross-validations and training runs with held-out answers. All must tell the same classes apart.",
        )
        window = st.selectbox(
            "Prediction log",
            list(WINDOWS),
            index=None,
            placeholder="Leave out",
            key=state.TABLEAU_WINDOW.name,
            width=180,
            help="What was answered in use. With it comes how far these sounds are from those of the first run.",
        )
        version = st.selectbox(
            "Extract for",
            list(hyper.VERSIONS),
            index=list(hyper.VERSIONS).index(hyper.VERSION),
            format_func=lambda version: hyper.VERSIONS[version],
            key=state.TABLEAU_VERSION.name,
            width=280,
            disabled=not hyper.available(),
            help="Version of the .hyper file's format; older Tableau does not read newer ones.",
        )
    return services.tableau.choice(tuple(chosen), window, _since(window), version or hyper.VERSION)


def _since(window: str | None) -> datetime | None:
    span = WINDOWS[window] if window else None
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return None if span is None else now - span


def _called(name: str) -> str:
    return "Shipped cross-validation" if name == services.records.SHIPPED else name.removeprefix(services.records.RUN)


def too_many(choice: services.tableau.Choice) -> bool:
    """Say so where the command is the better way; an export that streams has no such bound."""
    answers = services.tableau.size(choice)
    if answers <= MOST:
        return False
    st.info(
        f"{answers:,} answers are more than this page hands out ({MOST:,}). The command line writes any number: "
        f"`{services.tableau.command(choice)}`.",
        icon=":material/terminal:",
    )
    return True


def made(choice: services.tableau.Choice) -> Exported:
    """The export of ``choice``, with its progress. Raises ``EarshotError``."""
    bar = st.progress(0.0, "Exporting…")

    def show(share: float, what: str) -> None:
        bar.progress(min(share, 1.0), f"Exporting: {what}")

    try:
        return services.tableau.export(choice, progress=show)
    finally:
        bar.empty()


def downloads(choice: services.tableau.Choice, done: Exported) -> None:
    """The formats, each whole."""
    given = {
        TWBX: (
            "Workbook",
            ":material/dashboard:",
            "Dashboards over the packaged extract. Tableau 2026.1 or later.",
        ),
        hyper.NAME: ("Extract", ":material/database:", f"{len(schema.TABLES)} related tables in one .hyper file."),
        ZIP: ("CSV, zipped", ":material/folder_zip:", "Every table as a CSV file."),
        WIDE: ("One wide CSV", ":material/csv:", "One row an answer, with what it refers to."),
    }
    with st.container(horizontal=True):
        for name, (label, icon, says) in given.items():
            if name in done.sizes:
                _download(choice, done, name, label, icon, says, key=f"tableau_{name}")
    st.caption("  \n".join(words.literal(line) for line in done.said))
    if not hyper.available():
        st.info(
            "There is no Hyper library for this machine, so extract and workbook are left out; CSV is complete.",
            icon=":material/info:",
        )


def _download(
    choice: services.tableau.Choice, done: Exported, name: str, label: str, icon: str, says: str, *, key: str
) -> None:
    st.download_button(
        f"{label} ({words.megabytes(done.sizes[name])})",
        partial(services.tableau.file, choice, name),
        file_name=name,
        mime="application/octet-stream",
        icon=icon,
        help=says,
        on_click="ignore",
        key=key,
    )


@st.fragment
def contents(choice: services.tableau.Choice, done: Exported) -> None:
    """The tables with their rows; the chosen one's first rows and its dictionary, as the files hold them."""
    st.subheader("What is in it", anchor=False)
    st.table(
        [{"Table": t.name, "Rows": f"{done.rows[t.name]:,}", "What it holds": t.meaning} for t in schema.TABLES],
        border="horizontal",
        hide_index=True,
        alt="Every table of the export with its number of rows.",
    )
    name = st.selectbox("Table", [table.name for table in schema.TABLES], key=state.TABLEAU_TABLE.name, width=420)
    file = f"{name}.csv"
    shown, said = st.tabs(["First rows", "Dictionary"])
    with shown, components.errors_shown():
        head = services.tableau.head(choice, file, PREVIEW_ROWS)
        st.dataframe(head, hide_index=True, key="tableau_preview", alt=f"Rows of {name}.")
        if not done.rows[name]:
            st.caption(_why_empty(name))
        _download(choice, done, file, file, ":material/csv:", "This table alone.", key="tableau_csv")
    with said:
        st.markdown("\n".join(_relations(schema.BY_NAME[name])))
        st.table(_dictionary(schema.BY_NAME[name]), border="horizontal", hide_index=True, alt="Its columns.")


def _relations(table: schema.Table) -> Iterator[str]:
    """Which rows name which, of this table and of others, and by which pairs of columns."""
    yield f"A row is told apart by {_and(table.key)}."
    ways: dict[str, list[str]] = {}
    for one in schema.TABLES:
        for reference in one.refers:
            if table.name not in (one.name, reference.table):
                continue
            other = reference.table if one is table else one.name
            ours = reference.pairs if one is table else [(key, own) for own, key in reference.pairs]
            ways.setdefault(other, []).append(_and(f"{own} = {theirs}" for own, theirs in ours))
    for other, by in ways.items():
        yield f"- Relate it with `{other}` by {', *or* by '.join(by)}."


def _and(names: Iterable[str]) -> str:
    return " *and* ".join(f"`{name}`" for name in names)


def _dictionary(table: schema.Table) -> list[dict[str, str]]:
    types = {c.name: f"{c.kind}, {c.unit}" if c.unit else c.kind for c in table.columns}
    return [{"Column": c.name, "Type": types[c.name], "Meaning": c.meaning} for c in table.columns]


def _why_empty(name: str) -> str:
    reasons = {
        "drift": "Drift needs a window of the prediction log beside a run.",
        **dict.fromkeys(
            ("clip_features", "mel_bands", "windows", "feature_maps"),
            "The eleven gold clips are of other classes, or not here for the model that answers to hear: "
            "`python -m core download --dataset gold`.",
        ),
        "training_curves": "No run among these keeps curves.",
        "confused_pairs": "No answer with a known class was wrong.",
    }
    return reasons.get(name, "Nothing of this kind is in what was chosen.")


def instructions() -> None:
    """Four lines each."""
    st.subheader("How to open it", anchor=False)
    tabs: dict[str, str] = {"Tableau Desktop": DESKTOP, "Tableau Public": PUBLIC, "Tableau Cloud or Server": CLOUD}
    for tab, text in zip(st.tabs(list(tabs)), tabs.values(), strict=True):
        with tab:
            st.markdown(text)
    st.caption(
        "The workbook was checked against Tableau's published schemas (2026.1, 2026.2), and every field, sheet and "
        "filter in it was resolved. It was not opened in Tableau itself: none was at hand."
    )
