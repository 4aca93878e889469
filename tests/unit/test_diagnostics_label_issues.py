"""Wrong labels that were put there, and what cleanlab itself says."""

import numpy as np
import pytest
from cleanlab.filter import find_label_issues

from core.diagnostics.label_issues import COLUMNS, SHOWN, label_issues, neighbour_labels
from tests.answers import answers


def test_candidates_are_cleanlabs_and_swapped_labels_are_among_them() -> None:
    clean = answers(400, accuracy=0.97)
    swapped = clean.table["label"].copy()
    swapped[:8] = [f"class_{(i + 1) % 4}" for i in range(8)]
    records = answers(400, accuracy=0.97, label=swapped.to_list())
    issues = label_issues(records)
    theirs = find_label_issues(
        records.targets, records.probabilities, return_indices_ranked_by="self_confidence", n_jobs=1
    )
    assert issues.table["clip_id"].tolist() == records.table["clip_id"].iloc[theirs].tolist()
    assert tuple(issues.table.columns) == COLUMNS
    assert issues.n == 400
    hit = set(issues.table["clip_id"]) & set(clean.table["clip_id"][:8])
    assert len(hit) >= 7
    assert issues.table["label_probability"].is_monotonic_increasing
    assert "of the 5 nearest clips are class" in issues.table["why"].iloc[0]


@pytest.mark.parametrize("labels", [["class_0"] * 200, [None] * 200])
def test_one_class_or_none_leaves_nothing_to_doubt(labels: list[str | None]) -> None:
    issues = label_issues(answers(label=labels))
    assert issues.found == 0
    assert issues.table.empty


def test_classes_without_clips_and_several_networks_are_no_trouble() -> None:
    records = answers(300, classes=6, seeds=2, accuracy=0.6)
    some = records.take(np.flatnonzero(records.targets < 4))
    issues = label_issues(some)
    assert issues.n == 200
    assert "(mean of 2 networks)" in issues.table["why"].iloc[0]
    assert not issues.table["clip_id"].duplicated().any()


def test_no_more_are_explained_than_anybody_listens_to() -> None:
    rng = np.random.default_rng(0)
    issues = label_issues(answers(2_000, label=[f"class_{k}" for k in rng.integers(4, size=2_000)], accuracy=1.0))
    assert issues.found > SHOWN == len(issues.table)


def test_neighbours_are_of_the_same_network_and_of_other_recordings() -> None:
    records = answers(seeds=2)
    assert records.embedding is not None
    near = neighbour_labels(records, np.array([0]), count=3)[0]
    table = records.table
    mask = (table["fold"] == table["fold"][0]) & (table["seed"] == 0) & (table["source_group"] != "recording0")
    roots = np.sqrt(records.embedding)
    cosine = roots @ roots[0] / np.linalg.norm(roots, axis=1) / np.linalg.norm(roots[0])
    assert near == table["label"][mask].iloc[np.argsort(-cosine[mask])[:3]].to_list()
    assert neighbour_labels(answers(embedded=False), np.array([0])) == [[]]
