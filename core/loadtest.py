"""What a report of many records costs: ``python -m core bench --records 1000000``.

Writes made-up records to a temporary file and runs ``python -m core report`` on it as a user does, at a hundredth, a
tenth and all of them, so that growth can be seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.config import ROOT
from core.record_files import CLASS_NAMES_KEY

CHUNK = 100_000
PARTS = (0.01, 0.1, 1.0)


@dataclass(frozen=True)
class Cost:
    """Of one report with start-up and reading: wall time, time on the processor, the largest resident memory.

    On a busy machine the wall time says how busy it is; the time on the processor does not.
    """

    records: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    file_mb: float


def report_costs(records: int, *, classes: int) -> Iterator[Cost]:
    """Run the report on parts of ``records`` made-up answers over ``classes``."""
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS:
            n = max(round(records * part), 1)
            file = Path(folder) / f"{n}.parquet"
            write_made_up(file, n, classes=classes)
            yield _report(file, n)
            file.unlink()


def write_made_up(file: Path, records: int, *, classes: int, seed: int = 0) -> None:
    """Well calibrated answers of middling accuracy: five folds, two clips a source recording."""
    names = [f"class_{k:03}" for k in range(classes)]
    rng = np.random.default_rng(seed)
    writer = None
    for start in range(0, records, CHUNK):
        rows = np.arange(start, min(start + CHUNK, records))
        logits = rng.normal(0, 1.5, (rows.size, classes)).astype(np.float32)
        chance = rng.gumbel(size=logits.shape).astype(np.float32)
        target = (logits + chance).argmax(axis=1)  # drawn from softmax(logits)
        table = pa.table(
            {
                "clip_id": [f"clip-{row}" for row in rows],
                "fold": rows // 2 % 5 + 1,
                "source_group": [f"source-{row // 2}" for row in rows],
                "label": pa.DictionaryArray.from_arrays(pa.array(target), names).cast(pa.string()),
                "logits": pa.FixedSizeListArray.from_arrays(pa.array(logits.ravel()), classes).cast(
                    pa.list_(pa.float32())
                ),
            }
        )
        table = table.replace_schema_metadata({CLASS_NAMES_KEY: json.dumps(names).encode()})
        writer = writer or pq.ParquetWriter(file, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _report(file: Path, n: int) -> Cost:
    started = time.perf_counter()
    command = [sys.executable, "-m", "core", "report", str(file), "--json"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    taken = time.perf_counter() - started
    return Cost(n, taken, usage.ru_utime + usage.ru_stime, peak / 1e6, file.stat().st_size / 1e6)
