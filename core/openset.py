"""How well unknown sounds are told from known ones, measured on networks that heard neither.

known   held-out clips of the classes a network was trained on
far     sounds synthesized from nothing (``core.synthetic``)
near    clips of a class that was left out of a network's training altogether

Every network scores all three with the embeddings of its own training clips, so the scores are those it would serve.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.artifact import Artifact
from core.classifier import familiarity_of
from core.diagnostics.unknown import auroc, separation
from core.inference import infer
from core.synthetic import far_sounds
from core.unknown import ACCEPTED, SCORES, Score, UnknownRule, acceptance_threshold

CHOSEN: Score = "either"  # good near and far, where each of the others fails at one: see EXPERIMENTS.md
FAR_EACH = 20  # sounds of every kind for every network
COLUMNS = ("left_out", "kind", "source", "clip_id", "fold", "seed", *SCORES)


class Stranger(NamedTuple):
    """A sound of no class that the network knows."""

    kind: str  # "far" or "near"
    source: str  # what it is
    clip_id: str
    samples: NDArray[np.float32]


def far_strangers(sample_rate_hz: int, *, seed: int) -> Iterator[Stranger]:
    """Synthesized sounds; others for another ``seed``."""
    for number, (name, samples) in enumerate(far_sounds(FAR_EACH, sample_rate_hz, seed=seed)):
        yield Stranger("far", name, f"far-{seed}-{number}", samples)


def score_open_set(
    artifact: Artifact, records: pd.DataFrame, strangers: Iterator[Stranger], *, left_out: Sequence[str] = ()
) -> pd.DataFrame:
    """``COLUMNS``: one row for each of ``records``, the held-out clips as evaluated, and one for each stranger."""
    heard = list(strangers)
    answers = [infer(artifact.net, stranger.samples, artifact.manifest.audio) for stranger in heard]
    rows = records[["label", "clip_id", "fold", "seed"]].rename(columns={"label": "source"}).assign(kind="known")
    fold, seed = records[["fold", "seed"]].iloc[0]
    others = pd.DataFrame([(it.kind, it.source, it.clip_id) for it in heard], columns=["kind", "source", "clip_id"])
    rows = pd.concat([rows, others.assign(fold=fold, seed=seed)], ignore_index=True)
    logits = np.stack([*records["logits"], *(answer.logits for answer in answers)]).astype(np.float32)
    embeddings = np.stack([*records["embedding"], *(answer.embedding for answer in answers)]).astype(np.float32)
    scores = familiarity_of(artifact).scores(logits, embeddings)
    return rows.assign(left_out="+".join(left_out), **scores)[list(COLUMNS)]


def fit_rule(scores: pd.DataFrame) -> UnknownRule:
    """The chosen score with the threshold that accepts 95 % of the held-out clips of every fold and seed."""
    return UnknownRule(score=CHOSEN, threshold=acceptance_threshold(_known(scores)[CHOSEN].to_numpy()))


def summarise_open_set(scores: pd.DataFrame, *, rng: np.random.Generator) -> dict[str, Any]:
    """Separation of far and near strangers for every score, with intervals, and how many known clips are accepted.

    ``accepted`` uses for each fold a threshold from the other folds. Values of several seeds are means over seeds, and
    so are their intervals: seeds answer for the same clips and add no evidence about new ones.
    """
    left_out = scores[scores["left_out"] != ""]
    single = ~left_out["left_out"].str.contains("+", regex=False)
    near = {"near": left_out[single], "near_pairs": left_out[~single]}
    summary: dict[str, Any] = {"score": CHOSEN, "accepted_wanted": ACCEPTED, "accepted": _nested_acceptance(scores)}
    summary["far"] = _separations(scores[scores["left_out"] == ""], rng)
    summary["far_by_source"] = _by(scores[scores["left_out"] == ""], "source")
    for name, rows in near.items():
        if len(rows):
            summary[name] = _separations(rows, rng)
            summary[f"{name}_by_class"] = _by(rows, "left_out")
    return summary


def _known(scores: pd.DataFrame) -> pd.DataFrame:
    return scores[(scores["left_out"] == "") & (scores["kind"] == "known")]


def _nested_acceptance(scores: pd.DataFrame) -> float:
    known = _known(scores)
    accepted = [
        group[CHOSEN] <= acceptance_threshold(known.loc[known["fold"] != fold, CHOSEN].to_numpy())
        for fold, group in known.groupby("fold")
    ]
    return float(pd.concat(accepted).mean())


def _separations(rows: pd.DataFrame, rng: np.random.Generator) -> dict[str, Any]:
    """For every score: AUROC, AUPR and FPR95, each with value, low and high, and both n."""
    of_seeds = [
        {name: asdict(separation(*_sides(group, name), rng=rng)) for name in SCORES}
        for _, group in rows.groupby("seed")
    ]
    return {name: _mean([seed[name] for seed in of_seeds]) for name in SCORES}


def _mean(of_seeds: Sequence[Any]) -> Any:
    first = of_seeds[0]
    if isinstance(first, dict):
        return {key: _mean([seed[key] for seed in of_seeds]) for key in first}
    return first if isinstance(first, int) else float(np.mean(of_seeds))


def _by(rows: pd.DataFrame, column: str) -> dict[str, float]:
    """AUROC of the chosen score for the strangers of each group alone; known clips of all groups when by source."""
    known = rows[rows["kind"] == "known"]
    summary = {}
    for name, group in rows[rows["kind"] != "known"].groupby(column, sort=False):
        same = known if column == "source" else known[known[column] == name]
        summary[str(name)] = auroc(same[CHOSEN].to_numpy(), group[CHOSEN].to_numpy())
    return summary


def _sides(rows: pd.DataFrame, score: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    is_known = rows["kind"] == "known"
    return rows.loc[is_known, score].to_numpy(np.float64), rows.loc[~is_known, score].to_numpy(np.float64)
