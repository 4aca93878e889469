"""The Failure modes page: every section on the shipped run, and on records that have little to say."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app import words
from core.artifact import read_manifest
from core.audio import write_wav
from core.classifier import Classifier
from core.config import SHIPPED_ARTIFACT, SHIPPED_RUN
from core.diagnostics.classification import confused_pairs
from core.drift_demo import recorded_demo
from core.record_files import write_records
from core.recordset import RecordSet
from core.sources import shipped
from core.store import Store
from tests.answers import answers

SECTIONS = ("Errors", "Confusions", "Map", "Weak slices", "Labels and copies", "Noise")
RATE_HZ = 32_000
OpenPage = Callable[..., AppTest]


@pytest.fixture
def open_page(open_app: Callable[..., AppTest], tmp_path: Path) -> OpenPage:
    """The page on the shipped run, or on a run of the records given."""

    def start(
        section: str = "Errors", records: RecordSet | None = None, source: str = "shipped", **settings: object
    ) -> AppTest:
        if records is not None:
            source = "run:mine"
            write_run(tmp_path / "runs" / "mine", records)
        app = open_app(**settings)
        app.query_params["records"], app.query_params["section"] = source, section
        return app.switch_page("../pages/failures.py").run()

    return start


def write_run(folder: Path, records: RecordSet) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"class_names": records.class_names}), encoding="utf-8")
    vectors = {"logits": list(records.logits)}
    if records.embedding is not None:
        vectors["embedding"] = list(records.embedding)
    write_records(folder / "oof.parquet", records.table.assign(**vectors), records.class_names)


def said(app: AppTest) -> str:
    assert not app.exception, app.exception
    return "\n".join(element.value for kind in ("markdown", "caption") for element in app.get(kind))


def title(app: AppTest) -> str:
    return str(app.title[0].value)


def test_the_shipped_errors_are_ranked_and_counted(open_page: OpenPage) -> None:
    app = open_page()
    text = said(app)
    assert "clips** are answered wrongly" in text
    assert "95 % interval" in text
    table = app.dataframe[0].value
    assert table["error_confidence"].is_monotonic_decreasing
    shown = json.loads(app.dataframe[0].proto.columns)
    assert "error_confidence" in shown  # what they are ranked by is what is drawn
    assert "Confidence is the mean over networks" in text
    worst = confused_pairs(shipped())["true"].iloc[0]
    app.selectbox(key="failures_true").select(worst).run()
    assert set(app.dataframe[0].value["label"]) == {words.plain(worst)}


def walk(app: AppTest) -> dict[str, str]:
    """What each section says, opened one after the other."""
    found = {}
    for section in SECTIONS:
        app.session_state["section"] = section
        app.run()
        found[section] = said(app)
    return found


def test_every_section_shows_the_shipped_run(open_page: OpenPage) -> None:
    text = walk(open_page())
    assert "A typical" in text["Confusions"]
    assert "Embeddings of networks of different folds and seeds do not compare" in text["Map"]
    assert "95 % interval (Wilson)" in text["Weak slices"]
    assert "are each other's nearest" in text["Labels and copies"]
    assert "as white noise rises to the right" in text["Noise"]


def test_a_click_on_an_error_opens_it_in_the_inspector(open_page: OpenPage) -> None:
    app = open_page()
    clip = app.dataframe[0].value["clip_id"].iloc[1]
    app.session_state["failures_errors"] = {"selection": {"rows": [], "columns": [], "cells": [(1, "label")]}}
    app.run()
    assert title(app) == "Sample inspector"
    assert app.query_params["clip"] == clip
    assert app.query_params["records"] == "shipped"


def test_a_click_on_the_map_opens_the_clip(open_page: OpenPage) -> None:
    app = open_page("Map")
    app.session_state["failures_map"] = {
        "selection": {"points": [{"customdata": [7]}], "point_indices": [7], "box": [], "lasso": []}
    }
    app.run()
    assert title(app) == "Sample inspector"
    assert app.query_params["clip"]


def test_an_empty_log_says_what_to_do(open_page: OpenPage) -> None:
    assert "No answers yet" in said(open_page(source="log"))


def test_a_log_is_drawn_among_the_training_clips_of_its_model(open_page: OpenPage, tmp_path: Path) -> None:
    """And an upload without a fingerprint on a map of its own, which is said."""
    fill_log(tmp_path, recorded_demo("noise: 10 dB under the sound"))
    app = open_page("Map", source="log", ARTIFACT=SHIPPED_ARTIFACT)
    text = said(app)
    assert "Grey: the 400 clips that this network was trained on; they made the map." in text
    assert "projected on the two axes of the training clips" in text
    app.session_state["failures_map_method"] = "t-SNE"
    app.run()
    assert "t-SNE was fitted on the training clips alone; each sound is put at the mean of the 3" in said(app)
    app.session_state["failures_map"] = {
        "selection": {"points": [{"x": 0}], "point_indices": [7], "box": [], "lasso": []}
    }  # a training clip
    app.run()
    assert title(app) == "Failure modes"


def fill_log(folder: Path, records: RecordSet) -> None:
    """What the shipped model answered, logged as the page does."""
    store, manifest = Store.open(f"sqlite:///{folder / 'log.sqlite3'}"), read_manifest(SHIPPED_ARTIFACT)
    template = Classifier.from_artifact(SHIPPED_ARTIFACT).predict(write_wav(np.zeros(8_000, np.float32) + 0.1, RATE_HZ))
    assert records.embedding is not None
    rows = zip(records.table["clip_id"], records.logits.tolist(), records.embedding.tolist(), strict=True)
    answered = [
        (name, template.model_copy(update={"clip_id": name[:16], "logits": tuple(logits), "embedding": tuple(vector)}))
        for name, logits, vector in rows
    ]
    store.log_all(answered, manifest, origin="app")
    store.close()


@pytest.mark.parametrize("same", [True, False])
def test_an_upload_is_placed_where_it_names_the_model_and_alone_where_not(open_page: OpenPage, same: bool) -> None:
    records = recorded_demo("as recorded")
    assert records.embedding is not None
    file = io.BytesIO()
    table = records.table.drop(columns="trained_on").assign(
        logits=list(records.logits), embedding=list(records.embedding)
    )
    write_records(file, table, records.class_names, fingerprint=records.fingerprint if same else "")
    app = open_page("Map", source="upload")
    app.file_uploader(key="records_upload").upload("mine.parquet", file.getvalue()).run()
    text = said(app)
    assert ("Grey: the 400 clips" in text) is same
    if not same:
        app.session_state["failures_map_space"] = "fold 0, seed 0"
        app.run()
        assert "A map of their own" in said(app)


def test_answers_that_nobody_labelled_can_be_mapped_and_little_else(open_page: OpenPage) -> None:
    text = walk(open_page(records=answers(40, label=[None] * 40)))
    assert "40 sounds." in text["Map"]
    assert "were not asked again under noise" in text["Noise"]
    for section in ("Errors", "Confusions", "Weak slices", "Labels and copies"):
        assert "has a true class" in text[section]


def test_one_class_alone_is_no_trouble(open_page: OpenPage) -> None:
    text = walk(open_page(records=answers(40, label=["class_0"] * 40)))
    assert "stands out" in text["Labels and copies"]


def test_fifty_classes_and_three_networks_are_shown(open_page: OpenPage) -> None:
    text = walk(open_page(records=answers(200, classes=50, seeds=3)))
    assert "of 200 clips** are answered wrongly by at least one network" in text["Errors"]


def test_a_corrupt_run_is_told_and_nothing_else_breaks(open_page: OpenPage, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "broken"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text((SHIPPED_RUN / "config.json").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "oof.parquet").write_bytes(b"no Parquet")
    app = open_page(source="run:broken")
    assert not app.exception
    assert "cannot be read" in app.error[0].value


def test_answers_under_noise_that_cannot_be_read_leave_the_clip_to_try(open_page: OpenPage, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "mine", answers(20))
    (tmp_path / "runs" / "mine" / "robustness.parquet").write_bytes(b"no Parquet")
    app = open_page("Noise", source="run:mine")
    assert not app.exception
    assert "answers under noise" in app.error[0].value


def test_noise_is_added_to_a_clip_until_its_answer_flips(open_page: OpenPage, tmp_path: Path) -> None:
    (tmp_path / "data" / "audio").mkdir(parents=True)
    tone = 0.1 * np.sin(np.arange(RATE_HZ // 2) / 5).astype(np.float32)
    (tmp_path / "data" / "audio" / "clip0.wav").write_bytes(write_wav(tone, RATE_HZ))
    app = open_page("Noise", answers(20), DATA_DIR=tmp_path / "data")
    assert "Choose a clip" in said(app)
    app.selectbox(key="failures_noise_clip").select("clip0.wav").run()
    text = said(app)
    assert "**Flips at" in text or "**Never flips:**" in text
    assert "seeded draw of white noise over the first 0.5 s" in text
    app.selectbox(key="failures_noise_clip").select("clip1.wav").run()
    assert "Its sound is not here" in said(app)


def test_the_same_sound_under_two_names_is_found_by_its_waveform(open_page: OpenPage, tmp_path: Path) -> None:
    (tmp_path / "data" / "audio").mkdir(parents=True)
    rng = np.random.default_rng(0)
    wave = 0.1 * rng.normal(size=2 * RATE_HZ).astype(np.float32)
    level = rng.normal(-20, 5, 20)
    level[7] = level[0] + 1e-6
    centroid = rng.uniform(500, 8_000, 20)
    centroid[7] = centroid[0]
    for name in ("clip0.wav", "clip7.wav"):
        (tmp_path / "data" / "audio" / name).write_bytes(write_wav(wave, RATE_HZ))
    records = answers(20, embedded=False, rms_dbfs=level, spectral_centroid_hz=centroid)
    app = open_page("Labels and copies", records, DATA_DIR=tmp_path / "data")
    app.button(key="failures_compare").click().run()
    assert not app.exception
    pairs = app.dataframe[-1].value
    assert pairs.iloc[0][["clip_a", "clip_b"]].tolist() == ["clip0.wav", "clip7.wav"]
    assert pairs["waveforms"].iloc[0].startswith("same sound: 8 of 8 stretches")
    assert (pairs["waveforms"].iloc[1:] == "no sound here").all()
