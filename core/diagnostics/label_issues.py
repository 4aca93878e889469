"""Clips whose label may be wrong: where networks that never heard a clip are sure of another class.

Confident learning (Northcutt et al. 2021, cleanlab): a clip counts towards "labelled i, truly j" when its probability
of j reaches the mean probability that the clips labelled j have of j. From these counts comes how many labels of each
kind are likely wrong, and the clips with the least probability of their label are named. It finds candidates: an
error of the network on a rightly labelled, odd clip looks the same, so a person has to listen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.diagnostics.clips import Clips, labelled_clips
from core.diagnostics.neighbours import unit_rows
from core.recordset import RecordSet
from core.shares import in_percent

COLUMNS = ("clip_id", "seed", "fold", "source_group", "label", "suggested", "label_probability", "probability", "why")
NEIGHBOURS = 5  # asked for their labels
SHOWN = 200  # candidates for which neighbours are looked for; nobody listens to more


@dataclass(frozen=True)
class LabelIssues:
    """``found`` candidates among ``n`` labelled clips; ``table`` has the first ``SHOWN`` of them, ``COLUMNS``."""

    n: int
    found: int
    table: pd.DataFrame


def label_issues(records: RecordSet) -> LabelIssues:
    """Candidates, the least probable label first. None where fewer than two classes have clips.

    Probabilities are calibrated and means over networks. ``why`` says what speaks against the label.
    """
    clips = labelled_clips(records)
    present = np.unique(clips.targets)
    found = _candidates(clips, present) if present.size > 1 else np.zeros(0, dtype=np.int64)
    shown = found[:SHOWN]
    suggested = clips.probabilities[shown].argmax(axis=1) if shown.size else shown
    names = np.asarray(clips.class_names, dtype=object)
    near = neighbour_labels(records, clips.position[shown])
    table = clips.table.iloc[shown].assign(
        suggested=names[suggested],
        label_probability=clips.probabilities[shown, clips.targets[shown]],
        probability=clips.probabilities[shown, suggested],
        why=[
            _why(clips, clip, answer, labels)
            for clip, answer, labels in zip(shown.tolist(), suggested.tolist(), near, strict=True)
        ],
    )
    return LabelIssues(len(clips), int(found.size), table[list(COLUMNS)].reset_index(drop=True))


def _candidates(clips: Clips, present: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of clips that cleanlab names and whose most probable class is another than their label.

    Only classes that have clips take part; their probabilities are scaled to sum to 1.
    """
    from cleanlab.filter import find_label_issues  # takes a moment to import, and few callers come here

    among = clips.probabilities[:, present]
    named: Any = find_label_issues(
        np.searchsorted(present, clips.targets),
        among / among.sum(axis=1, keepdims=True),
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    found = np.asarray(named, dtype=np.int64)
    return found[clips.probabilities[found].argmax(axis=1) != clips.targets[found]]


def _why(clips: Clips, clip: int, answer: int, near: list[str]) -> str:
    """``98.2 % sea waves, 1.1 % helicopter; 3 of the 5 nearest clips are sea waves``."""
    label, other = (clips.class_names[k].replace("_", " ") for k in (int(clips.targets[clip]), answer))
    p, networks = clips.probabilities[clip], int(clips.networks[clip])
    said = f"{in_percent(p[answer])} {other}, {in_percent(p[clips.targets[clip]])} {label}"
    if networks > 1:
        said += f" (mean of {networks} networks)"
    alike = sum(name == clips.class_names[answer] for name in near)
    return f"{said}; {alike} of the {len(near)} nearest clips are {other}" if near else said


def neighbour_labels(records: RecordSet, positions: NDArray[np.int64], count: int = NEIGHBOURS) -> list[list[str]]:
    """For each clip at ``positions``: true classes of the ``count`` nearest clips in the embedding of its network.

    Clips of its own recording are left out. Nearest by cosine, see ``unit_rows``. Empty without embeddings.
    """
    near: list[list[str]] = [[] for _ in positions]
    if records.embedding is None or not len(positions):
        return near
    network = records.table.groupby(["fold", "seed"], dropna=False).ngroup().to_numpy()
    recording = pd.factorize(records.table["source_group"])[0]
    for one in np.unique(network[positions]):
        asked = np.flatnonzero(network[positions] == one)
        among = np.flatnonzero((network == one) & records.is_labelled)
        unit = unit_rows(records.embedding[np.concatenate([among, positions[asked]])])
        similarity = unit[among.size :] @ unit[: among.size].T
        for row, clip in zip(similarity, asked, strict=True):
            others = np.flatnonzero(recording[among] != recording[positions[clip]])
            nearest = among[others[np.argsort(-row[others], kind="stable")[:count]]]
            near[clip] = [records.class_names[k] for k in records.targets[nearest]]
    return near
