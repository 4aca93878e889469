import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from core import database
from core.artifact import Artifact
from core.audio import write_wav
from core.classifier import Classifier
from core.config import ROOT, Limits
from core.errors import StoreError
from core.records import Place, Prediction
from core.store import Store

RATE = 32_000


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        given: str = request.getfixturevalue("postgresql_url")
        return given
    return f"sqlite:///{tmp_path / 'folder' / 'log.sqlite3'}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store.open(url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def classifier(untrained: Artifact) -> Classifier:
    return Classifier(untrained, Limits())


@pytest.fixture(scope="module")
def prediction(classifier: Classifier) -> Prediction:
    return classifier.predict(write_wav(np.random.default_rng(0).normal(0, 0.1, 13 * RATE).astype(np.float32), RATE))


def test_a_prediction_comes_back_as_it_was_given(store: Store, classifier: Classifier, prediction: Prediction) -> None:
    number = store.log(prediction, classifier.manifest, name="a.wav", origin="app")
    logged = store.get(number)
    assert (logged.id, logged.name, logged.origin, logged.label) == (number, "a.wav", "app", None)
    assert logged.prediction.created_at == prediction.created_at
    given, got = prediction.model_dump(), logged.prediction.model_dump()
    for name in ("logits", "embedding"):
        np.testing.assert_allclose(got.pop(name), given.pop(name), rtol=1e-7)
    assert got.pop("probabilities") == pytest.approx(given.pop("probabilities"))
    assert got == given


def test_measures_without_meaning_stay_so(store: Store, classifier: Classifier) -> None:
    silent = classifier.predict(write_wav(np.zeros(RATE, dtype=np.float32), RATE))
    undefined = {name for name, value in silent.descriptors.items() if not np.isfinite(value)}
    assert undefined
    logged = store.get(store.log(silent, classifier.manifest, name="silence.wav", origin="cli")).prediction
    assert {name for name, value in logged.descriptors.items() if np.isnan(value)} == undefined


def test_where_it_was_answered_is_kept(store: Store, classifier: Classifier, prediction: Prediction) -> None:
    there = prediction.model_copy(update={"place": Place(device="NVIDIA A10", cold=True, round_trip_ms=2_500.0)})
    numbers = store.log_all([("a", there), ("b", prediction)], classifier.manifest, origin="app")
    assert store.get(numbers[0]).prediction.place == there.place
    assert store.get(numbers[1]).prediction.place is None


def test_records_are_what_diagnostics_read(store: Store, classifier: Classifier, prediction: Prediction) -> None:
    numbers = store.log_all([(f"{i}.wav", prediction) for i in range(3)], classifier.manifest, origin="api")
    store.correct(numbers[1], "rain")
    store.correct(numbers[1], "dog")
    records = store.records(prediction.fingerprint, with_embedding=True)
    assert {"clip_id", "fold", "source_group", "label", "logits", "embedding", "rms_dbfs"} <= set(records)
    assert records["id"].tolist() == numbers
    assert records["label"].fillna("").tolist() == ["", "dog", ""]
    np.testing.assert_allclose(records["logits"].iloc[0], prediction.logits, rtol=1e-6)
    assert records["embedding"].iloc[2].dtype == np.float32
    assert "embedding" not in store.records(prediction.fingerprint)
    assert records["created_at"].dt.tz is not None


def test_records_can_be_of_a_time_and_the_newest_only(
    store: Store, classifier: Classifier, prediction: Prediction
) -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    for hour in range(5):
        at = prediction.model_copy(update={"created_at": noon + timedelta(hours=hour)})
        store.log(at, classifier.manifest, name=f"{hour}", origin="cli")
    between = store.records(prediction.fingerprint, since=noon + timedelta(hours=1), until=noon + timedelta(hours=4))
    assert between["name"].tolist() == ["1", "2", "3"]
    assert store.records(prediction.fingerprint, last=2)["name"].tolist() == ["3", "4"]
    assert store.records("another").empty


def test_models_are_listed_the_latest_first(store: Store, classifier: Classifier, prediction: Prediction) -> None:
    other = classifier.manifest.model_copy(update={"fingerprint": "f" * 64, "run_id": "other"})
    later = prediction.model_copy(
        update={"fingerprint": "f" * 64, "created_at": prediction.created_at + timedelta(days=1)}
    )
    store.log(later, other, name="b", origin="app")
    store.log_all([("a", prediction), ("c", prediction)], classifier.manifest, origin="app")
    models = store.models()
    assert models["fingerprint"].tolist() == ["f" * 64, prediction.fingerprint]
    assert models["n"].tolist() == [1, 2]
    assert store.class_names("f" * 64) == classifier.manifest.class_names
    with pytest.raises(StoreError, match="No prediction here is by the model 000"):
        store.class_names("0" * 64)


