"""Drift: the report's numbers against scipy and statsmodels, its verdict by simulation, its words, and bad input.

``python -m tests.simulate_drift`` measures false alarms and power with many more draws.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp, wasserstein_distance
from statsmodels.stats.multitest import multipletests

from core.cli import main
from core.config import SHIPPED_RUN
from core.descriptors import NAMES
from core.diagnostics.comparability import fold_share, networks
from core.diagnostics.drift import compare, one_row_a_clip
from core.diagnostics.drift_report import DriftReport
from core.diagnostics.drift_tables import (
    DAY_COLUMNS,
    DAYS_AT_MOST,
    DISTRIBUTION_COLUMNS,
    day_count,
    distribution_table,
    over_time,
)
from core.record_tables import record_set
from core.recordset import RecordSet
from core.sources import shipped
from tests.simulate_drift import draw, false_alarm, false_alarm_by_recording, false_alarm_of_clips, power, shifted


@pytest.fixture(scope="module")
def held_out() -> RecordSet:
    return one_row_a_clip(shipped())


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def quick(reference: RecordSet, current: RecordSet, rng: np.random.Generator) -> DriftReport:
    return compare(reference, current, rng=rng, with_embedding=False)


def records(n: int, rng: np.random.Generator, **columns: object) -> RecordSet:
    """Two classes, one descriptor; anything else as given."""
    table = pd.DataFrame(
        {
            "clip_id": [f"c{i}" for i in range(n)],
            "fold": 0,
            "source_group": [f"s{i}" for i in range(n)],
            "label": None,
            "rms_dbfs": rng.normal(-20, 5, n),
        }
    ).assign(**columns)
    logits = rng.normal(size=(n, 2)).astype(np.float32)
    return record_set(table, title="made", class_names=("no", "yes"), logits=logits, temperature=1.0)


def test_every_number_is_that_of_scipy_and_statsmodels(held_out: RecordSet, rng: np.random.Generator) -> None:
    a, b = held_out.take(np.arange(0, 300)), held_out.take(np.arange(100, 400))
    report = quick(a, b, rng)
    assert [feature.name for feature in report.features] == list(NAMES)
    for feature in report.features:
        x, y = (side.table[feature.name].dropna().to_numpy() for side in (a, b))
        expected = ks_2samp(x, y)
        assert (feature.statistic, feature.p) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
        assert feature.effect == pytest.approx(wasserstein_distance(x, y) / x.std(ddof=1))
        assert feature.median_shift == pytest.approx(np.median(y) - np.median(x))
    adjusted = multipletests([feature.p for feature in report.features], method="holm")[1]
    np.testing.assert_allclose([feature.p_adjusted for feature in report.features], adjusted)


def test_a_feature_is_flagged_only_past_holm_the_fixed_effect_and_chance(
    held_out: RecordSet, rng: np.random.Generator
) -> None:
    moved = shifted(held_out, "loudness_lufs", 3)
    for feature in quick(held_out, moved, rng).features:
        past = feature.p_adjusted < 0.05 and feature.effect > max(0.2, feature.null_95)
        assert feature.flag is past
        assert feature.flag is (feature.name == "loudness_lufs")


@pytest.mark.parametrize("n", [50, 200])
def test_false_alarms_without_drift_are_rare(held_out: RecordSet, n: int) -> None:
    """20 draws: 5 or more alarms would come of a rate of 7 % once in 90 times. Measured: 3 to 4.5 %."""
    rng = np.random.default_rng(n)
    assert sum(false_alarm(held_out, 400, n, rng=rng) for _ in range(20)) < 5


def test_false_alarms_are_rare_where_clips_of_a_recording_stay_together(held_out: RecordSet) -> None:
    """20 draws each. With every clip for evidence of its own, 25 and 90 of 100 draws alarmed; measured: 4.5 and 2.5."""
    rng = np.random.default_rng(3)
    assert sum(false_alarm_by_recording(held_out, 200, rng=rng) for _ in range(20)) < 5
    assert sum(false_alarm_of_clips(held_out, 50, 4, rng=rng) for _ in range(10)) < 4


@pytest.mark.parametrize("name", ["rms_dbfs", "spectral_bandwidth_hz", "mel_band_5_db"])
def test_a_shift_of_half_a_standard_deviation_is_found_at_200(held_out: RecordSet, name: str) -> None:
    """Measured over 200 draws each: .96 for the bandwidth, 1 for most."""
    rng = np.random.default_rng(1)
    assert sum(power(held_out, name, 400, 200, rng=rng) for _ in range(8)) >= 6


@pytest.mark.parametrize(
    ("n", "verdict", "indicative"),
    [
        (0, "not_enough_data", False),
        (1, "not_enough_data", False),
        (49, "not_enough_data", False),
        (50, "no_drift", True),
        (199, "no_drift", True),
        (200, "no_drift", False),
    ],
)
def test_the_verdict_knows_its_n(
    held_out: RecordSet, rng: np.random.Generator, n: int, verdict: str, indicative: bool
) -> None:
    apart = replace(held_out, table=held_out.table.assign(source_group=held_out.table["clip_id"]))
    report = quick(apart, apart.take(np.arange(0, 400, 2)[:n]), rng)
    assert (report.verdict, report.indicative, report.n_current) == (verdict, indicative, n)
    assert f"{n:,} current" in report.headline()
    json.dumps(report.as_json(), allow_nan=False)
    assert report.in_words()


def test_a_few_records_are_not_judged_however_far_they_moved(held_out: RecordSet, rng: np.random.Generator) -> None:
    far = shifted(held_out.take(np.arange(40)), "rms_dbfs", -60)
    report = quick(held_out, far, rng)
    assert (report.verdict, report.causes) == ("not_enough_data", ())
    assert next(feature for feature in report.features if feature.name == "rms_dbfs").flag


def test_a_quiet_window_is_called_so_in_decibels(held_out: RecordSet, rng: np.random.Generator) -> None:
    levels = [name for name in NAMES if name.endswith(("_dbfs", "_lufs")) or name.startswith("mel_band")]
    quieter = replace(held_out, table=held_out.table.assign(**{n: held_out.table[n] - 14 for n in levels}))
    assert quick(held_out, quieter, rng).causes == ("14 dB quieter",)


def test_a_band_limit_is_named_by_its_edge(held_out: RecordSet, rng: np.random.Generator) -> None:
    table = held_out.table.assign(
        mel_band_8_db=held_out.table["mel_band_8_db"] - 55,
        mel_band_7_db=held_out.table["mel_band_7_db"] - 3,
    )
    assert quick(held_out, replace(held_out, table=table), rng).causes == ("nothing above 8 kHz",)


def test_silence_confidence_and_classes_are_causes_too(held_out: RecordSet, rng: np.random.Generator) -> None:
    table = held_out.table.copy()
    table.loc[:150, [name for name in NAMES if name != "active_fraction"]] = np.nan
    assert any("digital silence" in cause for cause in quick(held_out, replace(held_out, table=table), rng).causes)
    unsure = replace(held_out, logits=held_out.logits * np.float32(0.3))
    assert any(cause.startswith("less confident answers") for cause in quick(held_out, unsure, rng).causes)
    dogs = held_out.take(np.flatnonzero(held_out.predicted == held_out.class_names.index("dog")).repeat(2))
    assert any(cause.startswith("more dog: 100 % of answers") for cause in quick(held_out, dogs, rng).causes)


def test_a_level_that_is_missing_alone_is_no_silence(held_out: RecordSet, rng: np.random.Generator) -> None:
    table = held_out.table.assign(rms_dbfs=np.nan)
    report = quick(held_out, replace(held_out, table=table), rng)
    assert report.silent.current == report.silent.reference
    assert not any("silence" in cause for cause in report.causes)


def test_where_nothing_can_be_compared_there_is_no_verdict(held_out: RecordSet, rng: np.random.Generator) -> None:
    n = 300
    table = pd.DataFrame(
        {
            "clip_id": [f"a{i}" for i in range(n)],
            "fold": 1,
            "source_group": [f"s{i}" for i in range(n)],
            "label": ["a"] * n,
        }
    )
    logits = rng.normal(size=(n, 3)).astype(np.float32)
    others = record_set(table, title="others", class_names=("a", "b", "c"), logits=logits, temperature=1.0)
    report = quick(held_out, others, rng)
    assert report.verdict == "not_enough_data"
    assert not report.indicative
    assert report.headline().startswith(f"Nothing to compare: 300 current records and {report.n_reference:,} have no")


def test_records_without_labels_are_scaled_as_the_reference_is(held_out: RecordSet, rng: np.random.Generator) -> None:
    """A file brings no temperature: taken at its raw logits, it would look less confident than the reference."""
    raw = replace(held_out, temperatures=np.ones(len(held_out)), table=held_out.table.assign(label=None))
    report = quick(held_out, raw, rng)
    assert report.confidence is not None
    assert not report.confidence.flag
    assert report.accuracy_estimate is not None
    assert report.accuracy_estimate.value == pytest.approx(report.accuracy_estimate.reference_accuracy, abs=0.03)


def test_clips_the_served_model_was_fitted_on_do_not_count_as_confident(
    held_out: RecordSet, rng: np.random.Generator
) -> None:
    table = held_out.table.assign(fold=0, name=held_out.table["clip_id"], label=None)
    log = replace(held_out, table=table, logits=held_out.logits * np.float32(5), fingerprint="f")
    report = quick(replace(held_out, fingerprint="f"), log, rng)
    assert report.verdict == "no_drift"
    assert report.confidence is None
    assert any("400 of 400 current records are clips that the model was trained on" in note for note in report.notes)
    apart = held_out.table["clip_id"]
    new = replace(
        log, table=log.table.assign(source_group=apart, name=["new"] * 90 + [*apart[90:]], clip_id=range(400))
    )
    estimate = quick(
        replace(held_out, fingerprint="f", table=held_out.table.assign(source_group=apart)), new, rng
    ).accuracy_estimate
    assert estimate is not None
    assert estimate.n == 90


def test_answers_of_different_models_or_classes_are_not_compared(held_out: RecordSet, rng: np.random.Generator) -> None:
    others = replace(held_out, fingerprint="other")
    report = quick(replace(held_out, fingerprint="f"), others, rng)
    assert (report.confidence, report.accuracy_estimate) == (None, None)
    assert "different models" in report.classes.reason
    assert compare(held_out, records(60, rng), rng=rng).classes.reason == "the two sides know different classes"


def test_embeddings_of_different_networks_are_never_compared(held_out: RecordSet, rng: np.random.Generator) -> None:
    """A network was trained for each fold. Fold 5 against the others would be a false alarm, and so would any log."""
    assert fold_share(held_out) > 0.3
    fold = held_out.table["fold"].to_numpy()
    report = compare(held_out.take(fold < 5), held_out.take(fold == 5), rng=rng)
    assert "different ones" in report.embedding.reason
    assert np.isnan(report.embedding.mmd)
    log = replace(held_out, table=held_out.table.assign(fold=0))
    assert "different ones" in networks(held_out, log)[0]
    assert "different ones" in networks(held_out.take(fold == 1), held_out.take(fold == 2))[0]


def test_embeddings_of_the_same_networks_are_compared(held_out: RecordSet, rng: np.random.Generator) -> None:
    order = rng.permutation(len(held_out))
    a, b = held_out.take(order[:200]), held_out.take(order[200:])
    same = compare(a, b, rng=rng).embedding
    assert (same.reason, same.flag) == ("", False)
    assert b.embedding is not None
    moved = replace(b, embedding=b.embedding * np.float32(1.5))
    far = compare(a, moved, rng=rng)
    assert far.embedding.flag
    assert far.causes == (
        "what the network makes of the sounds lies elsewhere (embedding MMD), and no descriptor says how: "
        "listen to some of them",
    )


def test_folds_do_not_matter_where_one_network_embedded_them_all(rng: np.random.Generator) -> None:
    wide = [rng.normal(size=(n, 16)).astype(np.float32) for n in (150, 80)]
    reference = replace(records(150, rng, fold=np.arange(150) % 5 + 1), embedding=wide[0])
    assert networks(reference, replace(records(80, rng), embedding=wide[1])) == ("", None)
    one_fold = replace(records(80, rng, fold=1), embedding=wide[1])
    assert networks(one_fold, replace(records(150, rng), embedding=wide[0])) == ("", None)


def test_embeddings_that_do_not_match_are_told(held_out: RecordSet, rng: np.random.Generator) -> None:
    assert held_out.embedding is not None
    assert "no embeddings on the current side" in networks(held_out, replace(held_out, embedding=None))[0]
    narrow = replace(held_out, embedding=held_out.embedding[:, :3])
    assert "different lengths" in networks(held_out, narrow)[0]
    assert networks(held_out, held_out.take(np.arange(1)))[0] == "too few embeddings"


def test_several_seeds_answer_once(held_out: RecordSet, rng: np.random.Generator) -> None:
    twice = replace(
        held_out.take(np.tile(np.arange(400), 2)),
        table=pd.concat([held_out.table, held_out.table.assign(seed=7)], ignore_index=True),
    )
    assert len(one_row_a_clip(twice)) == 400
    assert quick(twice, held_out, rng).n_reference == 400


def test_few_recordings_give_no_verdict_however_many_clips_they_were_cut_into(
    held_out: RecordSet, rng: np.random.Generator
) -> None:
    far = shifted(held_out, "rms_dbfs", -60)
    report = quick(held_out, far.take(np.zeros(60, dtype=np.int64)), rng)
    assert (report.n_current, report.n_current_recordings, report.verdict) == (60, 1, "not_enough_data")
    assert report.headline().startswith("Not enough data: 60 current records are of 1 recording, at least 25")
    one = quick(held_out, far.take(np.zeros(1, dtype=np.int64)), rng)
    assert one.headline() == "Not enough data: 1 current record, at least 50 are needed for a verdict."
    whole = quick(held_out, far, rng)
    recordings = held_out.table["source_group"].nunique()
    assert whole.verdict == "drift"
    assert whole.headline() == (
        f"Drift, 400 current records against 400, of {recordings:,} and {recordings:,} recordings."
    )
    assert whole.as_json()["n_reference_recordings"] == recordings


def test_one_clip_a_recording_is_judged_as_it_was_before_recordings_counted(
    held_out: RecordSet, rng: np.random.Generator
) -> None:
    apart = replace(held_out, table=held_out.table.assign(source_group=held_out.table["clip_id"]))
    report = quick(apart, apart.take(np.arange(0, 400, 2)), rng)
    assert report.headline() == "No drift found, 200 current records against 400."
    assert {feature.design_effect for feature in report.features} == {1.0}
    assert not any("recording" in note for note in report.notes)


def test_one_name_for_every_recording_tells_nothing_and_is_told(held_out: RecordSet, rng: np.random.Generator) -> None:
    nameless = replace(held_out, table=held_out.table.assign(source_group="esc"))
    report = quick(nameless, nameless.take(np.arange(60)), rng)
    assert (report.n_current_recordings, report.verdict) == (60, "no_drift")
    assert any("names the same recording" in note for note in report.notes)


def test_descriptors_that_one_side_lacks_are_left_out_and_told(held_out: RecordSet, rng: np.random.Generator) -> None:
    bare = replace(held_out, table=held_out.table.drop(columns=["loudness_lufs"]).assign(rms_dbfs="loud"))
    report = quick(held_out, bare, rng)
    assert {feature.name for feature in report.features} == set(NAMES) - {"loudness_lufs", "rms_dbfs"}
    assert any("loudness_lufs" in note and "rms_dbfs" in note for note in report.notes)
    none = replace(held_out, table=held_out.table.drop(columns=list(NAMES)))
    assert quick(none, none, rng).features == ()


def test_the_label_free_estimate_is_the_mean_calibrated_confidence(
    held_out: RecordSet, rng: np.random.Generator
) -> None:
    estimate = quick(held_out, held_out, rng).accuracy_estimate
    assert estimate is not None
    temperature = float(np.median(held_out.temperatures))
    scaled = replace(held_out, temperatures=np.full(400, temperature))
    assert estimate.value == pytest.approx(scaled.confidence.mean())
    assert estimate.low < estimate.value < estimate.high
    assert estimate.labelled_accuracy == pytest.approx(held_out.correct.mean())
    assert "not what they are called" in estimate.validity


def test_clips_of_a_recording_make_the_label_free_estimate_no_surer(
    held_out: RecordSet, rng: np.random.Generator
) -> None:
    once = held_out.take(np.unique(held_out.table["source_group"], return_index=True)[1])
    apart, cut = (
        quick(held_out, one, rng).accuracy_estimate for one in (once, once.take(np.repeat(range(len(once)), 4)))
    )
    assert apart is not None
    assert cut is not None
    assert (cut.value, cut.low, cut.high) == pytest.approx((apart.value, apart.low, apart.high))
    p = replace(once, temperatures=np.full(len(once), np.median(held_out.temperatures))).confidence
    assert apart.value - apart.low == pytest.approx(1.96 * np.sqrt((p * (1 - p)).sum()) / len(once))


def test_the_distribution_table_counts_every_value_once(held_out: RecordSet, rng: np.random.Generator) -> None:
    current = draw(held_out, 70, rng)
    table = distribution_table(held_out, current)
    assert tuple(table.columns) == DISTRIBUTION_COLUMNS
    counts = table.groupby(["feature", "set"])["n"].sum()
    assert counts["rms_dbfs", "reference"] == 400
    assert counts["confidence", "current"] == 70
    np.testing.assert_allclose(table.groupby(["feature", "set"])["share"].sum(), 1)
    assert set(table["feature"]) == {*NAMES, "confidence"}
    assert len(distribution_table(held_out.take(np.zeros(0, dtype=np.int64)), current)) == len(table)


def test_days_are_judged_one_by_one_and_share_one_level(held_out: RecordSet, rng: np.random.Generator) -> None:
    day = pd.Timestamp("2026-01-01", tz="UTC")
    quiet = shifted(held_out.take(np.arange(0, 400, 2)), "loudness_lufs", -20)
    parts = [(held_out.take(np.arange(10)), 0), (held_out.take(np.arange(0, 400, 5)), 1), (quiet, 3)]
    tables = [part.table.assign(created_at=day + pd.Timedelta(days=after, hours=3)) for part, after in parts]
    log = replace(
        held_out.take(np.arange(290)),
        table=pd.concat(tables, ignore_index=True),
    )
    days = over_time(held_out, log, rng=rng)
    assert tuple(days.columns) == DAY_COLUMNS
    assert days["n"].tolist() == [10, 80, 200]
    assert days["verdict"].tolist() == ["not_enough_data", "no_drift", "drift"]
    assert days["indicative"].tolist() == [False, True, False]
    assert "20 dB quieter" in days["causes"].iloc[2]
    assert over_time(held_out, held_out, rng=rng).empty
    assert (day_count(log), day_count(held_out)) == (3, 0)


def test_only_the_latest_days_are_judged_and_all_are_counted(held_out: RecordSet, rng: np.random.Generator) -> None:
    times = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.arange(len(held_out)) % 40, unit="D")
    log = replace(held_out, table=held_out.table.assign(created_at=times))
    days = over_time(held_out, log, rng=rng)
    assert (len(days), day_count(log)) == (DAYS_AT_MOST, 40)
    assert days["day"].iloc[-1] == times.max()


def test_the_command_compares_files_that_anyone_could_have_made(
    held_out: RecordSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No embedding, no seed, few descriptors, no labels, no class names in the file, plain pandas."""
    columns = ["clip_id", "fold", "source_group", "label", "rms_dbfs", "spectral_centroid_hz"]
    table = held_out.table[columns].assign(logits=list(held_out.logits.astype(float)))
    table.to_parquet(tmp_path / "a.parquet")
    current = table.iloc[:120].assign(label="", fold=0, rms_dbfs=lambda t: t["rms_dbfs"] - 14)
    current.to_parquet(tmp_path / "b.parquet")
    command = ["drift", "--reference", str(tmp_path / "a.parquet"), "--current", str(tmp_path / "b.parquet")]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n_reference"], found["n_current"]) == (400, 120)
    assert (found["verdict"], found["indicative"]) == ("drift", True)
    assert [cause.removesuffix(" dB quieter") for cause in found["causes"]] in (["14"], ["15"])
    assert {"name", "statistic", "p", "p_adjusted", "effect", "null_95", "flag"} <= set(found["features"][0])
    assert found["embedding"]["mmd"] is None
    assert {"mmd", "p", "flag", "reason"} <= set(found["embedding"])
    assert found["classes"]["shares"][0].keys() == {"name", "reference", "current"}
    assert main(command) == 0
    assert " dB quieter" in capsys.readouterr().out


def test_the_command_takes_the_shipped_run_by_default_and_an_empty_current_file(
    held_out: RecordSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.read_parquet(SHIPPED_RUN / "oof.parquet").head(0).to_parquet(tmp_path / "none.parquet")
    assert main(["drift", "--current", str(tmp_path / "none.parquet"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["n_current"]) == ("not_enough_data", 0)


def test_the_command_says_what_a_file_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame({"clip_id": ["a"]}).to_parquet(tmp_path / "bad.parquet")
    assert main(["drift", "--current", str(tmp_path / "bad.parquet")]) == 1
    assert "error [" in capsys.readouterr().err
