import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from core.errors import RunError
from core.openset import CHOSEN, COLUMNS, FAR_EACH, far_strangers, fit_rule, summarise_open_set
from core.synthetic import FAR
from core.training.crossval import left_out_named
from core.unknown import SCORES


def scored(kind: str, values: np.ndarray, *, left_out: str = "", seed: int = 0, source: str = "x") -> pd.DataFrame:
    """Rows of ``COLUMNS`` with the same value under every score; folds 1 to 5 in turn."""
    rows = pd.DataFrame(dict.fromkeys(SCORES, values))
    folds = np.arange(len(values)) % 5 + 1
    names = [f"{kind}-{i}" for i in range(len(values))]
    return rows.assign(kind=kind, source=source, left_out=left_out, clip_id=names, fold=folds, seed=seed)[list(COLUMNS)]


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
        assert of_chosen["n_unknown"] == int((rows["kind"] != "known").sum())
    assert summary["near_pairs"][CHOSEN]["n_unknown"] == 40
    assert list(summary["near_by_class"]) == ["dog", "rain"]
    assert list(summary["near_pairs_by_class"]) == ["dog+rain"]


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


def test_far_strangers_are_of_every_kind_and_differ_between_folds() -> None:
    one, two = (list(far_strangers(8_000, seed=seed)) for seed in (1, 2))
    assert [stranger.source for stranger in one] == [name for name in FAR for _ in range(FAR_EACH)]
    assert not np.array_equal(one[0].samples, two[0].samples)
    assert len({stranger.clip_id for stranger in one + two}) == 2 * len(one)


def test_leaving_out_takes_class_names_each_or_several_at_once() -> None:
    names = ("dog", "rain", "rooster", "siren")
    assert left_out_named(["each", "rain+dog"], names) == (*((name,) for name in names), ("dog", "rain"))
    with pytest.raises(RunError, match="got 'cat'"):
        left_out_named(["cat"], names)
    with pytest.raises(RunError, match="two or more left"):
        left_out_named(["dog+rain+siren"], names)
