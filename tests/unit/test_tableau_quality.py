"""Length and recording quality of records, from a run's file or the log to the cells of CSV and ``.hyper``."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tableauhyperapi import Connection, HyperProcess, Telemetry

from core.artifact import read_manifest
from core.audio import decode, write_wav
from core.config import SHIPPED_ARTIFACT, AudioConfig, FeatureConfig, ModelConfig
from core.dataset import Clip
from core.evaluation import evaluate
from core.model import AudioResNet
from core.quality import assess
from core.record_files import write_records
from core.records import QualityCode
from core.store import Store
from core.tableau import files, hyper, parts, schema, tables
from core.tableau.export import Exported, export
from tests.answers import answers
from tests.tableau_log import fill

FLAGS = [f"quality_{code}" for code in schema.QUALITY]


def run_folder(folder: Path, **columns: object) -> Path:
    """A training run of six clips whose records hold ``columns`` beside the required ones."""
    given = answers(6)
    folder.mkdir()
    (folder / "config.json").write_text('{"run_id": "mine", "class_names": ["class_0","class_1","class_2","class_3"]}')
    table = given.table.assign(logits=list(given.logits), embedding=list(given.embedding), **columns)
    write_records(folder / "oof.parquet", table, given.class_names)
    return folder


def facts_of(path: Path, tmp_path: Path) -> pd.DataFrame:
    star = tables.build([parts.of_folder(path)], tmp_path / "facts.parquet")
    assert star.head("predictions").shape[0] == 6
    found = pq.read_schema(star.facts)
    assert all(found.field(name).type == pa.bool_() for name in FLAGS)
    assert found.field("duration_s").type == pa.float64()
    return star.head("predictions")


def test_every_warning_has_its_column() -> None:
    assert set(schema.QUALITY) == set(get_args(QualityCode))


def test_what_evaluation_writes_arrives_as_it_was_heard(tmp_path: Path) -> None:
    rng, rate = np.random.default_rng(0), AudioConfig().sample_rate_hz
    sounds = [rng.normal(0, 0.1, 2 * rate), rng.normal(0, 3, 2 * rate).clip(-1, 1), rng.normal(0, 0.1, rate // 2)]
    waves = [decode(write_wav(samples.astype(np.float32), rate)) for samples in sounds]
    names = ("a", "b", "c")
    clips = [
        Clip(f"{name}.wav", tmp_path / f"{name}.wav", fold, name, fold - 1, name, "A")
        for fold, name in enumerate(names, start=1)
    ]
    small = ModelConfig(stem_channels=4, stage_channels=(4, 8))
    net = AudioResNet(3, AudioConfig(), FeatureConfig(), small).eval()
    records = evaluate(net, clips, waves, AudioConfig(), seed=0)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"run_id": "mine", "class_names": ["a", "b", "c"]}')
    write_records(tmp_path / "run" / "oof.parquet", records, names)
    facts = tables.build([parts.of_folder(tmp_path / "run")], tmp_path / "facts.parquet").head("predictions")
    assert facts["duration_s"].tolist() == [wave.duration_s for wave in waves]
    for flag, code in zip(FLAGS, schema.QUALITY, strict=True):
        assert facts[flag].tolist() == [code in {warning.code for warning in assess(wave)} for wave in waves], flag
    assert facts["quality_clipped"].tolist() == [False, True, False]
    assert facts["quality_short"].tolist() == [False, False, True]


def test_a_run_that_keeps_neither_has_empty_cells(tmp_path: Path) -> None:
    facts = facts_of(run_folder(tmp_path / "run"), tmp_path)
    assert facts[[*FLAGS, "duration_s"]].isna().all(axis=None)


def test_codes_become_flags_and_what_was_not_assessed_stays_empty(tmp_path: Path) -> None:
    quality = ["", "clipped", "clipped band_limited", None, "short", ""]
    facts = facts_of(run_folder(tmp_path / "run", quality=quality, duration_s=[5.0, 5, 1.5, None, 0.4, 5]), tmp_path)
    assert facts["quality_clipped"].tolist() == [False, True, True, None, False, False]
    assert facts["quality_band_limited"].tolist() == [False, False, True, None, False, False]
    assert facts["quality_short"].tolist() == [False, False, False, None, True, False]
    assert facts["quality_silent"].tolist() == [False, False, False, None, False, False]
    assert facts["duration_s"].isna().tolist() == [False, False, False, True, False, False]
    assert facts["duration_s"].dropna().tolist() == [5, 5, 1.5, 0.4, 5]


@pytest.mark.parametrize(
    "quality",
    [[None] * 6, [float("nan")] * 6, [3, 4, 5, 1, 2, 3], ["good"] * 6, [["clipped"]] * 6],
    ids=["nothing", "nan", "marks", "other words", "lists"],
)
def test_a_column_of_that_name_that_says_something_else_is_not_assessed(tmp_path: Path, quality: list[object]) -> None:
    facts = facts_of(run_folder(tmp_path / "run", quality=quality), tmp_path)
    assert facts[FLAGS].isna().all(axis=None)


def test_a_warning_beside_a_word_that_is_none_is_still_told(tmp_path: Path) -> None:
    facts = facts_of(run_folder(tmp_path / "run", quality=["clipped windy"] * 6), tmp_path)
    assert facts["quality_clipped"].all()
    assert facts["quality_short"].isna().all()  # written by other rules than these: it may have been called otherwise


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A run with both columns, exported as CSV and ``.hyper``."""
    folder = tmp_path_factory.mktemp("quality")
    quality = ["", "clipped short", None, "truncated", "", "silent"]
    path = run_folder(folder / "run", quality=quality, duration_s=[5.0, 0.5, None, 2.25, 5, 5])
    return export([parts.of_folder(path)], folder / "out", formats=("csv", "hyper"))


