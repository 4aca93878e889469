"""The chooser of records that every diagnostics page starts with."""

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app import services, state
from core.config import SHIPPED_ARTIFACT, SHIPPED_RUN


def script() -> None:
    import streamlit as st

    from app import components
    from app.records_input import records_chosen

    with components.errors_shown():
        records = records_chosen()
        st.markdown(f"{len(records)} records of {len(records.class_names)} classes")


@pytest.fixture
def page(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv("EARSHOT_ARTIFACT", str(artifact))
    monkeypatch.setenv("EARSHOT_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("EARSHOT_DATABASE_URL", f"sqlite:///{tmp_path / 'log.sqlite3'}")
    st.cache_resource.clear()
    return AppTest.from_function(script, default_timeout=300)


def foreign_file(names: bool = True) -> bytes:
    """What plain pandas writes, with two classes."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "clip_id": [f"c{i}" for i in range(20)],
            "fold": np.arange(20) % 5,
            "source_group": [f"s{i // 2}" for i in range(20)],
            "label": ["yes", "no"] * 10 if names else ["yes"] * 20,
            "logits": list(rng.normal(size=(20, 2))),
        }
    )
    file = io.BytesIO()
    table.to_parquet(file)
    return file.getvalue()


def test_the_shipped_run_is_there_from_the_first_minute(page: AppTest) -> None:
    page.run()
    assert not page.exception
    assert page.markdown[0].value.endswith("records of 10 classes")
    assert page.selectbox[0].options == ["Shipped cross-validation", "Prediction log", "A Parquet file of mine"]
    assert page.query_params["records"] == "shipped"


def test_a_choice_is_in_the_url_and_outlives_the_page(page: AppTest) -> None:
    page.run()
    page.selectbox[0].select(services.records.LOG).run()
    assert page.markdown[0].value == "0 records of 4 classes"
    assert page.query_params["records"] == "log"
    del page.query_params["records"]  # as Streamlit does when another page is opened
    page.run()
    assert page.markdown[0].value == "0 records of 4 classes"
    assert page.query_params["records"] == "log"


def test_a_link_opens_a_run_of_ones_own(page: AppTest, tmp_path: Path) -> None:
    shutil.copytree(SHIPPED_RUN, tmp_path / "runs" / "mine")
    page.query_params["records"] = "run:mine"
    page.run()
    assert page.markdown[0].value.endswith("records of 10 classes")
    assert page.selectbox[0].value == "run:mine"
    assert "mine" in page.caption[0].value


def test_records_that_have_gone_are_told_and_not_replaced_in_silence(page: AppTest) -> None:
    page.query_params["records"] = "run:gone"
    page.run()
    assert "run:gone" in page.warning[0].value.replace("\\", "")
    assert page.selectbox[0].value == "shipped"


@pytest.mark.parametrize("name", ["oof.parquet", "unknown.parquet"])
def test_a_corrupt_run_is_told(page: AppTest, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "runs" / "broken"
    shutil.copytree(SHIPPED_RUN, folder)
    shutil.copytree(SHIPPED_ARTIFACT, folder / "artifact")
    (folder / name).write_bytes(b"no parquet")
    page.query_params["records"] = "run:broken"
    page.run()
    assert not page.exception
    assert "it cannot be read" in page.error[0].value


def test_a_path_outside_the_runs_is_refused(page: AppTest, tmp_path: Path) -> None:
    shutil.copytree(SHIPPED_RUN, tmp_path / "secret")
    page.query_params["records"] = "run:../secret"
    page.run()
    assert page.selectbox[0].value == "shipped"
    with pytest.raises(Exception, match="Expected records of"):
        services.records.read("run:../secret")


def test_an_upload_is_asked_for_read_and_kept(page: AppTest) -> None:
    page.query_params["records"] = "upload"
    page.run()
    assert "Give a file" in page.info[0].value
    page.file_uploader(key=state.RECORDS_UPLOAD.name).upload("mine.parquet", foreign_file()).run()
    assert page.markdown[0].value == "20 records of 2 classes"


def test_a_file_without_class_names_asks_for_them(page: AppTest) -> None:
    page.query_params["records"] = "upload"
    page.run()
    page.file_uploader(key=state.RECORDS_UPLOAD.name).upload("mine.parquet", foreign_file(names=False)).run()
    assert "Expected the names of 2 classes" in page.error[0].value
    page.text_input[0].set_value("yes, no").run()
    assert page.markdown[0].value == "20 records of 2 classes"
    assert not page.error


def test_the_same_records_are_computed_once(page: AppTest) -> None:
    asked = []

    def count(records: object, add: int) -> int:
        asked.append(add)
        return len(records) + add

    records = services.records.read("shipped")
    again = records.take(np.arange(len(records)))
    assert (
        services.records.computed(count, records, 1) == services.records.computed(count, again, 1) == len(records) + 1
    )
    services.records.computed(count, records, 2)
    services.records.computed(count, records.take(np.arange(3)), 2)
    assert asked == [1, 2, 2]
