"""Errors, confusions and slices, against plain counting, scikit-learn, scipy and statsmodels."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, fisher_exact
from sklearn.metrics import confusion_matrix
from statsmodels.stats.multitest import multipletests

from core.diagnostics import slices as weak
from core.diagnostics.clips import labelled_clips
from core.diagnostics.failures import (
    CONFUSION_COLUMNS,
    ERROR_COLUMNS,
    confused_clips,
    confusions,
    ranked_errors,
    sure_errors,
    typical_clip,
)
from core.diagnostics.intervals import wilson
from core.recordset import RecordSet
from tests.answers import answers

UNLABELLED = [None] * 200


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (36, 40), (381, 400), (0, 8)])
def test_wilsons_interval_is_scipys(right: int, n: int) -> None:
    theirs = binomtest(right, n).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(wilson(right, n), (theirs.low, theirs.high), atol=1e-12)


def test_no_clips_have_no_interval() -> None:
    assert np.isnan(wilson([0], [0])).all()


def test_a_clip_is_one_row_however_many_networks_answered() -> None:
    records = answers(seeds=3)
    clips = labelled_clips(records)
    by_hand = (
        pd.DataFrame({"clip": records.table["clip_id"], "wrong": ~records.correct, "p": records.confidence})
        .assign(sure=lambda t: t["p"].where(t["wrong"], 0.0))
        .groupby("clip", sort=False)
    )
    assert clips.table["clip_id"].tolist() == list(by_hand.groups)
    assert clips.wrong.tolist() == by_hand["wrong"].sum().tolist()
    np.testing.assert_allclose(clips.error_confidence, by_hand["sure"].mean())
    p = pd.DataFrame(records.probabilities).groupby(records.table["clip_id"], sort=False).mean()
    np.testing.assert_allclose(clips.probabilities, p)
    assert clips.accuracy == pytest.approx(records.correct.mean())
    assert (clips.networks == 3).all()
    erred = clips.wrong > 0
    assert (records.confidence[clips.position] * ~records.correct[clips.position])[erred].min() > 0


def test_errors_are_ranked_by_how_sure_the_networks_were() -> None:
    records = answers()
    errors = ranked_errors(records)
    assert tuple(errors.columns) == ERROR_COLUMNS
    expected = np.sort(records.confidence[~records.correct])[::-1]
    np.testing.assert_allclose(errors["confidence"], expected)
    assert (records.table["clip_id"].iloc[errors["position"]].to_numpy() == errors["clip_id"].to_numpy()).all()


def test_an_error_of_all_networks_comes_before_a_surer_one_of_a_single_network() -> None:
    records = answers(seeds=3, accuracy=0.6)
    errors = ranked_errors(records)
    assert errors["error_confidence"].is_monotonic_decreasing
    assert errors["wrong"].iloc[0] == 3
    assert len(errors) == records.table["clip_id"][~records.correct].nunique()


def test_sure_errors_are_counted_with_their_interval() -> None:
    records = answers(seeds=1)
    found = sure_errors(records, at=0.8)
    sure = records.confidence >= 0.8
    assert (found.sure, found.wrong) == (sure.sum(), (sure & ~records.correct).sum())
    theirs = binomtest(found.wrong, found.sure).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    assert math.isnan(sure_errors(records, at=1.1).share)


@pytest.mark.parametrize("seeds", [1, 3])
def test_confusions_are_the_cells_of_the_confusion_matrix(seeds: int) -> None:
    records = answers(seeds=seeds)
    table = confusions(records)
    assert tuple(table.columns) == CONFUSION_COLUMNS
    matrix = confusion_matrix(records.targets, records.predicted) / seeds
    names = list(records.class_names)
    for row in table.itertuples():
        true, predicted = names.index(row.label), names.index(row.predicted)
        assert row.clips == pytest.approx(matrix[true, predicted])
        assert row.share == pytest.approx(matrix[true, predicted] / matrix[true].sum())
    assert table["clips"].sum() == pytest.approx(matrix.sum() - np.trace(matrix))
    assert table["clips"].is_monotonic_decreasing


def test_a_confusion_is_heard_beside_typical_clips_of_the_network_that_erred() -> None:
    records = answers(seeds=2, accuracy=0.7)
    pair = confusions(records).iloc[0]
    wrong = confused_clips(records, pair["label"], pair["predicted"])
    assert set(records.table["label"].iloc[wrong]) == {pair["label"]}
    assert not records.table["clip_id"].iloc[wrong].duplicated().any()
    typical = typical_clip(records, pair["predicted"], like=int(wrong[0]))
    assert typical is not None
    same = (records.table[["fold", "seed"]] == records.table[["fold", "seed"]].iloc[wrong[0]]).all(axis=1)
    candidates = np.flatnonzero(same & records.correct & (records.table["label"] == pair["predicted"]))
    assert records.embedding is not None
    centre = records.embedding[candidates].mean(axis=0)
    assert typical == candidates[np.linalg.norm(records.embedding[candidates] - centre, axis=1).argmin()]


def test_a_class_never_recognised_has_no_typical_clip() -> None:
    records = answers(accuracy=0.0, classes=2)
    flipped = records.take(np.flatnonzero(~records.correct))
    assert typical_clip(flipped, "class_0", like=0) is None


def nothing_to_say(records: RecordSet) -> None:
    assert ranked_errors(records).empty
    assert confusions(records).empty
    assert weak.slice_table(records).empty
    assert weak.recordings(records).empty


def test_an_unlabelled_log_and_an_empty_one_have_no_failures_to_show() -> None:
    records = answers(label=UNLABELLED)
    nothing_to_say(records)
    nothing_to_say(records.take(np.zeros(200, dtype=bool)))


def test_the_quiet_clips_that_fail_are_found_and_chance_is_excluded() -> None:
    rng = np.random.default_rng(3)
    records = answers(1_000, accuracy=1.0)
    quiet = records.table["rms_dbfs"] <= records.table["rms_dbfs"].quantile(0.1)
    logits = records.logits.copy()
    logits[np.flatnonzero(quiet)] = rng.normal(size=(int(quiet.sum()), 4))
    table = weak.slice_table(answers_like(records, logits))
    assert table.iloc[0][["family", "slice", "verdict"]].tolist() == ["level", "quiet", weak.WEAK]
    assert (table["verdict"] == weak.WEAK).sum() == 1
    assert table.iloc[0]["n"] == quiet.sum()


def answers_like(records: RecordSet, logits: np.ndarray) -> RecordSet:
    from dataclasses import replace

    return replace(records, logits=logits.astype(np.float32))


def test_p_values_are_fishers_and_holms() -> None:
    records = answers(300, seeds=1, device=["phone", "studio", "studio"] * 100)
    clips = labelled_clips(records)
    table = weak.slice_table(records)
    assert {"device phone", "device studio"} <= set(table["slice"])
    total, wrong = len(clips), int(clips.wrong.sum())
    for row in table.itertuples():
        k = round(row.n * (1 - row.accuracy))
        theirs = fisher_exact([[k, row.n - k], [wrong - k, total - row.n - wrong + k]], alternative="greater").pvalue
        assert row.p == pytest.approx(theirs, rel=1e-6)
    np.testing.assert_allclose(table["p_adjusted"], multipletests(table["p"], method="holm")[1])


def test_without_weak_slices_none_is_called_weak_in_nineteen_of_twenty_sets() -> None:
    alarms = sum(
        weak.slice_table(answers(200, rng_seed=seed, accuracy=0.8, embedded=False))["verdict"]
        .isin([weak.WEAK, weak.BELOW])
        .any()
        for seed in range(60)
    )
    assert alarms <= 6  # 5 % wanted; more than 6 of 60 would happen once in thirty


def test_a_slice_has_the_clips_it_names_and_every_one_is_a_part() -> None:
    records = answers(accuracy=0.7)
    table = weak.slice_table(records)
    assert tuple(table.columns) == weak.COLUMNS
    assert table["n"].between(weak.FEWEST, len(records) - 1).all()
    row = table.iloc[0]
    members = weak.members(records, row["family"], row["slice"])
    assert len(members) == row["n"]
    assert 1 - members["wrong"].mean() == pytest.approx(row["accuracy"])
    assert members["wrong"].is_monotonic_decreasing


def test_a_descriptor_that_never_varies_or_is_undefined_gives_no_slice() -> None:
    records = answers(rms_dbfs=np.full(200, -20.0), spectral_centroid_hz=np.full(200, np.nan))
    assert not weak.slice_table(records)["family"].isin(["level", "spectrum"]).any()


def test_recordings_that_fail_are_listed_by_wrong_clips() -> None:
    records = answers(seeds=2, accuracy=0.6)
    table = weak.recordings(records)
    assert tuple(table.columns) == weak.RECORDING_COLUMNS
    wrong = pd.Series(~records.correct).groupby(records.table["source_group"]).sum() / 2
    assert dict(zip(table["source_group"], table["wrong"], strict=True)) == wrong[wrong > 0].to_dict()
    assert (table["n"] == 2).all()
    alone = answers(source_group=[f"r{i}" for i in range(200)])
    assert weak.recordings(alone).empty
