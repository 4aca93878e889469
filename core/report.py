"""What a cross-validation measured, as a table that people and the README read. The numbers are in ``metrics.json``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from core.errors import RunError
from core.robustness import CONDITIONS
from core.shares import in_percent
from core.unknown import SCORES

SCORE_NAMES = {
    "msp": "1 − top probability (MSP)",
    "max_logit": "top logit",
    "energy": "energy",
    "knn": "distance to training clips (kNN)",
    "mahalanobis": "distance to classes (Mahalanobis)",
    "relative": "distance to classes less that to all (relative Mahalanobis)",
    "combined": "entropy and relative distance",
}
STRANGERS = {"far": "synthesized", "near": "one class left out", "near_pairs": "two left out"}
SHOWN = 3  # of the classes or sources that do least well
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def results_table(metrics: Mapping[str, Any]) -> str:
    """Markdown. Raises ``RunError`` for metrics that are not of a cross-validation."""
    try:
        rows = [f"| {name} | {value} |" for name, value in _rows(metrics)]
        tables = [_robustness(metrics), _unknown(metrics["unknown"]) if "unknown" in metrics else []]
    except KeyError as exc:
        raise RunError(
            f"Expected the metrics of a cross-validation, but {exc} is missing. Give its run folder.", code="no_metrics"
        ) from exc
    return "\n\n".join("\n".join(table) for table in [["| measure | value |", "|---|---|", *rows], *tables] if table)


def write_results(readme: Path, metrics: Mapping[str, Any]) -> None:
    """Replace what stands between the results markers of ``readme``. Raises ``RunError`` where they are missing."""
    text = readme.read_text(encoding="utf-8")
    before, found, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise RunError(f"Expected the lines {BEGIN} and {END} in {readme}. Add them where the table belongs.")
    readme.write_text(f"{before}{BEGIN}\n{results_table(metrics)}\n{END}{after}", encoding="utf-8")


def _rows(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    calibration = metrics["calibration"]
    before, after = calibration["before"], calibration["after"]
    coverage = calibration["conformal_coverage"]
    seeds = len(metrics["seeds"])
    spread = metrics["accuracy_sd_over_seeds"]
    over_seeds = f", sd over {seeds} seeds {in_percent(spread)}" if spread is not None else ", one seed"
    interval = f"{in_percent(metrics['accuracy_low'])} to {in_percent(metrics['accuracy_high'])}"
    weakest = _lowest(metrics["recall"])
    rows = [
        ("accuracy, pooled out of fold", f"**{in_percent(metrics['accuracy'])}** (n = {metrics['n']}{over_seeds})"),
        ("its 95 % interval (Wilson)", interval),
        (
            "by fold",
            f"{', '.join(in_percent(value) for value in metrics['accuracy_by_fold'].values())} "
            f"(sd {in_percent(metrics['accuracy_sd_over_folds'])})",
        ),
        ("macro-F1", f"{metrics['macro_f1']:.3f}"),
        ("weakest classes, recall", ", ".join(f"{name.replace('_', ' ')} {in_percent(p)}" for name, p in weakest)),
        ("calibration error (ECE, 15 bins), raw", f"{before['ece']:.3f}"),
        (
            "… after temperature of the other folds",
            f"{after['ece']:.3f}; a perfect model: up to {after['noise_floor_95']:.3f}",
        ),
        ("negative log-likelihood, raw → after", f"{before['nll']:.3f} → {after['nll']:.3f} nats"),
        ("Brier score (0 to 2), raw → after", f"{before['brier']:.3f} → {after['brier']:.3f}"),
        (
            "conformal sets, 90 % wanted",
            f"{in_percent(coverage)} held the truth, {calibration['conformal_mean_size']:.2f} classes each",
        ),
    ]
    return [*rows, *_ensemble(metrics), *_circumstances(metrics)]


def _ensemble(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the networks of all seeds answer together, which is not what is shipped."""
    if "ensemble" not in metrics:
        return []
    of = metrics["ensemble"]
    interval = f"{in_percent(of['accuracy_low'])} to {in_percent(of['accuracy_high'])}"
    name = f"not shipped: all {of['networks']} seeds asked, at {of['networks']} times the work"
    return [(name, f"{in_percent(of['accuracy'])} ({interval}); negative log-likelihood {of['nll']:.3f} nats")]


def _circumstances(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("protocol", metrics["protocol"]),
        ("hardware", f"{metrics['hardware']}; {metrics['minutes']:.0f} minutes, all networks added up"),
    ]


