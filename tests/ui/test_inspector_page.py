"""The sample inspector as a person uses it. What needs a browser is in ``tests/browser/test_inspector.py``."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app import state, words
from app.clip_view import Answer, _remarks, _verdict
from core.artifact import read_manifest
from core.audio import write_wav
from core.classifier import Classifier
from core.config import SHIPPED_RUN
from core.diagnostics.classification import confused_pairs
from core.record_files import write_records
from core.records import NONE_OF_THE_CLASSES
from core.sources import shipped
from core.store import Store
from core.training.runs import RunFolder
from tests.answers import answers

OpenApp = Callable[..., AppTest]
RATE = 32_000


def inspect(page: AppTest, **query: object) -> AppTest:
    for name, value in query.items():
        page.query_params[name] = str(value)
    return page.switch_page("../pages/inspector.py").run()


def texts(page: AppTest) -> str:
    kinds = (page.title, page.subheader, page.markdown, page.caption, page.info, page.error, page.warning)
    return "\n".join(element.value for kind in kinds for element in kind).replace("\\", "")


def listed(page: AppTest) -> pd.DataFrame:
    table: pd.DataFrame = page.dataframe[0].value
    return table


def shown_clip(page: AppTest) -> str:
    (clip,) = page.query_params["clip"] if isinstance(page.query_params["clip"], list) else [page.query_params["clip"]]
    return clip


def noise(seed: int, duration_s: float = 1.0) -> bytes:
    samples = np.random.default_rng(seed).normal(0, 0.1, round(duration_s * RATE)).astype(np.float32)
    return write_wav(samples, RATE)


def test_a_cell_of_the_confusion_matrix_opens_with_exactly_its_clips(open_app: OpenApp) -> None:
    worst = confused_pairs(shipped()).iloc[0]
    true, predicted = words.plain(worst["true"]), words.plain(worst["predicted"])
    page = inspect(open_app(), true=worst["true"], predicted=worst["predicted"])
    assert not page.exception
    table = listed(page)
    assert len(table) == worst["n"]
    assert set(table["True"]) == {true}
    assert set(table["Predicted"]) == {predicted}
    assert f"{predicted}, but it is {true.lower()}" in texts(page)
    assert "is not in" in texts(page)  # no dataset here
    assert page.button(key=state.DOWNLOAD.name)
    first = shown_clip(page)
    page.button(key="inspector_next").click().run()
    assert "**2** of" in texts(page)
    assert not page.exception
    page.button(key="inspector_previous").click().run()
    assert shown_clip(page) == first


def test_a_link_to_a_clip_opens_it_among_all(open_app: OpenApp) -> None:
    page = inspect(open_app(), clip="3-142006-A-10.ogg")
    assert shown_clip(page) == "3-142006-A-10.ogg"
    assert len(listed(page)) == 200  # one page of all
    assert "recording 142006" in texts(page)


def test_what_a_stale_link_asks_for_is_told(open_app: OpenApp) -> None:
    page = inspect(open_app(), true="unicorn", clip="gone.ogg", min="much", seed=99)
    told = texts(page)
    assert not page.exception
    assert "true = unicorn" in told
    assert "seed = 99" in told
    assert "Expected the clip gone.ogg" in told
    assert "unicorn" not in str(page.query_params)


def test_filters_narrow_the_table_and_stand_in_the_url(open_app: OpenApp) -> None:
    page = inspect(open_app())
    page.multiselect(key=state.INSPECTOR_TRUE.name).select("helicopter").run()
    least = listed(page).sort_values("confidence").iloc[0]
    highest = min(float(np.ceil(least["confidence"])) / 100, 0.99)  # shown in percent
    page.slider(key=state.INSPECTOR_CONFIDENCE.name).set_range(0.0, highest).run()
    page.multiselect(key=state.INSPECTOR_FOLDS.name).select(int(least["Fold"])).run()
    assert set(listed(page)["True"]) == {"Helicopter"}
    assert listed(page)["confidence"].max() <= 100 * highest
    assert set(listed(page)["Fold"]) == {least["Fold"]}
    assert {"true", "max", "fold"} <= set(page.query_params)
    page.text_input(key=state.INSPECTOR_SOURCE.name).input("nothing").run()
    assert not page.exception
    assert "No answer passes these filters" in texts(page)


def test_a_clip_is_explained_heard_and_compared(open_app: OpenApp, esc10_dir: Path) -> None:
    page = inspect(open_app(DATA_DIR=esc10_dir), clip="3-140774-A-10.ogg")
    told = texts(page)
    assert not page.exception
    assert not page.error
    assert "What it heard, and why" in told
    assert "Explained by the final model, which was trained on all clips, this one included." in told
    assert "Most alike" in told
    assert len(page.get("audio")) == 4  # the neighbours'
    assert len(page.get("bidi_component")) == 1
    assert len(page.get("plotly_chart")) == 3  # confidence, layers, descriptors
    assert "39 other clips of rain" in told


def test_records_of_one_class_are_inspected(open_app: OpenApp, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "rainy"
    shutil.copytree(SHIPPED_RUN, run)
    table = RunFolder(run).records()
    write_records(run / "oof.parquet", table[table["label"] == "rain"], RunFolder(run).class_names())
    page = inspect(open_app(), records="run:rainy")
    assert not page.exception
    assert set(listed(page)["True"]) == {"Rain"}
    assert f"1** of {(table['label'] == 'rain').sum()}" in texts(page)


def test_a_corrupt_run_is_told(open_app: OpenApp, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "torn"
    shutil.copytree(SHIPPED_RUN, run)
    (run / "oof.parquet").write_bytes(b"PAR1 torn")
    page = inspect(open_app(), records="run:torn")
    assert not page.exception
    assert "Expected a Parquet file of records" in texts(page)


def test_a_network_of_fifty_classes_explains_its_own_answer(
    open_app: OpenApp, fifty_dir: Path, fifty_run: RunFolder
) -> None:
    page = inspect(open_app(RUNS_DIR=fifty_run.path.parent, DATA_DIR=fifty_dir), records=f"run:{fifty_run.path.name}")
    told = texts(page)
    assert not page.exception
    assert not page.error
    assert "Explained by the network that gave this answer." in told
    assert "Most alike" in told


def test_other_records_begin_without_the_filters_of_the_last(open_app: OpenApp, tmp_path: Path) -> None:
    page = inspect(open_app(), true="rain")
    page.selectbox(key=state.RECORDS_PICKED.name).select("log").run()
    assert not page.exception
    assert not page.warning
    assert "There is no answer yet" in texts(page)


@pytest.fixture
def log(artifact: Path, tmp_path: Path) -> Store:
    """Three answers of the model in use; the sound of the first was kept."""
    store = Store.open(f"sqlite:///{tmp_path / 'log.sqlite3'}")
    classifier = Classifier.from_artifact(artifact)
    for seed in range(3):
        store.log(classifier.predict(noise(seed)), classifier.manifest, name=f"noise {seed}.wav", origin="app")
    store.keep_sound(store.get(1).prediction.clip_id, noise(0))
    return store


def test_logged_answers_are_inspected_the_newest_first(open_app: OpenApp, log: Store) -> None:
    page = inspect(open_app(), records="log")
    assert not page.exception
    assert not page.error
    assert listed(page)["Name"].tolist() == ["noise 2.wav", "noise 1.wav", "noise 0.wav"]
    assert set(listed(page)["True"]) == {"–"}
    told = texts(page)
    assert "true class not known" in told
    assert "Its sound was not kept" in told
    assert "EARSHOT_KEEP_AUDIO" in told


def test_a_logged_answer_with_its_sound_is_explained(open_app: OpenApp, log: Store) -> None:
    page = inspect(open_app(), records="log", clip=log.get(1).prediction.clip_id, answer=1)
    told = texts(page)
    assert not page.exception
    assert not page.error
    assert "What it heard, and why" in told
    assert "Explained by the network that gave this answer." in told
    assert len(page.get("bidi_component")) == 1


def test_a_label_is_confirmed_or_corrected_and_kept(open_app: OpenApp, artifact: Path, log: Store) -> None:
    page = inspect(open_app(), records="log", clip=log.get(2).prediction.clip_id, answer=2)
    answer = log.get(2).prediction.label
    page.button(key=state.CONFIRM.of("2").name).click().run()
    assert log.get(2).label == answer
    assert f"{read_label(answer)}, and it is" in texts(page)
    page.selectbox(key=state.CORRECTION.of("2").name).select(NONE_OF_THE_CLASSES).run()
    assert not page.exception
    assert "but it is none of the four classes" in texts(page)
    assert "1 of 3 records labelled as none of the classes" in texts(page)
    assert read_manifest(artifact).class_names == tuple(log.class_names(log.get(2).prediction.fingerprint))


def read_label(name: str) -> str:
    return name.replace("_", " ").capitalize()


def test_the_scale_of_a_confidence_is_said() -> None:
    records = answers(8)
    assert "as answered, at temperature 1" in next(_remarks(Answer.of(records, 0)))
    scaled = replace(records, temperatures=np.full(8, 1.5))
    assert "after temperature scaling (T = 1.50)" in next(_remarks(Answer.of(scaled, 0)))


@pytest.mark.parametrize(
    ("true", "right", "said"),
    [
        (None, None, ":material/help: None of the {n} classes · closest: {closest}, true class not known"),
        (
            NONE_OF_THE_CLASSES,
            True,
            ":material/check_circle: None of the {n} classes, and it is",
        ),
        ("thunder", True, ":material/check_circle: None of the {n} classes, and it is thunder"),
        ("closest", True, ":material/check_circle: None of the {n} classes · closest: {closest}, and it is"),
    ],
)
def test_what_was_called_unknown_is_not_told_as_its_closest_class(
    true: str | None, right: bool | None, said: str
) -> None:
    given = Answer.of(answers(8, unknown=np.ones(8, dtype=bool)), 0)
    true = given.predicted if true == "closest" else true
    found = _verdict(replace(given, true=true, right=right))
    assert found == said.format(n="four", closest=words.plain(given.predicted))