def test_a_correction_survives_a_restart(url: str, classifier: Classifier, prediction: Prediction) -> None:
    first = Store.open(url)
    number = first.log(prediction, classifier.manifest, name="a", origin="app")
    first.correct(number, "rooster")
    first.close()
    again = Store.open(url)
    assert again.get(number).label == "rooster"
    again.close()


def test_what_does_not_exist_cannot_be_corrected(store: Store) -> None:
    with pytest.raises(StoreError, match="found none with id 7") as caught:
        store.correct(7, "dog")
    assert caught.value.code == "no_prediction"


def test_a_sound_is_kept_once_and_only_when_given(store: Store) -> None:
    assert store.sound("a" * 16) is None
    store.keep_sound("a" * 16, b"bytes")
    store.keep_sound("a" * 16, b"bytes")
    assert store.sound("a" * 16) == b"bytes"


def test_many_threads_write_at_once_and_nothing_is_lost(
    store: Store, classifier: Classifier, prediction: Prediction
) -> None:
    def write(i: int) -> int:
        return store.log(prediction, classifier.manifest, name=str(i), origin="api")

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(write, range(40)))
    assert len(set(numbers)) == 40
    assert set(store.records(prediction.fingerprint)["name"]) == {str(i) for i in range(40)}


def test_many_may_open_a_new_database_at_once(url: str) -> None:
    def open_and_close(_: int) -> None:
        Store.open(url).close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(open_and_close, range(6)))


def test_every_quality_of_recording_can_be_stored(store: Store, classifier: Classifier) -> None:
    """Odd recordings give measures without meaning and levels without bound, and PostgreSQL refuses nan in JSON."""
    for name, samples in {
        "silence": np.zeros(RATE, dtype=np.float32),
        "clipped": np.sign(np.sin(np.arange(RATE, dtype=np.float32))),
        "loud": np.full(RATE, 1.0, dtype=np.float32),
    }.items():
        answer = classifier.predict(write_wav(samples, RATE))
        kept = store.get(store.log(answer, classifier.manifest, name=name, origin="api")).prediction
        assert kept.quality == answer.quality


WRITER = """
import sys
from pathlib import Path
from core.artifact import Manifest
from core.records import Place, Prediction
from core.store import Store
url, manifest, prediction = sys.argv[1:]
store = Store.open(url)
manifest = Manifest.model_validate_json(Path(manifest).read_text())
prediction = Prediction.model_validate_json(Path(prediction).read_text())
while True:
    print(store.log(prediction, manifest, name="x", origin="api"), flush=True)
"""


def test_what_was_acknowledged_survives_kill_9(
    url: str, store: Store, classifier: Classifier, prediction: Prediction, tmp_path: Path
) -> None:
    (tmp_path / "manifest").write_text(classifier.manifest.model_dump_json())
    (tmp_path / "prediction").write_text(prediction.model_dump_json())
    command = [sys.executable, "-c", WRITER, url, str(tmp_path / "manifest"), str(tmp_path / "prediction")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(5)]
        time.sleep(0.05)
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().splitlines(keepends=True)
    acknowledged += [int(line) for line in rest if line.endswith("\n")]
    assert set(acknowledged) <= set(store.records(prediction.fingerprint)["id"])


@pytest.mark.parametrize("wrong", ["", "nonsense", "mysql://localhost/x", "oracle+nothing://x"])
def test_a_url_of_no_known_database_is_told(wrong: str) -> None:
    with pytest.raises(StoreError, match="Correct EARSHOT_DATABASE_URL"):
        Store.open(wrong)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://earshot:secret@127.0.0.1:1/none",
        "postgresql+psycopg://earshot@127.0.0.1:1/none?password=secret",
    ],
)
def test_a_password_is_never_told(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        Store.open(url)
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "log.sqlite3").write_bytes(b"not a database at all, but long enough to be read as one" * 40)
    with pytest.raises(StoreError, match="not a database"):
        Store.open(f"sqlite:///{tmp_path / 'log.sqlite3'}")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Name another one in EARSHOT_DATABASE_URL"):
        Store.open(f"sqlite:///{tmp_path / 'file' / 'log.sqlite3'}")


def test_a_database_of_another_schema_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(url).close()
    monkeypatch.setattr("core.database.SCHEMA_VERSION", 2)
    with pytest.raises(StoreError, match="Expected a database of schema 2"):
        Store.open(url)


def test_a_lock_that_another_holds_is_not_waited_for_without_end(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.2)
    store, other = Store.open(url), sa.create_engine(url)
    held = "LOCK TABLE audit" if url.startswith("postgresql") else "BEGIN IMMEDIATE"
    with other.connect() as connection:
        connection.exec_driver_sql(held)
        with pytest.raises(StoreError, match="lock") as caught:
            store.begin_action("ada", "promote", "toy")
        connection.rollback()
    assert caught.value.code == "database"
    assert store.begin_action("ada", "promote", "toy") > 0
    store.close()
    other.dispose()
