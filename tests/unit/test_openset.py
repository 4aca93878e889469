import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from core.config import AudioConfig
from core.dataset import Dataset, load_dataset
from core.errors import RunError
from core.excerpts import EXCERPTS_S
from core.openset import (
    CHOSEN,
    COLUMNS,
    FAR_EACH,
    excerpt_trials,
    far_trials,
    fit_rule,
    near_trials,
    summarise_open_set,
)
from core.synthetic import FAR
from core.training.crossval import left_out_named
from core.training.data import decode_clips
from core.unknown import SCORES
from tests.synthetic_dataset import write_dataset


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("toy")
    write_dataset(root, n_classes=2, folds=2, per_class_and_fold=1)
    return load_dataset(root)


def scored(
    kind: str, values: np.ndarray, *, left_out: str = "", seed: int = 0, source: str = "x", excerpt_s: float = math.nan
) -> pd.DataFrame:
    """Rows of ``COLUMNS`` with the same value under every score; folds 1 to 5 in turn."""
    rows = pd.DataFrame(dict.fromkeys(SCORES, values))
    folds = np.arange(len(values)) % 5 + 1
    names = [f"{kind}-{i}" for i in range(len(values))]
    facts = {"kind": kind, "source": source, "left_out": left_out, "excerpt_s": excerpt_s}
    return rows.assign(**facts, clip_id=names, fold=folds, seed=seed)[list(COLUMNS)]


def table(rng: np.random.Generator, seeds: int = 1) -> pd.DataFrame:
    parts = []
    for seed in range(seeds):
        parts += [
            scored("known", rng.normal(0, 1, 400), seed=seed),
            scored("far", rng.normal(3, 1, 60), seed=seed, source="tone"),
            scored("far", rng.normal(1, 1, 60), seed=seed, source="sweep"),
        ]
    for name in ("dog", "rain", "dog+rain"):
        parts += [
            scored("known", rng.normal(0, 1, 72), left_out=name),
            scored("near", rng.normal(2, 1, 40), left_out=name, source=name.partition("+")[0]),
        ]
    return pd.concat(parts, ignore_index=True)


def test_far_and_near_are_compared_with_the_known_clips_of_their_own_networks() -> None:
    scores = table(np.random.default_rng(0))
    summary = summarise_open_set(scores, rng=np.random.default_rng(0))
    plain, left_out = scores[scores["left_out"] == ""], scores[scores["left_out"].isin(["dog", "rain"])]
    for name, rows in (("far", plain), ("near", left_out)):
        of_chosen = summary[name][CHOSEN]
        assert of_chosen["auroc"]["value"] == pytest.approx(roc_auc_score(rows["kind"] != "known", rows[CHOSEN]))
        assert of_chosen["auroc"]["low"] < of_chosen["auroc"]["value"] < of_chosen["auroc"]["high"]
        strangers = rows[rows["kind"] != "known"]
        assert of_chosen["n_unknown"] == strangers["clip_id"].nunique() < len(strangers)  # two networks heard each
    assert summary["near_pairs"][CHOSEN]["n_unknown"] == 40
    assert list(summary["near_by_class"]) == ["dog", "rain"]
    assert list(summary["near_pairs_by_class"]) == ["dog+rain"]


def test_what_the_thresholds_flag_and_accept_is_told_by_source() -> None:
    scores = table(np.random.default_rng(0), seeds=2)
    found = summarise_open_set(scores, rng=np.random.default_rng(0))
    known = scores[(scores["kind"] == "known") & (scores["left_out"] == "")]
    limit = {fold: np.quantile(known.loc[known["fold"] != fold, CHOSEN], 0.95, method="higher") for fold in range(1, 6)}
    for source in ("tone", "sweep"):
        rows = scores[scores["source"] == source]
        above = float((rows[CHOSEN] > rows["fold"].map(limit)).mean())
        assert found["far_flagged"][source]["value"] == pytest.approx(above)
        assert found["far_flagged"][source]["n"] == 60  # however many networks heard them
    assert found["accepted_by_class"]["x"]["value"] == found["accepted"]
    near = scores[(scores["kind"] == "near") & scores["left_out"].isin(["dog", "rain"])]
    assert found["near_flagged"]["value"] == pytest.approx((near[CHOSEN] > fit_rule(scores).threshold).mean())
    assert found["near_flagged"]["low"] < found["near_flagged"]["value"] < found["near_flagged"]["high"]
    assert "near_pairs_flagged" in found


def test_harder_sources_show() -> None:
    by_source = summarise_open_set(table(np.random.default_rng(0)), rng=np.random.default_rng(0))["far_by_source"]
    assert by_source["tone"] > by_source["sweep"]


