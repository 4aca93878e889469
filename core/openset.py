"""How well unknown sounds are told from known ones, measured on networks that heard neither.

known    held-out clips of the classes a network was trained on
excerpt  their loudest parts: a score must not take a short sound for a strange one
far      sounds synthesized from nothing (``core.synthetic``)
near     clips of a class that was left out of a network's training altogether

Every network scores all four with the embeddings of its own training clips, so the scores are those it would serve.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.artifact import Artifact
from core.audio import Waveform
from core.classifier import familiarity_of
from core.dataset import Clip
from core.diagnostics.intervals import share
from core.diagnostics.unknown import auroc, separation
from core.excerpts import EXCERPTS_S, excerpts
from core.inference import infer
from core.synthetic import far_sounds
from core.unknown import ACCEPTED, SCORES, Score, UnknownRule, acceptance_threshold

CHOSEN: Score = "combined"  # best near, far and on excerpts together: see EXPERIMENTS.md
FAR_EACH = 20  # sounds of every kind for every network
COLUMNS = ("left_out", "kind", "source", "clip_id", "excerpt_s", "fold", "seed", *SCORES)


class Trial(NamedTuple):
    """A sound to score beside the held-out clips."""

    kind: Literal["far", "near", "excerpt"]
    source: str  # what it is
    clip_id: str
    samples: NDArray[np.float32]
    excerpt_s: float = math.nan  # of an excerpt, how long


def far_trials(sample_rate_hz: int, *, seed: int) -> Iterator[Trial]:
    """Synthesized sounds; others for another ``seed``."""
    for number, (name, samples) in enumerate(far_sounds(FAR_EACH, sample_rate_hz, seed=seed)):
        yield Trial("far", name, f"far-{seed}-{number}", samples)


def near_trials(clips: Sequence[Clip], waves: Sequence[Waveform], left_out: Sequence[str]) -> Iterator[Trial]:
    """Every clip of the classes ``left_out``."""
    for clip, wave in zip(clips, waves, strict=True):
        if clip.label in left_out:
            yield Trial("near", clip.label, clip.filename, wave.samples)


def excerpt_trials(clips: Sequence[Clip], waves: Sequence[Waveform], held_out: Collection[str]) -> Iterator[Trial]:
    """The loudest ``EXCERPTS_S`` of every clip that is ``held_out``, by name."""
    for clip, wave in zip(clips, waves, strict=True):
        if clip.filename in held_out:
            for seconds, part in zip(EXCERPTS_S, excerpts(wave), strict=True):
                yield Trial("excerpt", clip.label, clip.filename, part, seconds)


def score_open_set(
    artifact: Artifact, records: pd.DataFrame, trials: Iterable[Trial], *, left_out: Sequence[str] = ()
) -> pd.DataFrame:
    """``COLUMNS``: one row for each of ``records``, the held-out clips as evaluated, and one for each trial."""
    heard = list(trials)
    answers = [infer(artifact.net, trial.samples, artifact.manifest.audio) for trial in heard]
    rows = records[["label", "clip_id", "fold", "seed"]].rename(columns={"label": "source"}).assign(kind="known")
    fold, seed = records[["fold", "seed"]].iloc[0]
    facts = [(trial.kind, trial.source, trial.clip_id, trial.excerpt_s) for trial in heard]
    others = pd.DataFrame(facts, columns=["kind", "source", "clip_id", "excerpt_s"])
    rows = pd.concat([rows.assign(excerpt_s=math.nan), others.assign(fold=fold, seed=seed)], ignore_index=True)
    logits = np.stack([*records["logits"], *(answer.logits for answer in answers)]).astype(np.float32)
    embeddings = np.stack([*records["embedding"], *(answer.embedding for answer in answers)]).astype(np.float32)
    scores = familiarity_of(artifact).scores(logits, embeddings)
    return rows.assign(left_out="+".join(left_out), **scores)[list(COLUMNS)]


def fit_rule(scores: pd.DataFrame) -> UnknownRule:
    """The chosen score with the threshold that accepts 95 % of the held-out clips of every fold and seed."""
    return UnknownRule(score=CHOSEN, threshold=acceptance_threshold(_known(scores)[CHOSEN].to_numpy()))


def summarise_open_set(scores: pd.DataFrame, *, rng: np.random.Generator) -> dict[str, Any]:
    """Separation of far and near strangers for every score, with intervals, and how many known clips are accepted.

    ``accepted``, ``accepted_by_class`` and ``accepted_excerpts``, by length in seconds, use for each fold a threshold
    from the other folds; so does ``far_flagged``, the share of sounds of each source that are called unknown.
    ``near_flagged`` and ``near_pairs_flagged`` use the threshold that is shipped, which is of other networks.
    ``far_excerpts`` and ``near_excerpts`` are AUROCs with excerpts of known clips in place of whole ones. Values of
    several seeds are means over seeds, and so are their intervals: seeds answer for the same clips and add no evidence
    about new ones.
    """
    left_out = scores[scores["left_out"] != ""]
    single = ~left_out["left_out"].str.contains("+", regex=False)
    rows_of = {"far": scores[scores["left_out"] == ""], "near": left_out[single], "near_pairs": left_out[~single]}
    summary: dict[str, Any] = {"score": CHOSEN, "accepted_wanted": ACCEPTED} | _nested_acceptance(rows_of["far"])
    for name, rows in rows_of.items():
        if len(rows):
            summary[name] = _separations(rows, rng)
            summary[f"{name}_excerpts"] = _separations_from_excerpts(rows)
            group, column = ("source", "source") if name == "far" else ("class", "left_out")
            summary[f"{name}_by_{group}"] = _by(rows, column)
            if name != "far":
                near = rows[rows["kind"] == "near"]
                flagged = near[CHOSEN] > fit_rule(scores).threshold
                summary[f"{name}_flagged"] = asdict(share(float(flagged.mean()), int(near["clip_id"].nunique())))
    return summary


def _known(scores: pd.DataFrame) -> pd.DataFrame:
    return scores[(scores["left_out"] == "") & (scores["kind"] == "known")]


def _nested_acceptance(rows: pd.DataFrame) -> dict[str, Any]:
    known = rows[rows["kind"] == "known"]
    thresholds = {
        fold: acceptance_threshold(known.loc[known["fold"] != fold, CHOSEN].to_numpy())
        for fold in known["fold"].unique()
    }
    passed = rows[CHOSEN] <= rows["fold"].map(thresholds)
    excerpts = rows["kind"] == "excerpt"
    by_length = passed[excerpts].groupby(rows.loc[excerpts, "excerpt_s"]).mean().sort_index(ascending=False)
    accepted = share(float(passed[known.index].mean()), int(known["clip_id"].nunique()))
    return {
        "accepted": accepted.value,
        "accepted_low": accepted.low,
        "accepted_high": accepted.high,
        "accepted_n": accepted.n,
        "accepted_by_class": _shares_by_source(rows[rows["kind"] == "known"], passed),
        "accepted_excerpts": {f"{seconds:g}": float(passing) for seconds, passing in by_length.items()},
        "far_flagged": _shares_by_source(rows[rows["kind"] == "far"], ~passed),
    }


def _shares_by_source(rows: pd.DataFrame, holds: pd.Series[bool]) -> dict[str, dict[str, float]]:
    """Share of the ``rows`` of each source for which it ``holds``, with its interval at the number of sounds."""
    return {
        str(source): asdict(share(float(holds[group.index].mean()), int(group["clip_id"].nunique())))
        for source, group in rows.groupby("source", sort=True)
    }


def _separations_from_excerpts(rows: pd.DataFrame) -> dict[str, float]:
    """AUROC of every score; each seed alone, then their mean."""
    swapped = rows[rows["kind"] != "known"].assign(kind=lambda left: left["kind"].replace("excerpt", "known"))
    of_seeds = [group for _, group in swapped.groupby("seed") if (group["kind"] == "known").any()]
    return {name: float(np.mean([auroc(*_sides(group, name)) for group in of_seeds])) for name in SCORES if of_seeds}


def _separations(rows: pd.DataFrame, rng: np.random.Generator) -> dict[str, Any]:
    """For every score: AUROC, AUPR and FPR95, each with value, low and high, and both n.

    Networks without different classes answer for the same clips, which are then one piece of evidence.
    """
    of_seeds = [
        {name: asdict(separation(*_sides(group, name), rng=rng, clips=_clips(group))) for name in SCORES}
        for _, group in rows[rows["kind"] != "excerpt"].groupby("seed")
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
    for name, group in rows[~rows["kind"].isin(("known", "excerpt"))].groupby(column, sort=False):
        same = known if column == "source" else known[known[column] == name]
        summary[str(name)] = auroc(same[CHOSEN].to_numpy(), group[CHOSEN].to_numpy())
    return summary


def _clips(rows: pd.DataFrame) -> tuple[list[str], list[str]]:
    is_known = rows["kind"] == "known"
    return rows.loc[is_known, "clip_id"].to_list(), rows.loc[~is_known, "clip_id"].to_list()


def _sides(rows: pd.DataFrame, score: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    is_known = rows["kind"] == "known"
    return rows.loc[is_known, score].to_numpy(np.float64), rows.loc[~is_known, score].to_numpy(np.float64)