def test_csv_says_true_false_or_nothing(both: Exported) -> None:
    for path in (both.out / "csv" / "predictions.csv", both.out / files.WIDE):
        text = pd.read_csv(path, dtype=str, keep_default_na=False)
        assert text["quality_clipped"].tolist() == ["FALSE", "TRUE", "", "FALSE", "FALSE", "FALSE"]
        assert text["quality_truncated"].tolist() == ["FALSE", "FALSE", "", "TRUE", "FALSE", "FALSE"]
        assert text["duration_s"].tolist() == ["5", "0.5", "", "2.25", "5", "5"]
        plain = pd.read_csv(path)
        assert plain["quality_silent"].fillna(False).astype(bool).sum() == 1
        assert plain["duration_s"].sum() == 17.75


def test_the_extract_says_the_same(both: Exported) -> None:
    with (
        HyperProcess(Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={"log_config": ""}) as process,
        Connection(process.endpoint, str(both.out / hyper.NAME)) as connection,
    ):
        rows = connection.execute_list_query(
            'SELECT quality_clipped, quality_truncated, duration_s FROM "Extract".predictions ORDER BY clip_id'
        )
    assert rows == [
        [False, False, 5.0],
        [True, False, 0.5],
        [None, None, None],
        [False, True, 2.25],
        [False, False, 5.0],
        [False, False, 5.0],
    ]


def test_the_log_is_assessed_throughout(tmp_path: Path) -> None:
    store, manifest = Store.open(f"sqlite:///{tmp_path}/log.sqlite3"), read_manifest(SHIPPED_ARTIFACT)
    fill(store, 15, manifest)
    star = tables.build([parts.of_log(store, manifest, rows=4)], tmp_path / "facts.parquet")
    store.close()
    facts = star.head("predictions")
    assert facts["quality_clipped"].tolist() == [number % 7 == 0 for number in range(15)]
    assert facts[FLAGS].notna().all(axis=None)
    assert not facts[[name for name in FLAGS if name != "quality_clipped"]].any(axis=None)
    assert (facts["duration_s"] == 5).all()