def test_several_seeds_are_averaged_and_add_no_evidence() -> None:
    one = summarise_open_set(table(np.random.default_rng(0)), rng=np.random.default_rng(0))["far"][CHOSEN]
    three = summarise_open_set(table(np.random.default_rng(0), seeds=3), rng=np.random.default_rng(0))["far"][CHOSEN]
    assert three["n_known"] == one["n_known"] == 400
    assert three["auroc"]["high"] - three["auroc"]["low"] == pytest.approx(
        one["auroc"]["high"] - one["auroc"]["low"], rel=0.3
    )


def test_the_rule_accepts_what_it_promises_and_is_judged_on_other_folds() -> None:
    scores = table(np.random.default_rng(0))
    rule = fit_rule(scores)
    known = scores[(scores["kind"] == "known") & (scores["left_out"] == "")]
    assert rule.score == CHOSEN
    assert float((known[CHOSEN] <= rule.threshold).mean()) == pytest.approx(0.95, abs=0.005)
    shifted = scores.copy()
    strange_fold = (shifted["fold"] == 1) & (shifted["kind"] == "known") & (shifted["left_out"] == "")
    shifted.loc[strange_fold, CHOSEN] += 100  # a threshold of its own would still accept most of it
    accepted = summarise_open_set(shifted, rng=np.random.default_rng(0))["accepted"]
    assert accepted == pytest.approx(0.8 * 1.0, abs=0.05)


def test_a_cross_validation_without_left_out_classes_has_no_near_numbers() -> None:
    scores = table(np.random.default_rng(0))
    summary = summarise_open_set(scores[scores["left_out"] == ""], rng=np.random.default_rng(0))
    assert "far" in summary
    assert not any(name.startswith("near") for name in summary)


def test_far_sounds_are_of_every_kind_and_differ_between_folds() -> None:
    one, two = (list(far_trials(8_000, seed=seed)) for seed in (1, 2))
    assert [stranger.source for stranger in one] == [name for name in FAR for _ in range(FAR_EACH)]
    assert not np.array_equal(one[0].samples, two[0].samples)
    assert len({stranger.clip_id for stranger in one + two}) == 2 * len(one)


def test_excerpts_count_where_they_are_asked_for_and_nowhere_else() -> None:
    scores = table(np.random.default_rng(0))
    shorter = scored("excerpt", np.random.default_rng(1).normal(2, 1, 400), excerpt_s=1.0)
    left_out = scored("excerpt", np.random.default_rng(2).normal(2, 1, 72), excerpt_s=1.0, left_out="dog")
    plain = summarise_open_set(scores, rng=np.random.default_rng(0))
    both = pd.concat([scores, shorter, left_out], ignore_index=True)
    summary = summarise_open_set(both, rng=np.random.default_rng(0))
    told = {key: value for key, value in summary.items() if "excerpts" not in key}
    assert told == {key: value for key, value in plain.items() if "excerpts" not in key}
    threshold = fit_rule(both).threshold
    assert summary["accepted_excerpts"]["1"] == pytest.approx(float((shorter[CHOSEN] <= threshold).mean()), abs=0.01)
    far = scores[scores["kind"] == "far"]
    expected = roc_auc_score(np.repeat([0, 1], [400, len(far)]), [*shorter[CHOSEN], *far[CHOSEN]])
    assert summary["far_excerpts"][CHOSEN] == pytest.approx(expected)
    assert plain["far_excerpts"] == {}
    assert plain["accepted_excerpts"] == {}


def test_excerpts_are_of_held_out_clips_and_near_sounds_of_left_out_classes(toy: Dataset) -> None:
    waves = decode_clips(toy.clips, AudioConfig())
    held_out = {clip.filename for clip in toy.clips if clip.fold == 1}
    excerpts = list(excerpt_trials(toy.clips, waves, held_out))
    assert {trial.clip_id for trial in excerpts} == held_out
    lengths = {(trial.clip_id, trial.excerpt_s): trial.samples.size for trial in excerpts}
    shortest = min(EXCERPTS_S)
    assert all(lengths[name, shortest] == round(shortest * AudioConfig().sample_rate_hz) for name in held_out)
    first = toy.class_names[0]
    near = list(near_trials(toy.clips, waves, [first]))
    assert {trial.clip_id for trial in near} == {clip.filename for clip in toy.clips if clip.label == first}


def test_leaving_out_takes_class_names_each_or_several_at_once() -> None:
    names = ("dog", "rain", "rooster", "siren")
    assert left_out_named(["each", "rain+dog"], names) == (*((name,) for name in names), ("dog", "rain"))
    with pytest.raises(RunError, match="got 'cat'"):
        left_out_named(["cat"], names)
    with pytest.raises(RunError, match="two or more left"):
        left_out_named(["dog+rain+siren"], names)
