import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.parquet import write_parquet

EMBEDDINGS = np.abs(np.random.default_rng(0).standard_normal((200, 64))).astype(np.float32)


@pytest.fixture
def table() -> pa.Table:
    rows = {
        "clip_id": [f"clip {i}" for i in range(200)],
        "quality": [["clipped"] * (i % 3) for i in range(200)],
        "embedding": list(EMBEDDINGS),
        "excerpts": [[list(row), list(row[::-1])] for row in EMBEDDINGS],
        "level": np.linspace(-60, 0, 200),
        "seed": np.arange(200),
        "correct": np.arange(200) % 2 == 0,
        "none": [None] * 200,
    }
    return pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False).replace_schema_metadata({"model": "abc"})


def test_what_was_written_is_read_back_bit_for_bit(table: pa.Table, tmp_path: Path) -> None:
    write_parquet(tmp_path / "t.parquet", table)
    back = pq.read_table(tmp_path / "t.parquet")
    assert back.equals(table)
    assert back.schema.metadata == {b"model": b"abc"}


def test_a_stream_takes_what_a_file_takes(table: pa.Table, tmp_path: Path) -> None:
    write_parquet(tmp_path / "t.parquet", table)
    stream = io.BytesIO()
    write_parquet(stream, table)
    assert stream.getvalue() == (tmp_path / "t.parquet").read_bytes()


def test_floats_are_split_by_byte_wherever_they_stand_and_nothing_else_is(table: pa.Table, tmp_path: Path) -> None:
    write_parquet(tmp_path / "t.parquet", table)
    group = pq.ParquetFile(tmp_path / "t.parquet").metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    split = {column.path_in_schema for column in columns if "BYTE_STREAM_SPLIT" in column.encodings}
    assert split == {"embedding.list.element", "excerpts.list.element.list.element", "level"}
    assert {column.compression for column in columns} == {"ZSTD"}


def test_embeddings_take_less_than_under_the_defaults(table: pa.Table, tmp_path: Path) -> None:
    write_parquet(tmp_path / "ours.parquet", table.select(["embedding"]))
    pq.write_table(table.select(["embedding"]), tmp_path / "default.parquet")
    assert (tmp_path / "ours.parquet").stat().st_size < 0.9 * (tmp_path / "default.parquet").stat().st_size


@pytest.mark.parametrize("columns", [["level"], ["seed"]])
def test_a_table_of_floats_alone_or_of_none_is_written(table: pa.Table, columns: list[str], tmp_path: Path) -> None:
    write_parquet(tmp_path / "t.parquet", table.select(columns))
    assert pq.read_table(tmp_path / "t.parquet").equals(table.select(columns))
