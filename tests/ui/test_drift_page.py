"""The Drift page as a person uses it: demo, log, dropped sounds, and what is wrong with them."""

import io
import json
import re
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app import state
from core.artifact import Facts, read_manifest, save_artifact
from core.audio import write_wav
from core.classifier import Classifier
from core.config import AudioConfig, FeatureConfig, ModelConfig
from core.drift_demo import PRESETS
from core.model import AudioResNet
from core.record_files import write_records
from core.store import Store
from tests.answers import answers
from tests.synthetic_dataset import write_dataset

OpenApp = Callable[..., AppTest]
RATE_HZ = 32_000


def texts(page: AppTest) -> str:
    kinds = (page.title, page.subheader, page.markdown, page.caption, page.error, page.warning, page.info, page.success)
    return "\n".join(element.value for kind in kinds for element in kind).replace("\\", "")


def drift_page(app: AppTest, source: str | None = None) -> AppTest:
    app.switch_page("../pages/drift.py").run()
    if source is not None:
        app.session_state[state.DRIFT_SOURCE.name] = source
        app.run()
    assert not app.exception
    return app


def sound(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    return write_wav(rng.normal(0, 0.1, RATE_HZ // 2).astype(np.float32), RATE_HZ)


@pytest.fixture
def fill_log(artifact: Path, tmp_path: Path) -> Callable[..., None]:
    """Log ``n`` answers a day for ``days`` days: one answer, its level drawn anew."""

    def fill(n: int, days: int, artifact: Path = artifact) -> None:
        classifier = Classifier.from_artifact(artifact)
        answer, rng, now = classifier.predict(sound(0)), np.random.default_rng(0), datetime.now(UTC)
        answers = [
            (
                f"{i}.wav",
                answer.model_copy(
                    update={
                        "clip_id": f"{i:016d}",
                        "created_at": now - timedelta(days=i % days),
                        "descriptors": answer.descriptors | {"rms_dbfs": float(rng.normal(-40, 3))},
                    }
                ),
            )
            for i in range(n * days)
        ]
        store = Store.open(f"sqlite:///{tmp_path / 'log.sqlite3'}")
        store.log_all(answers, classifier.manifest, origin="app")
        store.close()

    return fill


def test_an_empty_page_offers_the_demo(open_app: OpenApp) -> None:
    page = drift_page(open_app())
    assert "Choose what happens to the sounds" in texts(page)
    assert not page.error


def test_the_demo_raises_an_alarm_and_names_its_cause(open_app: OpenApp) -> None:
    page = drift_page(open_app())
    page.session_state[state.DRIFT_DEMO.name] = "far away: 14 dB quieter, nothing above 8 kHz"
    page.run()
    assert not page.exception
    assert "Drift, 200 current records against 400, of 169 and 304 recordings." in page.error[0].value
    assert "14 dB quieter" in page.error[0].value
    assert "Nothing above 8 kHz" in page.error[0].value
    assert len(page.get("plotly_chart")) == 7  # effects, four distributions, classes, map
    assert "Grey: the 400 clips that this network was trained on" in texts(page)
    measured = {metric.label: metric.value for metric in page.metric}
    assert measured["Unknown sounds"].endswith("%")
    assert measured["Embedding MMD²"] != "Not compared"
    assert "Estimated accuracy" not in measured
    page.session_state[state.DRIFT_DEMO.name] = next(iter(PRESETS))
    page.run()
    assert "No drift found" in page.success[0].value


def test_an_empty_log_says_so(open_app: OpenApp) -> None:
    page = drift_page(open_app(), "log")
    assert "The log holds no answer of this model yet" in texts(page)
    assert not page.error


def test_one_clip_is_not_judged(open_app: OpenApp, fill_log: Callable[..., None]) -> None:
    fill_log(1, 1)
    page = drift_page(open_app())
    assert "Not enough data: 1 current record, at least 50" in page.info[0].value
    assert not page.error


def test_a_log_of_one_class_over_days_gets_a_verdict_a_day(open_app: OpenApp, fill_log: Callable[..., None]) -> None:
    fill_log(60, 2)
    page = drift_page(open_app())
    assert "Indicative only" in page.warning[0].value
    assert "quieter" in page.warning[0].value
    assert "Day by day" in texts(page)
    assert "know different classes" in texts(page)  # the small test model and the shipped records
    page.selectbox(key=state.DRIFT_REFERENCE.name).set_value("earlier").run()
    assert not page.exception
    assert "Not enough data: 0 reference records" in page.info[0].value


def test_fifty_classes_are_compared_with_a_run_of_them(
    open_app: OpenApp, artifact: Path, tmp_path: Path, fill_log: Callable[..., None]
) -> None:
    """The log is of a model of fifty classes, and so are the held-out clips."""
    held_out = answers(400, classes=50)
    net = AudioResNet(50, AudioConfig(), FeatureConfig(), ModelConfig(stem_channels=8, stage_channels=(8, 16))).eval()
    facts = Facts.model_validate(
        read_manifest(artifact).model_dump(include=set(Facts.model_fields)) | {"class_names": held_out.class_names}
    )
    save_artifact(tmp_path / "fifty", net, facts)
    fill_log(200, 1, artifact=tmp_path / "fifty")
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"class_names": held_out.class_names}), encoding="utf-8")
    write_records(folder / "oof.parquet", held_out.table.assign(logits=list(held_out.logits)), held_out.class_names)
    page = drift_page(open_app(ARTIFACT=tmp_path / "fifty"))
    page.selectbox(key=state.DRIFT_REFERENCE.name).set_value("run:mine").run()
    assert not page.exception
    assert "200 current records against 400" in texts(page)
    mix = next(metric for metric in page.metric if metric.label == "Largest change in class mix")
    assert re.fullmatch(r"1 point|\d+ points", mix.value)
    assert not any("cannot" in error.value for error in page.error)


