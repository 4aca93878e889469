"""Cross-validation: every published fold held out once for every seed, then one model on all of them to ship.

    python -m core crossval --data DIR --seeds 3

Members are ordinary run folders under ``members/``, each measured as soon as it is trained. A member that finished is
never trained again and one that was interrupted goes on from its last checkpoint, so the command can be killed anywhere
and simply repeated, also with more seeds or left-out classes than before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from core.artifact import Facts, load_artifact, read_reference, save_artifact
from core.atlas import draw_maps
from core.config import Frozen, Positive, TrainConfig
from core.dataset import Dataset
from core.errors import RunError
from core.evaluation import Calibration, calibrate, pool, summarise_robustness
from core.hardware import hardware
from core.openset import fit_rule, summarise_open_set
from core.sources import of_run
from core.training.loop import split
from core.training.members import Means, complete_members, hears_for_the_first_time, member_folder
from core.training.runs import RunConfig, RunFolder, write_table
from core.training.tuning import pooled, started_from, starting_artifact
from core.unknown import UnknownRule

log = logging.getLogger(__name__)

MAY_GROW = ("seeds", "left_out")  # what a repeated command may ask more of


class CrossvalConfig(Frozen):
    """What was asked. ``train.seed`` is replaced by each of ``seeds``.

    For each of ``left_out`` one more network is trained without these classes, for ``left_out_epochs``, to measure how
    it takes their sounds.
    """

    run_id: str
    dataset: str
    dataset_hash: str
    class_names: tuple[str, ...]
    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    left_out: tuple[tuple[str, ...], ...] = ()
    left_out_epochs: Positive
    train: TrainConfig
    init: Path | None = Field(None, description="artifact or cross-validation whose weights every member starts with")
    started_from: str | None = Field(None, description="fingerprint of that artifact")
    code_version: str


def cross_validate(config: CrossvalConfig, dataset: Dataset, folder: RunFolder, *, means: Means = Means()) -> None:
    """Train what is missing, then write ``oof.parquet``, ``metrics.json`` and ``artifact/``, the model on all folds.

    Raises ``RunError`` when ``folder`` holds something else.
    """
    folder.begin(config, may_grow=MAY_GROW)
    members = list(members_of(config))
    for member in members:
        split(dataset.clips, member)  # raises now rather than after hours
    with folder.lock(), folder.at_work():
        complete_members(members, dataset, folder, means)
        runs = {member.run_id: member_folder(folder, member) for member in members}
        if not all(hears_for_the_first_time(runs[member.run_id]) for member in members):
            _finish_tuned(config, folder, members)
            return
        held_out = [member.run_id for member in members if member.fold is not None and not member.left_out]
        records = pd.concat([runs[name].records() for name in held_out], ignore_index=True)
        degraded = pd.concat([pd.read_parquet(runs[name].robustness) for name in held_out], ignore_index=True)
        scored = [pd.read_parquet(runs[member.run_id].unknown) for member in members if member.fold is not None]
        strangers = pd.concat(scored, ignore_index=True)
        calibration = calibrate(records, config.class_names)
        metrics = pool(records, config.class_names) | {"calibration": calibration.report}
        metrics |= {"robustness": summarise_robustness(degraded)} | _circumstances(config, folder, members)
        metrics["unknown"] = summarise_open_set(strangers, rng=np.random.default_rng(0))
        folder.write_oof(records)
        write_table(folder.robustness, degraded)
        write_table(folder.unknown, strangers)
        folder.write_metrics(metrics)
        trained_on_all = next(member for member in members if member.fold is None)
        _ship(folder, member_folder(folder, trained_on_all), calibration, fit_rule(strangers), metrics)
        draw_maps(folder.path, of_run(folder.path), read_reference(folder.artifact))
        folder.write_status("finished", len(members), len(members))


def _finish_tuned(config: CrossvalConfig, folder: RunFolder, members: Sequence[RunConfig]) -> None:
    """Finish where only clips that the starting model had not heard could be held out: too few to calibrate on.

    Temperature, conformal quantile and the rule for unknown sounds stay the starting model's.
    """
    runs = [member_folder(folder, member) for member in members if member.fold is not None and not member.left_out]
    found = [records for records in (run.records() for run in runs) if len(records)]
    metrics: dict[str, Any] = pool(pd.concat(found, ignore_index=True), config.class_names) if found else {"n": 0}
    metrics |= _circumstances(config, folder, members)
    metrics["start"] = pooled([run.metrics()["start"] for run in runs]) | {"fingerprint": config.started_from}
    folder.write_oof(pd.concat(found, ignore_index=True) if found else runs[0].records())
    folder.write_metrics(metrics)
    assert config.init is not None, "only a tuned cross-validation is not measurable"
    start = load_artifact(starting_artifact(config.init)).manifest
    trained_on_all = next(member for member in members if member.fold is None)
    carried = {name: getattr(start, name) for name in ("temperature", "conformal_quantile", "unknown")}
    _ship_with(folder, member_folder(folder, trained_on_all), metrics, carried)
    folder.write_status("finished", len(members), len(members))


def _ship(
    folder: RunFolder, trained_on_all: RunFolder, calibration: Calibration, rule: UnknownRule, metrics: dict[str, Any]
) -> None:
    """The model on all folds, with what its own training could not measure: it never saw a clip for the first time."""
    fitted = {
        "temperature": calibration.temperature,
        "conformal_quantile": calibration.conformal_quantile,
        "unknown": rule,
    }
    _ship_with(folder, trained_on_all, metrics, fitted)


def _ship_with(folder: RunFolder, trained_on_all: RunFolder, metrics: dict[str, Any], fitted: dict[str, Any]) -> None:
    artifact = load_artifact(trained_on_all.artifact)
    facts = artifact.manifest.model_dump(include=set(Facts.model_fields)) | {"metrics": metrics} | fitted
    save_artifact(folder.artifact, artifact.net, Facts.model_validate(facts), artifact.reference)


def members_of(config: CrossvalConfig) -> Iterator[RunConfig]:
    """Every held-out fold for every seed, the model on all folds, then one network without each of ``left_out``.

    The last ones take turns at holding out a fold, and use the first seed.
    """
    for seed in config.seeds:
        for fold in config.folds:
            yield _member_config(config, f"fold-{fold}-seed-{seed}", fold, seed)
    yield _member_config(config, f"fold-all-seed-{config.seeds[0]}", None, config.seeds[0])
    for position, classes in enumerate(config.left_out):
        fold = config.folds[position % len(config.folds)]
        yield _member_config(config, f"without-{'+'.join(classes)}", fold, config.seeds[0], left_out=classes)


def _member_config(
    config: CrossvalConfig, run_id: str, fold: int | None, seed: int, left_out: tuple[str, ...] = ()
) -> RunConfig:
    epochs = config.left_out_epochs if left_out else config.train.epochs
    return RunConfig(
        run_id=run_id,
        dataset=config.dataset,
        dataset_hash=config.dataset_hash,
        class_names=tuple(name for name in config.class_names if name not in left_out),
        left_out=left_out,
        fold=fold,
        train=config.train.model_copy(update={"seed": seed, "epochs": epochs}),
        **started_from(config.init, run_id),
        code_version=config.code_version,
    )


def _circumstances(config: CrossvalConfig, folder: RunFolder, members: Sequence[RunConfig]) -> dict[str, Any]:
    metrics = [member_folder(folder, member).metrics() for member in members]
    return {
        "protocol": _protocol(config),
        "hardware": " and ".join(sorted({str(told.get("hardware", hardware())) for told in metrics})),
        "minutes": round(sum(told["minutes"] for told in metrics), 1),
    }


def _protocol(config: CrossvalConfig) -> str:
    last = "moving average" if config.train.ema_decay else "last epoch"
    split = f"{_counted(len(config.folds), 'published fold')}, {_counted(len(config.seeds), 'seed')}"
    left_out = (
        f"; {_counted(config.left_out_epochs, 'epoch')} for networks with classes left out" if config.left_out else ""
    )
    share = config.train.augment.outlier_p
    outliers = (
        f"; {100 * share:.0f} % of what a network learns from are synthesized sounds of no class" if share else ""
    )
    return f"{split}, {config.train.epochs} epochs, {last}; no epoch selected on held-out clips{left_out}{outliers}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def left_out_named(wanted: Sequence[str], class_names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """``each`` → every class alone; ``a+b`` → both at once. Raises ``RunError`` for what the dataset does not have."""
    trials: list[tuple[str, ...]] = []
    for text in wanted:
        trials += [(name,) for name in class_names] if text == "each" else [tuple(sorted(set(text.split("+"))))]
    for trial in trials:
        unknown = [name for name in trial if name not in class_names]
        if unknown or len(class_names) - len(trial) < 2:
            raise RunError(
                f"Expected --leave-out with classes of the dataset and two or more left, got {'+'.join(trial)!r}. "
                f"Its classes are {', '.join(class_names)}.",
                code="bad_setting",
            )
    return tuple(dict.fromkeys(trials))
