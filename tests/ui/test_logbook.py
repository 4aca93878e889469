"""What the Classify page writes into the prediction log, and what people say of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app import state
from app.logbook import as_class, said
from core.audio import write_wav
from core.records import NONE_OF_THE_CLASSES
from core.store import Store

OpenApp = Callable[..., AppTest]
RATE = 32_000
NOISE = write_wav(np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32), RATE)
TONE = write_wav(np.sin(np.arange(RATE, dtype=np.float32) / 9) * 0.3, RATE)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'log.sqlite3'}"


def give(page: AppTest, name: str, data: bytes) -> AppTest:
    return page.file_uploader(key=state.UPLOAD.name).upload(name, data).run()


def test_an_answer_is_logged_once_a_session_and_without_its_sound(open_app: OpenApp, url: str) -> None:
    page = give(open_app(), "noise.wav", NOISE)
    page.run()
    give(page, "tone.wav", TONE)
    give(page, "noise.wav", NOISE)
    store = Store.open(url)
    assert store.version() == (2, 0)
    logged = store.get(1)
    assert (logged.name, logged.origin, logged.label) == ("noise.wav", "app", None)
    assert store.sound(logged.prediction.clip_id) is None
    assert not page.warning


def test_the_sound_is_kept_where_that_was_chosen(open_app: OpenApp, url: str) -> None:
    give(open_app(KEEP_AUDIO=1), "noise.wav", NOISE)
    store = Store.open(url)
    assert store.sound(store.get(1).prediction.clip_id) == NOISE


@pytest.mark.parametrize("wrong", ["sqlite:////dev/null/log.sqlite3", "mysql://nowhere/log"])
def test_the_page_answers_when_there_is_no_log(open_app: OpenApp, wrong: str) -> None:
    page = give(open_app(DATABASE_URL=wrong), "noise.wav", NOISE)
    assert not page.exception
    assert [box.value for box in page.warning if box.value.startswith("This answer was not logged. ")]
    assert page.header
    assert page.get("plotly_chart")


def test_a_person_confirms_or_corrects(open_app: OpenApp, url: str) -> None:
    page = give(open_app(), "noise.wav", NOISE)
    store = Store.open(url)
    answer = store.get(1).prediction.label
    page.button(key=state.CONFIRM.of("1").name).click().run()
    assert store.get(1).label == answer
    assert any("You said" in caption.value for caption in page.caption)
    page.selectbox(key=state.CORRECTION.of("1").name).select(NONE_OF_THE_CLASSES).run()
    assert store.get(1).label == NONE_OF_THE_CLASSES
    assert any("You said: None of the four classes" in caption.value for caption in page.caption)


def test_a_typed_class_is_that_class_and_another_name_stays() -> None:
    names = ("crying_baby", "dog")
    assert as_class(" CRYING  baby", names) == "crying_baby"
    assert as_class("door bell", names) == "door bell"
    assert said("crying_baby", names) == "Crying baby"
    assert said("door bell", names) == "door bell"
    assert said(NONE_OF_THE_CLASSES, (*names, NONE_OF_THE_CLASSES)) == "None of the classes"