def test_a_corrupt_run_to_hold_against_is_told(
    open_app: OpenApp, tmp_path: Path, fill_log: Callable[..., None]
) -> None:
    fill_log(1, 1)
    folder = tmp_path / "runs" / "broken"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"class_names": ["dog", "rain"]}), encoding="utf-8")
    (folder / "oof.parquet").write_bytes(b"no Parquet")
    page = drift_page(open_app())
    page.selectbox(key=state.DRIFT_REFERENCE.name).set_value("run:broken").run()
    assert not page.exception
    assert "it cannot be read" in page.error[0].value


def test_dropped_sounds_are_heard_and_the_rest_is_counted(open_app: OpenApp) -> None:
    page = drift_page(open_app(), "files")
    assert "Drop a folder or a zip" in texts(page)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in {"a.wav": sound(1), "../b.wav": sound(2), "notes.txt": b"text", "c.zip": b"PK"}.items():
            archive.writestr(name, data)
    page.file_uploader[0].upload("sounds.zip", file.getvalue()).run()
    assert not page.exception
    assert "1 of 4 files are sounds and were heard." in texts(page)
    for reason in ("1 names that lead out of the archive", "1 files that are no sounds", "1 archives within"):
        assert reason in texts(page)
    assert "Not enough data: 1 current record, at least 50" in page.info[0].value


@pytest.mark.parametrize("data", [b"PK\x03\x04 broken", b"no sound at all"])
def test_a_corrupt_file_is_told(open_app: OpenApp, data: bytes) -> None:
    page = drift_page(open_app(), "files")
    page.file_uploader[0].upload("broken.zip", data).run()
    assert not page.exception
    assert "Expected a zip of sound files" in page.error[0].value


def test_a_dataset_at_hand_is_degraded_as_one_wishes(open_app: OpenApp, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", n_classes=2, folds=1, per_class_and_fold=2, duration_s=0.3)
    page = drift_page(open_app(DATA_DIR=tmp_path / "data"), "demo")
    page.session_state[state.DRIFT_DEMO.name] = "your own choice"
    page.run()
    next(button for button in page.button if button.label == "Degrade and listen").click().run()
    assert not page.exception
    assert "Not enough data: 4 current records" in page.info[0].value
