"""Whatever the source, diagnostics get the same records."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.artifact import Artifact
from core.audio import write_wav
from core.classifier import Classifier
from core.config import SHIPPED_RUN, Limits
from core.errors import EarshotError, RecordsError
from core.sources import of_bytes, of_log, of_path, of_run, shipped
from core.store import Store


def test_the_shipped_run_is_held_out_clips_of_every_fold() -> None:
    records = shipped()
    metrics = json.loads((SHIPPED_RUN / "metrics.json").read_text(encoding="utf-8"))
    assert records.n_clips == metrics["n"]
    assert np.mean([part.correct.mean() for part in records.by_seed().values()]) == pytest.approx(metrics["accuracy"])
    assert records.conformal_quantile is not None
    assert len(records.fingerprint) == 64
    assert records.notes == ()
    by_fold = metrics["calibration"]["temperature_by_fold"]
    for fold, temperature in by_fold.items():
        assert records.temperatures[records.table["fold"] == int(fold)] == pytest.approx(temperature)


def test_a_run_of_ones_own_needs_no_artifact(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(SHIPPED_RUN, folder)
    records = of_path(folder)
    assert (records.title, records.fingerprint, records.unknown_rule) == ("mine", "", None)
    np.testing.assert_array_equal(records.logits, shipped().logits)
    assert of_run(folder, with_embedding=False).embedding is None


def test_a_files_answers_are_judged_as_they_stand(tmp_path: Path) -> None:
    shutil.copy(SHIPPED_RUN / "oof.parquet", tmp_path / "elsewhere.parquet")
    records = of_path(tmp_path / "elsewhere.parquet")
    assert (records.temperatures == 1).all()
    assert records.title == "elsewhere.parquet"
    assert records.class_names == shipped().class_names
    data = (tmp_path / "elsewhere.parquet").read_bytes()
    np.testing.assert_array_equal(of_bytes(data, title="x").logits, records.logits)


def test_what_is_missing_or_damaged_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="found nothing at"):
        of_path(tmp_path / "nothing")
    with pytest.raises(RecordsError, match="Let the run finish"):
        of_path(tmp_path)
    folder = tmp_path / "broken"
    shutil.copytree(SHIPPED_RUN, folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(EarshotError, match=r"config\.json"):
        of_path(folder)
    (folder / "config.json").unlink()
    with pytest.raises(EarshotError, match=r"Expected a run folder with config\.json"):
        of_path(folder)


def test_the_log_is_records_with_the_labels_people_gave(untrained: Artifact, tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'log.sqlite3'}")
    manifest = untrained.manifest
    assert len(of_log(store, manifest)) == 0
    rng = np.random.default_rng(0)
    classifier = Classifier(untrained, Limits())
    answers = [classifier.predict(write_wav(rng.normal(0, 0.1, 16_000).astype(np.float32), 32_000)) for _ in range(3)]
    before = store.version()
    ids = store.log_all([("a.wav", answer) for answer in answers], manifest, origin="cli")
    assert store.version() != before
    between = store.version()
    store.correct(ids[1], "rain")
    assert store.version() != between
    records = of_log(store, manifest)
    assert records.is_labelled.tolist() == [False, True, False]
    assert records.class_names == manifest.class_names
    np.testing.assert_allclose(records.confidence, [answer.confidence for answer in answers], rtol=1e-6)
    assert pd.api.types.is_datetime64_any_dtype(records.frame()["created_at"])
