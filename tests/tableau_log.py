"""A prediction log of any length, made up but consistent, and what exporting it costs.

    python -m tests.tableau_log --rows 1000000   # from the repository's root: peak memory, time and sizes

Every tenth answer is labelled. The names are as bad as names get.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from core.artifact import Manifest, read_manifest
from core.config import ROOT, SHIPPED_ARTIFACT
from core.database import CORRECTIONS, PREDICTIONS
from core.descriptors import NAMES
from core.inference import softmax
from core.records import Prediction, QualityWarning, SourceFacts
from core.store import Store, _row

START = datetime(2026, 11, 1, tzinfo=UTC)
BAD_NAMES = (
    "=cmd|'/C calc'!A0.wav",
    'say "hello".wav',
    "two\nlines\r\n.wav",
    "dog 🐕 und Böhmen.wav",
    "+1-2.wav",
    "@SUM(A1)\t.wav",
    "a, b; c.wav",
    '=HYPERLINK("http://127.0.0.1","x")',
    "\u2212minus.wav",
    "plain.wav",
)
SOURCE = SourceFacts(
    container="wav",
    codec="pcm_16",
    sample_rate_hz=44_100,
    channels=1,
    duration_s=5.0,
    peak=0.5,
    longest_clipped_run=0,
    downmix_loss_db=0.0,
    truncated=False,
)
EMBEDDING = (0.0,) * 8
DIFFERENT, AT_ONCE = 2_000, 20_000


def predictions(rows: int, manifest: Manifest, *, seed: int = 0) -> Iterator[tuple[str, Prediction, str | None]]:
    """Name, answer, and what a person said it is; a minute apart."""
    rng = np.random.default_rng(seed)
    names = manifest.class_names
    for i in range(rows):
        true = int(rng.integers(len(names)))
        logits = rng.normal(0, 1, len(names)).astype(np.float32)
        logits[true] += 2
        p = softmax(logits, manifest.temperature)
        order = np.argsort(-p)
        values = dict(zip(NAMES, rng.normal(-20, 5, len(NAMES)).round(3).tolist(), strict=True))
        values |= {name: abs(value) for name, value in values.items() if name.endswith("_hz")}
        values |= {name: abs(value) / 100 for name, value in values.items() if not name.endswith(("_hz", "db", "fs"))}
        values["loudness_lufs"] = float("nan") if i % 50 == 3 else -20.0
        yield (
            BAD_NAMES[i % len(BAD_NAMES)],
            Prediction(
                clip_id=f"{i:016x}",
                label=names[order[0]],
                confidence=float(p[order[0]]),
                probabilities={names[k]: float(p[k]) for k in order},
                entropy=float(-(p * np.log(p)).sum()),
                margin=float(p[order[0]] - p[order[1]]),
                logits=tuple(logits.tolist()),
                embedding=EMBEDDING,
                unknown=i % 20 == 0,
                unknown_score=float(rng.normal()),
                windows=(),
                descriptors=values,
                quality=(QualityWarning(code="clipped", message="Clipped."),) if i % 7 == 0 else (),
                source=SOURCE,
                duration_s=5.0,
                latency_ms=20.0,
                backend="local",
                fingerprint=manifest.fingerprint,
                created_at=START + timedelta(minutes=i),
            ),
            names[true] if i % 10 == 0 else None,
        )


def fill(store: Store, rows: int, manifest: Manifest, *, seed: int = 0) -> None:
    """Log ``rows`` answers and what people said of them."""
    given = list(predictions(rows, manifest, seed=seed))
    numbers = store.log_all([(name, answer) for name, answer, _ in given], manifest, origin="app")
    for number, (_, _, label) in zip(numbers, given, strict=True):
        if label is not None:
            store.correct(number, label)


def fill_fast(store: Store, rows: int, manifest: Manifest) -> None:
    """The same for a million: ``DIFFERENT`` answers, over and over."""
    pattern = list(predictions(min(rows, DIFFERENT), manifest)) * (AT_ONCE // DIFFERENT)
    store.log(pattern[0][1], manifest, name="first", origin="app")  # the model's own row
    made = [dict(_row(answer, name, "app")) for name, answer, _ in pattern]
    for start in range(1, rows, AT_ONCE):
        block = made[: min(AT_ONCE, rows - start)]
        for i, row in enumerate(block):
            row |= {"clip_id": f"{start + i:016x}", "created_at": START + timedelta(seconds=start + i)}
        with store._engine.begin() as connection:
            connection.execute(sa.insert(PREDICTIONS), block)
            labels = [
                {"prediction_id": start + 1 + i, "label": label, "created_at": START}
                for i, (_, _, label) in enumerate(pattern[: len(block)])
                if label
            ]
            connection.execute(sa.insert(CORRECTIONS), labels)


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--formats", default="csv,hyper,twbx")
    given = options.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/log.sqlite3"
        store = Store.open(url)
        fill_fast(store, given.rows, read_manifest(SHIPPED_ARTIFACT))
        store.close()
        command = [sys.executable, "-m", "core", "tableau", "--log-since", "all", "--out", f"{folder}/out"]
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--formats", given.formats], cwd=ROOT, env=os.environ | {"EARSHOT_DATABASE_URL": url}
        )
        peaks: dict[str, int] = {"python": 0, "hyperd": 0, "together": 0}
        while process.poll() is None:
            sizes = _resident(process.pid)
            for name in ("python", "hyperd"):
                peaks[name] = max(peaks[name], sizes.get(name, 0))
            peaks["together"] = max(peaks["together"], sum(sizes.values()))
            time.sleep(0.2)
        took = time.perf_counter() - started
        written = {str(p.relative_to(f"{folder}/out")): p.stat().st_size for p in Path(folder, "out").rglob("*.*")}
    print(f"{given.rows:,} answers, {took:.0f} s, status {process.returncode}")
    print("peak resident: " + ", ".join(f"{name} {size / 2**20:,.0f} MiB" for name, size in peaks.items()))
    print("\n".join(f"{size / 1e6:8.1f} MB  {name}" for name, size in sorted(written.items()) if size > 1e6))
    return process.returncode


def _resident(pid: int) -> dict[str, int]:
    """Bytes of the process and of its children, by who they are; Linux."""
    sizes: dict[str, int] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            facts = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        except (OSError, ValueError):
            continue
        if str(pid) in (facts["Pid"], facts["PPid"]) and "VmRSS" in facts:
            name = "hyperd" if "hyperd" in facts["Name"] else "python"
            sizes[name] = sizes.get(name, 0) + int(facts["VmRSS"].split()[0]) * 1024
    return sizes


if __name__ == "__main__":
    raise SystemExit(main())