def _robustness(metrics: Mapping[str, Any]) -> list[str]:
    measured = metrics["robustness"]
    rows = [
        f"| {name} | {in_percent(of['accuracy'])} | {in_percent(of['low'])} to {in_percent(of['high'])} |"
        for name, of in ((name, measured[name]) for name in CONDITIONS)
    ]
    return [f"| the same clips (n = {metrics['n']}) | accuracy | 95 % interval |", "|---|---|---|", *rows]


def _unknown(unknown: Mapping[str, Any]) -> list[str]:
    """AUROC of every score against every kind of stranger; what the chosen one lets pass."""
    kinds = {kind: name for kind, name in STRANGERS.items() if kind in unknown}
    chosen = unknown["score"]
    heads = [f"{name} (n = {unknown[kind][chosen]['n_unknown']})" for kind, name in kinds.items()]
    rows = []
    for score in SCORES:
        cells = [_interval(unknown[kind][score]["auroc"]) for kind in kinds]
        mark = "**" if score == chosen else ""
        rows.append(f"| {mark}{SCORE_NAMES[score]}{mark} | {' | '.join(cells)} |")
    passed = [_interval(unknown[kind][chosen]["fpr95"]) for kind in kinds]
    flags = "accepted_by_class" in unknown  # not in runs of earlier releases
    aupr = [_interval(unknown[kind][chosen]["aupr"]) for kind in kinds]
    accepted = f"{in_percent(unknown['accepted'])} of held-out clips, {in_percent(unknown['accepted_wanted'])} wanted"
    if "accepted_low" in unknown:  # not in runs of earlier releases
        accepted += f" ({in_percent(unknown['accepted_low'])} to {in_percent(unknown['accepted_high'])})"
    parts = unknown.get("accepted_excerpts", {})
    shares = ", ".join(
        f"{in_percent(share)} of {seconds} s"
        for seconds, share in sorted(parts.items(), key=lambda part: float(part[0]))
    )
    rest = " |" * (len(kinds) - 1)
    return [
        f"| unknown sounds told from known ones, AUROC | {' | '.join(heads)} |",
        "|---|" + "---|" * len(kinds),
        *rows,
        f"| AUPR of the chosen score | {' | '.join(aupr)} |",
        f"| AUROC of the chosen score for those it tells least | {' | '.join(map(_least, _groups(unknown, kinds)))} |",
        f"| share that pass where 95 % of known clips do (FPR95) | {' | '.join(passed)} |",
        *_flagged(unknown, kinds),
        f"| accepted by a threshold of the other folds | {accepted} |{rest}",
        *([f"| … of the classes accepted least | {_fewest(unknown['accepted_by_class'])} |{rest}"] if flags else []),
        *([f"| … and of these clips' loudest parts | {shares} |{rest}"] if parts else []),
    ]


def _groups(unknown: Mapping[str, Any], kinds: Iterable[str]) -> Iterator[Mapping[str, float]]:
    """AUROC of every sort of synthesized sound, and of every class or pair that was left out."""
    return (unknown[f"{kind}_by_source" if kind == "far" else f"{kind}_by_class"] for kind in kinds)


def _lowest(values: Mapping[str, float]) -> list[tuple[str, float]]:
    """The first few, ties by name."""
    return sorted(values.items(), key=lambda item: (round(item[1], 6), item[0]))[:SHOWN]


def _least(values: Mapping[str, float]) -> str:
    return ", ".join(f"{_plain(name)} {value:.3f}" for name, value in _lowest(values))


def _fewest(shares: Mapping[str, Mapping[str, float]]) -> str:
    lowest = _lowest({name: share["value"] for name, share in shares.items()})
    return ", ".join(f"{_plain(name)} {in_percent(value)}" for name, value in lowest)


def _plain(name: str) -> str:
    return name.replace("_", " ").replace("+", " and ")


def _flagged(unknown: Mapping[str, Any], kinds: Iterable[str]) -> list[str]:
    """How many strangers are called unknown: what the threshold does, where AUROC says what it could."""
    if "far_flagged" not in unknown:  # in runs of earlier releases
        return []
    by_source = unknown["far_flagged"]
    whole = sum(of["value"] * of["n"] for of in by_source.values()) / max(sum(of["n"] for of in by_source.values()), 1)
    cells = [f"{in_percent(whole)}; least {_fewest(by_source)}"]
    cells += [_share(unknown[f"{kind}_flagged"]) for kind in kinds if kind != "far"]
    return [f"| called unknown (left out: by the shipped threshold) | {' | '.join(cells)} |"]


def _share(of: Mapping[str, float]) -> str:
    return f"{in_percent(of['value'])} ({in_percent(of['low'])} to {in_percent(of['high'])})"


def _interval(of: Mapping[str, float]) -> str:
    return f"{of['value']:.3f} ({of['low']:.3f} to {of['high']:.3f})"
