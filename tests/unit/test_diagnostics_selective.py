"""Measures of calibration, selective answering and conformal sets against independent implementations."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from mapie.classification import SplitConformalClassifier
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import log_loss, roc_auc_score
from torchmetrics.functional.classification import binary_calibration_error

from core.diagnostics.calibration import (
    adaptive_bins,
    adaptive_index,
    chance_gaps,
    class_calibration,
    confidence_histogram,
    ece_noise_floor,
    expected_calibration_error,
    reliability,
)
from core.diagnostics.conformal import class_coverage, conformal_table, set_sizes
from core.diagnostics.intervals import blocks_of, resamples
from core.diagnostics.measures import MEASURE_COLUMNS, MEASURES, calibration_table
from core.diagnostics.selective import (
    _resampled,
    acceptance,
    class_thresholds,
    confidence_tiers,
    risk_coverage_table,
    selection,
    threshold_for,
    threshold_table,
)
from core.record_tables import record_set
from core.recordset import RecordSet

NAMES = ("a", "b", "c", "d")


def drawn(
    n: int = 400, *, sharpness: float = 1.0, seed: int = 0, folds: int = 5, temperature: float = 1.0
) -> RecordSet:
    """Labels drawn from softmax(z); the network says softmax(sharpness · z): calibrated at 1, too sure above it."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2, (n, len(NAMES)))
    true = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    table = pd.DataFrame(
        {
            "clip_id": np.arange(n).astype(str),
            "fold": np.arange(n) % folds,
            "source_group": (np.arange(n) // 2).astype(str),
            "label": np.asarray(NAMES, dtype=object)[true],
        }
    )
    logits = (sharpness * z).astype(np.float32)
    return record_set(table, title="drawn", class_names=NAMES, logits=logits, temperature=temperature)


def test_measures_are_those_of_scikit_learn_torchmetrics_and_pandas() -> None:
    records = drawn(sharpness=2.0)
    table = calibration_table(records).set_index("measure")
    assert (tuple(table.reset_index().columns), tuple(table.index)) == (MEASURE_COLUMNS, MEASURES)
    p, true = records.probabilities, records.targets
    assert table.loc["ece", "value"] == pytest.approx(expected_calibration_error(records.confidence, records.correct))
    assert table.loc["nll", "value"] == pytest.approx(log_loss(true, p, labels=range(4)))
    assert table.loc["brier", "value"] == pytest.approx(((p - np.eye(4)[true]) ** 2).sum(axis=1).mean())
    by_class = [
        float(
            binary_calibration_error(
                torch.from_numpy(p[:, k].copy()), torch.from_numpy((true == k).astype(int)), n_bins=15
            )
        )
        for k in range(4)
    ]
    assert table.loc["classwise_ece", "value"] == pytest.approx(np.mean(by_class), abs=1e-6)
    np.testing.assert_allclose(class_calibration(records)["ece"], by_class, atol=1e-6)
    mass = pd.DataFrame({"p": records.confidence, "right": records.correct})
    mass["bin"] = pd.qcut(mass["p"].rank(method="first"), 7, labels=False)
    gaps = mass.groupby("bin").agg(n=("p", "size"), p=("p", "mean"), right=("right", "mean"))
    assert adaptive_bins(400) == 7
    assert table.loc["adaptive_ece", "value"] == pytest.approx(
        (gaps["n"] * (gaps["right"] - gaps["p"]).abs()).sum() / 400
    )
    assert (table["n"] == 400).all()
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()


def test_too_sure_a_network_is_over_the_floor_and_an_honest_one_is_not() -> None:
    honest, sure = (calibration_table(drawn(2_000, sharpness=s)).set_index("measure") for s in (1.0, 2.5))
    for measure in ("ece", "adaptive_ece", "classwise_ece", "brier", "nll"):
        assert honest.loc[measure, "value"] < 1.15 * honest.loc[measure, "noise_floor_95"], measure
        assert sure.loc[measure, "value"] > sure.loc[measure, "noise_floor_95"], measure


def test_floors_of_many_clips_are_those_simulated_one_by_one() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.beta(8, 1, 6_000)
    fast = ece_noise_floor(confidence, rng=np.random.default_rng(1))
    seen = [expected_calibration_error(confidence, rng.random(6_000) < confidence) for _ in range(300)]
    assert fast == pytest.approx((np.mean(seen), np.quantile(seen, 0.95)), rel=0.08)
    rare = np.full(3_000, 0.001)  # a sum that is no bell curve
    gaps = chance_gaps(rare, np.zeros(3_000, dtype=int), 1, rng=rng, draws=4_000)
    assert gaps.mean() == pytest.approx(0, abs=0.15)
    assert gaps.var() == pytest.approx(3, rel=0.1)


def test_floors_of_scores_are_what_labels_drawn_from_the_probabilities_give() -> None:
    records, rng = drawn(300), np.random.default_rng(0)
    table = calibration_table(records).set_index("measure")
    p = records.probabilities
    drawn_labels = (np.log(p)[None] + rng.gumbel(size=(400, *p.shape))).argmax(axis=2)
    nll = -np.log(p[np.arange(300), drawn_labels]).mean(axis=1)
    brier = np.array([((p - np.eye(4)[y]) ** 2).sum(axis=1).mean() for y in drawn_labels])
    for measure, seen in (("nll", nll), ("brier", brier)):
        expected = (np.mean(seen), np.quantile(seen, 0.95))
        assert tuple(table.loc[measure, ["noise_floor", "noise_floor_95"]]) == pytest.approx(expected, rel=0.03)


def test_intervals_of_calibration_cover() -> None:
    """Truth from very many clips of the same kind of network."""
    truth = calibration_table(drawn(200_000, sharpness=2.0, seed=99), draws=2).set_index("measure")["value"]
    hits = dict.fromkeys(("ece", "adaptive_ece", "brier", "nll"), 0)
    for seed in range(30):
        table = calibration_table(drawn(sharpness=2.0, seed=seed), draws=100).set_index("measure")
        for measure in hits:
            hits[measure] += table.loc[measure, "low"] <= truth[measure] <= table.loc[measure, "high"]
    assert min(hits.values()) >= 25, hits  # 28.5 expected


def test_equal_confidences_share_a_bin_of_equal_mass() -> None:
    assert len(set(adaptive_index(np.full(100, 0.7)))) == 1
    index = adaptive_index(np.random.default_rng(0).random(1_000))
    assert np.bincount(index).tolist() == [100] * 10


def test_reliability_counts_clips_and_the_histogram_right_and_wrong() -> None:
    records = drawn(sharpness=2.0, temperature=2.0)
    assert reliability(records)["n"].sum() == reliability(records, raw=True)["n"].sum() == 400
    histogram = confidence_histogram(records)
    assert histogram["right"].sum() == records.correct.sum()
    assert histogram["wrong"].sum() == 400 - records.correct.sum()
    twice = reliability(records)["accuracy_low"]
    assert (twice.dropna() <= reliability(records)["accuracy"].dropna()).all()


def test_the_area_under_the_risk_coverage_curve_by_its_definition() -> None:
    records = drawn()
    order = np.argsort(-records.confidence)
    wrong = ~records.correct[order]
    found = selection(records)
    assert found.aurc.value == pytest.approx(np.mean([wrong[:k].mean() for k in range(1, 401)]))
    assert found.aurc_random == pytest.approx(wrong.mean())
    best = np.sort(wrong)
    assert found.aurc_best == pytest.approx(np.mean([best[:k].mean() for k in range(1, 401)]))
    accuracy, ranked = 1 - wrong.mean(), roc_auc_score(records.correct, records.confidence)
    # Traub et al. 2024: AUGRC = (1 − AUROC) · acc · (1 − acc) + (1 − acc)² / 2
    assert found.augrc.value == pytest.approx((1 - ranked) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2)
    assert found.risk_at_cov.value == pytest.approx(wrong[:320].mean())
    kept = max(k for k in range(401) if k == 0 or wrong[:k].mean() <= 0.05)
    assert found.cov_at_risk.value == pytest.approx(kept / 400)


def test_a_resample_of_the_risk_coverage_curve_is_the_curve_of_repeated_records() -> None:
    """The bootstrap counts how often each recording is drawn; repeating its records must give the same numbers."""
    records = drawn(sharpness=2.0)
    coarse = record_set(  # with ties, among which errors are spread evenly
        records.table, title="x", class_names=NAMES, logits=np.round(records.logits).astype(np.float32), temperature=1.0
    )
    rng = np.random.default_rng(0)
    for one in (records, coarse):
        block = blocks_of(one.table["source_group"], rng=rng)
        weights = resamples(int(block.max()) + 1, rng=rng, draws=20)
        for found, weight in zip(_resampled(one, block, weights), weights, strict=True):
            again = one.take(np.repeat(np.arange(len(one)), weight[block].astype(np.int64)))
            order = np.argsort(-again.confidence, kind="stable")
            sure, wrong = again.confidence[order], (~again.correct[order]).astype(float)
            errors = np.cumsum(pd.Series(wrong).groupby(pd.factorize(sure)[0]).transform("mean").to_numpy())
            rank, n = np.arange(1, len(again) + 1), len(again)
            whole = np.r_[np.diff(sure) != 0, True]
            kept = rank[whole & (errors <= 0.05 * rank + 1e-9)].max(initial=0)
            at = math.ceil(0.8 * n - 1e-9)
            area = np.trapezoid(np.r_[0, errors]) / n**2
            assert found == pytest.approx(((errors / rank).mean(), area, kept / n, errors[at - 1] / at))


def test_intervals_of_the_risk_coverage_curve_hold_the_truth() -> None:
    """Truth from very many clips of the same kind of network; 38 of 40 hits are expected."""
    truth = selection(drawn(100_000, sharpness=2.0, seed=99), draws=2).estimates
    hits = dict.fromkeys(truth, 0)
    for seed in range(40):
        for name, of in selection(drawn(sharpness=2.0, seed=seed), draws=200).estimates.items():
            assert of.low <= of.value <= of.high
            hits[name] += of.low <= truth[name].value <= of.high
    assert min(hits.values()) >= 33, hits


def test_there_is_no_interval_where_no_resample_differs() -> None:
    records = drawn()
    found = selection(records.take(np.flatnonzero(records.correct)))
    assert (found.aurc.value, found.cov_at_risk.value) == (0, 1)
    assert all(math.isnan(of.low) and math.isnan(of.high) for of in found.estimates.values())
    few = selection(records.take(np.arange(5)))
    assert all(math.isnan(of.low) for of in few.estimates.values())


def test_ties_make_no_number_depend_on_the_order_of_records() -> None:
    records = drawn()
    coarse = record_set(
        records.table, title="x", class_names=NAMES, logits=np.round(records.logits).astype(np.float32), temperature=1.0
    )
    shuffled = coarse.take(np.random.default_rng(0).permutation(400))
    assert selection(coarse).aurc.value == pytest.approx(selection(shuffled).aurc.value)
    pd.testing.assert_frame_equal(threshold_table(coarse), threshold_table(shuffled))
    pd.testing.assert_frame_equal(risk_coverage_table(coarse), risk_coverage_table(shuffled))


def test_the_curve_ends_at_the_error_rate() -> None:
    records = drawn(1_000)
    curve = risk_coverage_table(records, points=50)
    assert len(curve) <= 50
    assert curve["coverage"].is_monotonic_increasing
    last = curve.iloc[-1]
    assert (last["coverage"], last["risk"]) == pytest.approx((1, 1 - records.correct.mean()))
    assert ((curve["low"] <= curve["risk"]) & (curve["risk"] <= curve["high"])).all()


def test_a_threshold_is_the_lowest_that_reaches_its_precision() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    correct = np.array([True, True, False, True, False])
    assert threshold_for(confidence, correct, 0.75) == 0.6  # three of four
    assert threshold_for(confidence, correct, 1.0) == 0.8
    assert threshold_for(confidence, correct, 0.6) == 0.0  # all may be accepted
    assert math.isnan(threshold_for(confidence, ~correct, 0.9))
    assert math.isnan(threshold_for(np.zeros(0), np.zeros(0, dtype=bool), 0.9))


def test_thresholds_keep_about_their_promise_on_the_folds_they_were_not_chosen_on() -> None:
    table = threshold_table(drawn(4_000)).set_index("target")
    for target in (0.9, 0.95):
        assert table.loc[target, "precision"] >= target
        assert table.loc[target, "held_out_precision"] == pytest.approx(target, abs=0.015)
        assert table.loc[target, "held_out_coverage"] == pytest.approx(table.loc[target, "coverage"], abs=0.05)
    assert table["threshold"].is_monotonic_increasing
    single = threshold_table(drawn(folds=1))
    assert (single["held_out_n"] == 0).all()
    by_class = class_thresholds(drawn(4_000), target=0.9)
    assert by_class["label"].tolist() == list(NAMES)
    assert (by_class["precision"] >= 0.9).all()


def test_tiers_and_acceptance_count_every_answer_once() -> None:
    records = drawn()
    tiers = confidence_tiers(records)
    assert tiers["n"].sum() == 400
    assert np.average(tiers["precision"], weights=tiers["n"]) == pytest.approx(records.correct.mean())
    found = acceptance(records, 0.7)
    assert found.accepted == (records.confidence >= 0.7).sum()
    assert found.wrong + found.avoided == (~records.correct).sum()
    assert found.lost == (records.correct & (records.confidence < 0.7)).sum()
    assert found.precision.value == pytest.approx(records.correct[records.confidence >= 0.7].mean())
    assert math.isnan(acceptance(records, 1.1).precision.value)


class Fixed(ClassifierMixin, BaseEstimator):
    """Gives back the probabilities it is asked about."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Fixed":
        self.classes_ = np.arange(x.shape[1])
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(axis=1)

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return x


def test_conformal_sets_are_those_of_mapie_fitted_on_the_other_folds() -> None:
    records = drawn(folds=4)
    p, fold = records.probabilities, records.table["fold"].to_numpy()
    held, sizes = np.zeros(400, dtype=bool), np.zeros(400)
    for one in range(4):
        of = fold == one
        model = Fixed().fit(p, records.targets)
        mapie = SplitConformalClassifier(model, confidence_level=0.9, prefit=True, conformity_score="lac")
        mapie.conformalize(p[~of], records.targets[~of])
        sets = mapie.predict_set(p[of])[1][:, :, 0]
        sets[np.arange(of.sum()), p[of].argmax(axis=1)] = True  # ours is never empty
        held[of], sizes[of] = sets[np.arange(of.sum()), records.targets[of]], sets.sum(axis=1)
    row = conformal_table(records).set_index("wanted").loc[0.9]
    assert row["coverage"] == pytest.approx(held.mean())
    assert row["mean_size"] == pytest.approx(sizes.mean())
    table = set_sizes(records)
    assert dict(zip(table["size"], table["n"], strict=True)) == dict(enumerate(np.bincount(sizes.astype(int))[1:], 1))
    by_class = class_coverage(records)
    assert np.average(by_class["coverage"], weights=by_class["n"]) == pytest.approx(held.mean())


def test_conformal_sets_cover_as_often_as_promised() -> None:
    within = []
    for seed in range(20):
        row = conformal_table(drawn(seed=seed, sharpness=0.3)).set_index("wanted").loc[0.9]
        within.append(row["low"] <= 0.9 <= row["high"])
        assert row["expected_low"] < 0.9 < row["expected_high"]
    assert np.sum(within) >= 17


def test_one_fold_needs_a_quantile_that_its_model_carries() -> None:
    assert conformal_table(drawn(folds=1))["coverage"].isna().all()
    assert set_sizes(drawn(folds=1)).empty


def test_nothing_gives_nan_and_one_clip_an_answer() -> None:
    for records, n in ((drawn().take(np.zeros(400, dtype=bool)), 0), (drawn(1), 1)):
        table = calibration_table(records)
        assert (table["n"] == n).all()
        assert table["value"].isna().all() == (n == 0)
        assert table["low"].isna().all()  # of so few recordings no bootstrap says anything
        assert math.isnan(selection(records).aurc.value) == (n == 0)
        assert len(risk_coverage_table(records)) == n
        assert len(threshold_table(records)) == 4
        assert confidence_tiers(records)["n"].sum() == n
        assert reliability(records)["n"].sum() == n
        assert class_calibration(records)["n"].sum() == n
        assert conformal_table(records)["coverage"].isna().all()
        assert acceptance(records, 0.5).n == n


def test_probabilities_of_zero_and_one_are_no_trouble() -> None:
    logits = np.tile([[200.0, 0.0, 0.0, 0.0]], (20, 1)).astype(np.float32)
    table = drawn(20).table
    records = record_set(table, title="x", class_names=NAMES, logits=logits, temperature=1.0)
    found = calibration_table(records).set_index("measure")
    assert found["value"].notna().all()
    assert found.loc["nll", "value"] == pytest.approx(-math.log(1e-12) * (1 - records.correct.mean()))
    assert softmax(logits, axis=1).max() == records.confidence.max() == 1
