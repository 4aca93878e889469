"""The prediction log as diagnostics read it, with what people said of it."""

from pathlib import Path

import numpy as np
import pytest

from core.artifact import Artifact
from core.audio import write_wav
from core.classifier import Classifier
from core.config import Limits
from core.errors import RecordsError, StoreError
from core.record_tables import record_set
from core.records import NONE_OF_THE_CLASSES
from core.sources import of_log
from core.store import Store

RATE = 32_000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(f"sqlite:///{tmp_path / 'log.sqlite3'}")


def test_labels_outside_the_classes_are_unknown_sounds_and_told(store: Store, untrained: Artifact) -> None:
    classifier = Classifier(untrained, Limits())
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    answer = classifier.predict(write_wav(noise, RATE))
    ids = store.log_all([(f"{i}.wav", answer) for i in range(4)], classifier.manifest, origin="app")
    store.correct(ids[0], "dog")
    store.correct(ids[1], NONE_OF_THE_CLASSES)
    store.correct(ids[2], "  door   bell ")
    records = of_log(store, classifier.manifest)
    assert len(records) == 4
    assert records.is_labelled.tolist() == [True, False, False, False]
    assert records.table["other_label"].fillna("").tolist() == ["", NONE_OF_THE_CLASSES, "door bell", ""]
    assert records.notes == (
        "2 of 4 records labelled as none of the classes: unknown sounds, which no accuracy counts",
    )
    assert records.frame()["correct"].isna().tolist() == [False, True, True, True]


def test_a_label_must_be_a_few_words(store: Store, untrained: Artifact) -> None:
    classifier = Classifier(untrained, Limits())
    answer = classifier.predict(write_wav(np.zeros(RATE, dtype=np.float32), RATE))
    number = store.log(answer, classifier.manifest, name="a.wav", origin="app")
    for label in ("", "  ", "x" * 101):
        with pytest.raises(StoreError, match="1 to 100 characters") as caught:
            store.correct(number, label)
        assert caught.value.code == "bad_label"


def test_elsewhere_labels_outside_the_classes_are_left_out_and_counted() -> None:
    import pandas as pd

    table = pd.DataFrame(
        {
            "clip_id": ["a", "b"],
            "fold": 0,
            "source_group": ["a", "b"],
            "label": ["dog", "door"],
            "logits": [[1.0, 0.0], [0.0, 1.0]],
        }
    )
    records = record_set(table, title="t", class_names=("dog", "rain"))
    assert records.table["clip_id"].tolist() == ["a"]
    assert records.notes == ("1 of 2 records left out with a label that is no class",)
    with pytest.raises(RecordsError, match="None of the 1 records"):
        record_set(table[1:], title="t", class_names=("dog", "rain"))
