"""Accuracy, F1, confusions and comparisons against scikit-learn, torchmetrics and statsmodels."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support
from statsmodels.stats.contingency_tables import mcnemar
from torchmetrics.functional.classification import multiclass_f1_score

from core.config import ROOT
from core.diagnostics.classification import (
    CHANGE_COLUMNS,
    CLASS_COLUMNS,
    CONFUSION_COLUMNS,
    FOLD_COLUMNS,
    OTHER,
    PAIR_COLUMNS,
    compare,
    confused_pairs,
    confusion_table,
    macro_f1,
    most_confused,
    performance,
)
from core.errors import RecordsError
from core.families import FAMILIES, by_family, family_of
from core.record_tables import record_set
from core.recordset import RecordSet

ESC10 = ("dog", "rooster", "rain", "sea_waves", "crackling_fire", "crying_baby", "sneezing", "clock_tick", "helicopter")


def answered(true: np.ndarray, predicted: np.ndarray, names: tuple[str, ...], **columns: object) -> RecordSet:
    """Records whose strongest logit is the class ``predicted``."""
    n, classes = len(true), len(names)
    logits = np.random.default_rng(0).normal(0, 0.1, (n, classes)).astype(np.float32)
    logits[np.arange(n), predicted] += 3
    table = pd.DataFrame(
        {
            "clip_id": [f"c{i}" for i in range(n)],
            "fold": np.arange(n) % 5 + 1,
            "source_group": [f"s{i}" for i in range(n)],
            "label": np.asarray(names, dtype=object)[true],
        }
    ).assign(**columns)
    return record_set(table, title="toy", class_names=names, logits=logits, temperature=1.0)


def random(n: int = 200, classes: int = 6, seed: int = 0, accuracy: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, n)
    return true, np.where(rng.random(n) < accuracy, true, rng.integers(0, classes, n))


NAMES = tuple("abcdef")


@pytest.mark.parametrize("seed", range(3))
def test_every_number_is_that_of_scikit_learn_and_torchmetrics(seed: int) -> None:
    true, predicted = random(seed=seed)
    found = performance(answered(true, predicted, NAMES))
    precision, recall, f1, support = precision_recall_fscore_support(true, predicted, labels=range(6))
    assert tuple(found.per_class.columns) == CLASS_COLUMNS
    for measure, expected in (("precision", precision), ("recall", recall), ("f1", f1), ("n", support)):
        np.testing.assert_allclose(found.per_class[measure], expected, err_msg=measure)
    assert found.accuracy.value == pytest.approx((true == predicted).mean())
    assert found.macro_f1.value == pytest.approx(f1_score(true, predicted, average="macro"))
    assert found.balanced_accuracy.value == pytest.approx(recall.mean())
    for measure in ("precision", "recall", "f1"):
        low, value, high = (found.per_class[f"{measure}{end}"] for end in ("_low", "", "_high"))
        assert ((low <= value) & (value <= high) & (low >= 0) & (high <= 1)).all()
    for mean in (found.macro_f1, found.balanced_accuracy):
        assert mean.low < mean.value < mean.high


@pytest.mark.parametrize(("true", "predicted"), [([0, 0, 0], [0, 0, 1]), ([0, 1], [1, 0]), ([2, 2], [2, 2])])
def test_macro_f1_runs_over_the_classes_that_occur(true: list[int], predicted: list[int]) -> None:
    counts = confusion_matrix(true, predicted, labels=range(4))
    assert macro_f1(counts) == pytest.approx(f1_score(true, predicted, average="macro"))
    theirs = multiclass_f1_score(torch.tensor(predicted), torch.tensor(true), num_classes=4, average="macro")
    assert macro_f1(counts) == pytest.approx(float(theirs))


def test_the_baseline_names_the_commonest_class() -> None:
    found = performance(answered(np.array([1, 1, 1, 0]), np.array([1, 1, 1, 1]), ("dog", "rain")))
    assert (found.commonest, found.baseline.value) == ("rain", 0.75)


def test_folds_add_up() -> None:
    true, predicted = random()
    found = performance(answered(true, predicted, NAMES))
    assert tuple(found.per_fold.columns) == FOLD_COLUMNS
    assert found.per_fold["n"].sum() == 200
    assert np.average(found.per_fold["accuracy"], weights=found.per_fold["n"]) == pytest.approx(found.accuracy.value)
    of = np.arange(200) % 5 == 0
    assert found.per_fold["macro_f1"].iloc[0] == pytest.approx(f1_score(true[of], predicted[of], average="macro"))


def test_seeds_are_averaged_and_count_each_clip_once() -> None:
    true, one = random(seed=1)
    _, two = random(seed=2)
    parts = [answered(true, answers, NAMES, seed=seed) for seed, answers in enumerate((one, two))]
    both = record_set(
        pd.concat([part.table for part in parts], ignore_index=True),
        title="two",
        class_names=NAMES,
        logits=np.concatenate([part.logits for part in parts]),
        temperature=1.0,
    )
    found, single = performance(both), [performance(part) for part in parts]
    assert (found.n, found.seeds) == (200, 2)
    for name in ("accuracy", "macro_f1"):
        assert getattr(found, name).value == pytest.approx(np.mean([getattr(part, name).value for part in single]))
    assert found.accuracy_sd_over_seeds > 0
    np.testing.assert_allclose(
        found.per_class["recall"], np.mean([part.per_class["recall"] for part in single], axis=0)
    )
    assert found.per_class["n"].sum() == 200
    assert found.per_fold["n"].tolist() == [40] * 5


def test_one_seed_gives_one_bootstrap_and_the_order_of_records_does_not_matter() -> None:
    records = answered(*random(), NAMES)
    assert performance(records).macro_f1 == performance(records).macro_f1
    assert performance(records, seed=1).macro_f1 != performance(records).macro_f1
    shuffled = performance(records.take(np.random.default_rng(0).permutation(200)))
    assert shuffled.macro_f1.value == pytest.approx(performance(records).macro_f1.value)


def test_intervals_of_macro_f1_cover_where_recordings_have_several_clips() -> None:
    """The clips of a recording are right or wrong together: resampling clips would be too sure of itself."""
    rng, hits, alone = np.random.default_rng(0), 0, 0
    trials, recordings = 40, 60
    truth = macro_f1(np.full((3, 3), 0.1) + np.eye(3) * 0.7)
    for _ in range(trials):
        true = rng.integers(0, 3, recordings)
        wrong = rng.random(recordings) < 0.2
        answer = np.where(wrong, (true + rng.integers(1, 3, recordings)) % 3, true)
        groups = np.repeat(np.arange(recordings), 4).astype(str)
        records = answered(np.repeat(true, 4), np.repeat(answer, 4), ("a", "b", "c"), source_group=groups)
        found = performance(records, draws=100).macro_f1
        hits += found.low <= truth <= found.high
        apart = performance(answered(np.repeat(true, 4), np.repeat(answer, 4), ("a", "b", "c")), draws=100).macro_f1
        alone += apart.low <= truth <= apart.high
    assert hits >= 34  # 38 expected
    assert alone < 32


def test_equally_good_networks_are_seldom_told_apart_where_recordings_have_several_clips() -> None:
    """Clips of a recording are right or wrong together: taken for independent, a third of such pairs differed."""
    rng, alarms, trials, recordings = np.random.default_rng(0), 0, 60, 80
    true = np.zeros(5 * recordings, int)
    groups = np.repeat(np.arange(recordings), 5).astype(str)
    for _ in range(trials):
        answers = [np.repeat((rng.random(recordings) < 0.2).astype(int), 5) for _ in range(2)]
        sides = [answered(true, answer, ("a", "b"), source_group=groups) for answer in answers]
        found = compare(*sides, draws=100)
        assert "whole recordings" in found.test
        alarms += found.p < 0.05
    assert alarms <= 9  # 3 expected; 9 or fewer in 99.9 % of tries


def test_macro_f1_of_few_recordings_has_no_interval() -> None:
    true = np.repeat([0, 1, 2], [90, 5, 5])
    found = performance(answered(true, np.zeros(100, int), ("a", "b", "c"), source_group=np.full(100, "one"))).macro_f1
    assert found.value == pytest.approx(0.316, abs=1e-3)
    assert np.isnan([found.low, found.high]).all()


def test_without_an_error_the_interval_does_not_collapse() -> None:
    true = np.arange(40) % 4
    found = performance(answered(true, true, ("a", "b", "c", "d")))
    assert found.macro_f1.value == found.accuracy.value == 1
    assert found.macro_f1.low == pytest.approx(0.025 ** (1 / 40))  # Clopper–Pearson for 40 of 40
    assert (found.per_class["f1_low"] < 0.8).all()


def test_edges_are_defined_or_say_that_they_are_not() -> None:
    none = performance(answered(np.zeros(0, int), np.zeros(0, int), NAMES))
    assert none.n == 0
    assert np.isnan([none.accuracy.value, none.macro_f1.value, none.baseline.value]).all()
    assert none.per_fold.empty
    one = performance(answered(np.array([0]), np.array([0]), NAMES))
    assert (one.n, one.accuracy.value, one.macro_f1.value) == (1, 1, 1)
    assert one.accuracy.low < 0.3
    assert one.per_class["recall"].isna().tolist() == [False, *[True] * 5]
    same = performance(answered(np.zeros(30, int), random(30)[1], NAMES))
    assert same.baseline.value == 1
    assert np.isnan(same.per_class["recall"][1])
    assert same.per_class["precision"][1] == 0


def test_unlabelled_records_take_no_part() -> None:
    true, predicted = random(30)
    records = answered(true, predicted, NAMES)
    blank = records.table.assign(label=records.table["label"].where(np.arange(30) % 2 == 0))
    half = record_set(blank, title="x", class_names=NAMES, logits=records.logits, temperature=1.0)
    assert performance(half).n == 15
    assert confusion_table(half)["n"].sum() == 15


def test_a_confusion_table_is_that_of_scikit_learn() -> None:
    true, predicted = random()
    table = confusion_table(answered(true, predicted, NAMES))
    assert tuple(table.columns) == CONFUSION_COLUMNS
    ours = table.pivot_table(index="true", columns="predicted", values="n")
    np.testing.assert_array_equal(ours, confusion_matrix(true, predicted))
    normal = table.pivot_table(index="true", columns="predicted", values="share")
    np.testing.assert_allclose(normal, confusion_matrix(true, predicted, normalize="true"))


def test_classes_stand_by_family() -> None:
    assert by_family(("helicopter", "dog", "kettle", "rain", "rooster")) == (
        "dog",
        "rooster",
        "rain",
        "helicopter",
        "kettle",
    )
    assert family_of("kettle") == "Other classes"
    names = [name for family in FAMILIES.values() for name in family.split()]
    assert [len(family.split()) for family in FAMILIES.values()] == [10] * 5
    assert len(set(names)) == 50
    table = confusion_table(answered(np.zeros(1, int), np.zeros(1, int), ("helicopter", "dog")))
    assert table["true"].tolist() == ["dog", "dog", "helicopter", "helicopter"]


def test_the_families_agree_with_the_shipped_attribution_where_it_says() -> None:
    """ESC-50 numbers its classes by family: targets 0 to 9 are animals, and so on."""
    table = pd.read_csv(ROOT / "core" / "assets" / "attribution.csv")
    if {"filename", "category"} <= set(table.columns):
        target = table["filename"].str.extract(r"-(\d+)\.")[0].astype(int)
        order = list(FAMILIES)
        assert (table["category"].map(lambda name: order.index(family_of(name))) == target // 10).all()


def test_with_fifty_classes_the_most_confused_are_shown_and_nothing_is_lost() -> None:
    names = tuple(f"c{k:02}" for k in range(50))
    true, predicted = random(2_000, classes=50)
    predicted = np.where(true == 7, 8, predicted)
    records = answered(true, predicted, names)
    assert {"c07", "c08"} <= set(most_confused(records, 5))
    table = confusion_table(records)
    shown = table["true"].unique().tolist()
    assert len(shown) == 21
    assert shown[-1] == OTHER
    assert table["n"].sum() == 2_000
    chosen = confusion_table(records, classes=("c08", "c07"))
    assert chosen["true"].unique().tolist() == ["c08", "c07", OTHER]
    cell = chosen[(chosen["true"] == "c07") & (chosen["predicted"] == "c08")].iloc[0]
    assert cell["n"] == cell["of"] == (true == 7).sum()
    assert chosen["n"].sum() == 2_000


def test_pairs_are_the_errors_the_commonest_first() -> None:
    true = np.array([0] * 10 + [1] * 10)
    predicted = np.array([1] * 3 + [2] + [0] * 6 + [0] * 2 + [1] * 8)
    pairs = confused_pairs(answered(true, predicted, ("a", "b", "c")))
    assert tuple(pairs.columns) == PAIR_COLUMNS
    assert pairs[["true", "predicted", "n", "of", "back"]].values.tolist() == [
        ["a", "b", 3, 10, 2],
        ["b", "a", 2, 10, 3],
        ["a", "c", 1, 10, 0],
    ]
    assert pairs["confidence"].between(0.8, 1).all()
    assert len(confused_pairs(answered(true, predicted, ("a", "b", "c")), most=1)) == 1
    assert confused_pairs(answered(true, true, ("a", "b", "c"))).empty


def test_a_comparison_of_two_networks_is_exact_mcnemar() -> None:
    true, one = random(seed=3)
    two = np.where(np.random.default_rng(5).random(200) < 0.3, true, one)
    found = compare(answered(true, one, NAMES), answered(true, two, NAMES))
    right_one, right_two = true == one, true == two
    table = [[(right_one & right_two).sum(), (right_one & ~right_two).sum()], [(~right_one & right_two).sum(), 0]]
    assert found.p == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert found.test == "exact McNemar"
    assert (found.only_a, found.only_b) == (table[0][1], table[1][0])
    assert found.difference.value == pytest.approx(right_two.mean() - right_one.mean())
    assert found.difference.low < found.difference.value < found.difference.high
    assert tuple(found.per_class.columns) == CHANGE_COLUMNS
    assert (found.per_class["only_b"] - found.per_class["only_a"]).sum() == found.only_b - found.only_a
    back = compare(answered(true, two, NAMES), answered(true, one, NAMES))
    assert (back.p, back.difference.value) == pytest.approx((found.p, -found.difference.value))


def test_a_comparison_uses_the_clips_that_both_answered_in_any_order() -> None:
    true, one = random(seed=3)
    records = answered(true, one, NAMES)
    part = records.take(np.random.default_rng(0).permutation(200)[:50])
    found = compare(records, part)
    assert (found.n, found.p, found.difference.value) == (50, 1.0, 0.0)
    assert found.difference.low < 0 < found.difference.high  # fifty clips cannot rule out every difference
    with pytest.raises(RecordsError, match="found none"):
        compare(records, answered(true, one, NAMES, clip_id=[f"other{i}" for i in range(200)]))


def test_with_several_networks_signs_are_flipped_and_the_level_is_kept() -> None:
    rng, small = np.random.default_rng(0), 0
    names = ("a", "b")
    true = np.zeros(60, dtype=int)
    for trial in range(12):
        sides = []
        for _ in range(2):  # two seeds each, equally good
            drawn = [answered(true, (rng.random(60) < 0.3).astype(int), names, seed=seed) for seed in range(2)]
            sides.append(
                record_set(
                    pd.concat([part.table for part in drawn], ignore_index=True),
                    title="side",
                    class_names=names,
                    logits=np.concatenate([part.logits for part in drawn]),
                    temperature=1.0,
                )
            )
        found = compare(*sides, seed=trial, draws=50)
        assert "sign flips" in found.test
        small += found.p < 0.05
    assert small <= 3  # 0.6 expected
