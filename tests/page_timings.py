"""How long the diagnostics pages take for many records: ``python -m tests.page_timings [--records 100000]``.

Each page is run as Streamlit runs it, without a browser: first with the records read and nothing computed, then a
choice is changed on it. Printed is the time on the processor, which a busy machine does not change, and the wall time.
Records are the shipped held-out clips over and over, each copy with noise of its own.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.testing.v1 import AppTest

from app import services, state
from core.artifact import read_manifest
from core.config import ROOT, SHIPPED_ARTIFACT, SHIPPED_RUN
from core.descriptors import NAMES
from core.store import Store
from tests.tableau_log import fill_fast

RUN = "many"
LONGEST_S = 600
CLIPS_A_SOURCE = 2
Change = Callable[[AppTest], object]


@dataclass(frozen=True)
class Taken:
    """Seconds on the processor and on the wall."""

    cpu_s: float
    wall_s: float


def write_run(folder: Path, records: int, *, seed: int = 0) -> None:
    """A run like the shipped one, of ``records`` held-out clips."""
    shutil.copytree(SHIPPED_RUN, folder, ignore=shutil.ignore_patterns("*.tfevents.*", "maps*", "atlas*"))
    given = pd.read_parquet(folder / "oof.parquet")
    given = given[given["seed"] == given["seed"].min()]
    rng = np.random.default_rng(seed)
    rows = np.arange(records)
    table = given.iloc[rows % len(given)].reset_index(drop=True)
    table["clip_id"] = [f"clip-{row}" for row in rows]
    table["source_group"] = [f"source-{row // CLIPS_A_SOURCE}" for row in rows]
    for name in NAMES:
        table[name] = table[name] + rng.normal(0, 0.05 * given[name].std(), records)
    for name, spread in (("logits", 1.0), ("embedding", 0.05)):
        values = np.stack(table[name].to_list()).astype(np.float32)
        table[name] = list(values + rng.normal(0, spread, values.shape).astype(np.float32))
    table.to_parquet(folder / "oof.parquet")


@contextmanager
def taken(into: list[Taken]) -> Iterator[None]:
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    into.append(Taken(time.process_time() - cpu, time.perf_counter() - wall))


def page_times(page: str, parameters: dict[str, str], change: Change | None, read: Callable[[], Any]) -> list[Taken]:
    """Of the first run of ``page`` with nothing computed, and of the run after ``change``."""
    app = AppTest.from_file(ROOT / "app" / "main.py", default_timeout=LONGEST_S).run()
    st.cache_resource.clear()
    st.cache_data.clear()
    read()
    found: list[Taken] = []
    for name, value in parameters.items():
        app.query_params[name] = value
    with taken(found):
        app.switch_page(f"../pages/{page}.py").run()
    _sound(app, page)
    if change is not None:
        change(app)
        with taken(found):
            app.run()
        _sound(app, page)
    return found


def _sound(app: AppTest, page: str) -> None:
    if app.exception:
        raise RuntimeError(f"{page}: {list(app.exception)}")


def put(key: str, value: Any) -> Change:
    """Choose ``value`` in the widget ``key``."""
    return lambda app: app.get_by_key(key).set_value(value)


def pages() -> list[tuple[str, str, dict[str, str], Change | None, str]]:
    """Name, page, parameters of its address, a choice on it, and what was chosen."""
    of_run = {"records": f"{services.records.RUN}{RUN}"}
    log = {"drift": "log"}
    section = state.FAILURES_SECTION.name

    def failures(name: str) -> dict[str, str]:
        return of_run | {section: name}

    return [
        ("Performance", "performance", of_run, put(state.CONFUSION_SHOWN.name, "errors"), "errors only"),
        ("Sample inspector", "inspector", of_run, put(state.INSPECTOR_OUTCOME.name, "wrong"), "wrong answers"),
        ("Calibration", "calibration", of_run, put(state.THRESHOLD.name, 0.9), "accept from 0.9"),
        ("Failures: errors", "failures", failures("Errors"), put(state.FAILURES_TRUE.name, "rain"), "true class rain"),
        ("Failures: confusions", "failures", failures("Confusions"), None, ""),
        ("Failures: map", "failures", failures("Map"), put(state.MAP_COLOUR.name, "confidence"), "colour: confidence"),
        ("Failures: weak slices", "failures", failures("Weak slices"), None, ""),
        ("Failures: labels, copies", "failures", failures("Labels and copies"), None, ""),
        ("Drift of the log", "drift", log, None, ""),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--records", type=int, default=100_000)
    options.add_argument("--only", default="", help="pages whose name holds this")
    given = options.parse_args(argv)
    logging.disable(logging.WARNING)  # Streamlit's, of running without a browser
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/log.sqlite3"
        os.environ |= {
            "EARSHOT_RUNS_DIR": f"{folder}/runs",
            "EARSHOT_DATABASE_URL": url,
            "EARSHOT_DATA_DIR": f"{folder}/none",
            "EARSHOT_ARTIFACT": str(SHIPPED_ARTIFACT),
        }
        write_run(Path(folder) / "runs" / RUN, given.records)
        store = Store.open(url)
        fill_fast(store, given.records, read_manifest(SHIPPED_ARTIFACT))
        store.close()
        reading: list[Taken] = []
        print(f"| {given.records:,} records | first, s | a choice, s | wall, s |\n|---|---|---|---|")
        for name, page, parameters, change, chosen in pages():
            if given.only.lower() not in name.lower():
                continue
            source = parameters.get("records", services.records.LOG)

            def read(source: str = source) -> None:
                with taken(reading):
                    services.records.read(source)

            found = page_times(page, parameters, change, read)
            told = f"{found[1].cpu_s:.2f} ({chosen})" if len(found) > 1 else ""
            print(
                f"| {name} | {found[0].cpu_s:.2f} | {told} | {', '.join(f'{t.wall_s:.1f}' for t in found)} |",
                flush=True,
            )
        print(f"| reading the run; the log | {reading[0].cpu_s:.2f}; {reading[-1].cpu_s:.2f} | | |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
