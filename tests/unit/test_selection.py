import numpy as np
import pandas as pd
import pytest

from core.diagnostics.selection import Selection, is_right, place_of, positions, true_labels
from core.record_tables import record_set
from core.recordset import RecordSet

NAMES = ("dog", "rain")


@pytest.fixture
def log() -> RecordSet:
    """A dog, right and wrong, rain called unknown, another sound called unknown, one not, and one unlabelled."""
    table = pd.DataFrame(
        {
            "clip_id": ["a", "b", "c", "d", "e", "a"],
            "fold": [0] * 6,
            "seed": [0] * 6,
            "source_group": ["a", "b", "c", "d", "e", "a"],
            "label": ["dog", "dog", "rain", "door bell", "none_of_the_classes", None],
            "unknown": [False, False, True, True, False, False],
            "id": [1, 2, 3, 4, 5, 6],
            "logits": [[4.0, 0.0], [0.0, 1.0], [0.0, 3.0], [2.0, 0.0], [0.0, 2.5], [5.0, 0.0]],
        }
    )
    return record_set(table, title="log", class_names=NAMES, temperature=1.0, keep_other_labels=True)


def found(records: RecordSet, **wanted: object) -> list[int]:
    return positions(records, Selection(**wanted)).tolist()  # type: ignore[arg-type]


def test_an_unknown_sound_is_answered_rightly_by_saying_so(log: RecordSet) -> None:
    assert is_right(log).astype(object).where(is_right(log).notna(), None).tolist() == [
        True,
        False,
        True,
        True,
        False,
        None,
    ]


def test_each_filter_takes_what_it_says(log: RecordSet) -> None:
    assert found(log) == [0, 1, 2, 3, 4, 5]
    assert found(log, true=("dog",)) == [0, 1]
    assert found(log, true=("door bell", "rain")) == [2, 3]
    assert found(log, predicted=("rain",)) == [1, 2, 4]
    assert found(log, outcome="right") == [0, 2, 3]
    assert found(log, outcome="wrong") == [1, 4]
    assert found(log, outcome="unlabelled") == [5]
    assert found(log, unknown=True) == [2, 3]
    assert found(log, unknown=False) == [0, 1, 4, 5]
    assert found(log, source="a") == [0, 5]
    assert found(log, folds=(0,), seed=0, true=("dog",), outcome="wrong") == [1]
    assert found(log, folds=(1,)) == []


def test_confidence_is_a_range_with_both_ends(log: RecordSet) -> None:
    exact = float(log.confidence[1])
    assert found(log, confidence=(exact, exact)) == [1]
    assert found(log, confidence=(0.0, exact)) == [1]


def test_orders(log: RecordSet) -> None:
    assert found(log, order="newest") == [5, 4, 3, 2, 1, 0]
    surest = found(log, order="surest")
    assert surest == np.argsort(-log.confidence, kind="stable").tolist()
    assert found(log, order="unsurest") == surest[::-1]


def test_true_labels_include_those_of_no_class(log: RecordSet) -> None:
    assert true_labels(log).fillna("").tolist() == ["dog", "dog", "rain", "door bell", "none_of_the_classes", ""]


def test_an_answer_is_found_by_its_id_or_its_seed(log: RecordSet) -> None:
    assert place_of(log, "a", answer=1) == 0
    assert place_of(log, "a") == 5  # the newest
    assert place_of(log, "b", answer=1) is None
    assert place_of(log, "z") is None
    table = pd.DataFrame(
        {
            "clip_id": ["a", "a"],
            "fold": 1,
            "seed": [0, 1],
            "source_group": "s",
            "label": "dog",
            "logits": [[1.0, 0.0]] * 2,
        }
    )
    run = record_set(table, title="run", class_names=NAMES, temperature=1.0)
    assert place_of(run, "a") == 0
    assert place_of(run, "a", seed=1) == 1
    assert place_of(run, "a", seed=2) is None
