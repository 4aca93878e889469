"""Where sounds are answered: chosen on the page, shown on the answer, and never silently another place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app import state, words
from core.classifier import Classifier
from core.records import Place, Prediction
from tests.modal_standin import environment
from tests.ui.test_classify_page import file_of, noise, texts, upload

OpenApp = Callable[..., AppTest]
NO_TOKEN: dict[str, Any] = dict.fromkeys(("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET", "MODAL_SERVER_URL"))


@pytest.fixture
def no_token(tmp_path: Path) -> Any:
    with environment(NO_TOKEN | {"MODAL_CONFIG_PATH": str(tmp_path / "none.toml")}):
        yield


@pytest.fixture
def clip() -> bytes:
    return file_of(noise(2))


def test_this_machine_answers_unless_another_place_is_chosen(open_app: OpenApp, clip: bytes) -> None:
    page = upload(open_app(), "a.wav", clip)
    assert page.get_by_key(state.BACKEND.name).value == "local"
    assert "Answered on this machine's CPU in" in texts(page)


@pytest.mark.usefixtures("no_token")
def test_where_modal_cannot_answer_the_page_says_why_and_offers_this_machine(open_app: OpenApp, clip: bytes) -> None:
    page = upload(open_app(BACKEND="modal"), "a.wav", clip)
    assert not page.exception
    (told,) = page.error
    assert "modal setup" in told.value
    assert not page.header  # nothing was answered elsewhere
    assert page.button(key=state.ASK_AGAIN.name)
    page.button(key=state.ANSWER_HERE.name).click().run()
    assert not page.error
    assert page.header
    assert page.get_by_key(state.BACKEND.name).value == "local"
    assert "Answered on this machine's CPU in" in texts(page)


@pytest.mark.usefixtures("no_token")
def test_the_choice_on_the_page_wins_over_the_setting(open_app: OpenApp, clip: bytes) -> None:
    page = upload(open_app(), "a.wav", clip)
    page.get_by_key(state.BACKEND.name).set_value("modal").run()
    assert len(page.error) == 1  # an answer of this machine is not passed off as one of Modal
    assert not page.header


def test_an_answer_of_modal_says_where_how_long_and_whether_it_had_to_start(artifact: Path, clip: bytes) -> None:
    here = Classifier.from_artifact(artifact).predict(clip)
    assert words.place(here).startswith("on this machine's CPU in ")

    def there(cold: bool) -> Prediction:
        place = Place(device="NVIDIA A10", cold=cold, round_trip_ms=24_000)
        return here.model_copy(update={"backend": "modal", "latency_ms": 22.0, "place": place})

    assert "on Modal (NVIDIA A10, already warm) in 24.0" in words.place(there(cold=False))
    assert "cold: a container was started for it" in words.place(there(cold=True)).replace("\\", "")
    assert words.place(there(cold=True)).endswith(f"22{words.SPACE}ms of them work")
