"""Cross-validation: every published fold held out once for every seed, then one model on all of them to ship.

    python -m core crossval --data DIR --seeds 3

Members are ordinary run folders under ``members/``. A member that finished is never trained again and one that was
interrupted goes on from its last checkpoint, so the command can be killed anywhere and simply repeated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from core.artifact import Facts, load_artifact, save_artifact
from core.audio import Waveform
from core.config import Frozen, TrainConfig
from core.dataset import Dataset
from core.evaluation import Calibration, answer_degraded, calibrate, pool, summarise_robustness
from core.hardware import hardware
from core.openset import Stranger, far_strangers, fit_rule, score_open_set, summarise_open_set
from core.training.data import decode_clips
from core.training.loop import train
from core.training.runs import RunConfig, RunFolder, write_table
from core.unknown import UnknownRule

log = logging.getLogger(__name__)


class CrossvalConfig(Frozen):
    """What was asked. ``train.seed`` is replaced by each of ``seeds``.

    For each of ``left_out`` one more network is trained without these classes, to measure how it takes their sounds.
    """

    run_id: str
    dataset: str
    dataset_hash: str
    class_names: tuple[str, ...]
    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    left_out: tuple[tuple[str, ...], ...] = ()
    train: TrainConfig
    code_version: str


def cross_validate(config: CrossvalConfig, dataset: Dataset, folder: RunFolder) -> None:
    """Train what is missing, then write ``oof.parquet``, ``metrics.json`` and ``artifact/``, the model on all folds.

    Raises ``RunError`` when ``folder`` holds something else.
    """
    folder.begin(config)
    members = list(_members(config))
    with folder.lock():
        waves = decode_clips(dataset.clips, config.train.audio)
        for position, member in enumerate(members):
            folder.write_status("running", position, len(members), message=member.run_id)
            _train_member(member, dataset, folder, waves, f"{position + 1}/{len(members)}")
        held_out = [member for member in members if member.fold is not None and not member.left_out]
        records = pd.concat([_member(folder, member).records() for member in held_out], ignore_index=True)
        degraded = pd.concat([_degrade(member, dataset, folder, waves) for member in held_out], ignore_index=True)
        calibration = calibrate(records, config.class_names)
        metrics = pool(records, config.class_names) | {"calibration": calibration.report}
        metrics |= {"robustness": summarise_robustness(degraded)} | _circumstances(config, folder, members)
        scored = [_score_open_set(member, dataset, folder, waves) for member in members if member.fold is not None]
        strangers = pd.concat(scored, ignore_index=True)
        metrics["unknown"] = summarise_open_set(strangers, rng=np.random.default_rng(0))
        folder.write_oof(records)
        write_table(folder.robustness, degraded)
        write_table(folder.unknown, strangers)
        folder.write_metrics(metrics)
        trained_on_all = next(member for member in members if member.fold is None)
        _ship(folder, _member(folder, trained_on_all), calibration, fit_rule(strangers), metrics)
        folder.write_status("finished", len(members), len(members))


def _ship(
    folder: RunFolder, trained_on_all: RunFolder, calibration: Calibration, rule: UnknownRule, metrics: dict[str, Any]
) -> None:
    """The model on all folds, with what its own training could not measure: it never saw a clip for the first time."""
    artifact = load_artifact(trained_on_all.artifact)
    facts = artifact.manifest.model_dump(include=set(Facts.model_fields)) | {
        "metrics": metrics,
        "temperature": calibration.temperature,
        "conformal_quantile": calibration.conformal_quantile,
        "unknown": rule,
    }
    save_artifact(folder.artifact, artifact.net, Facts.model_validate(facts), artifact.reference)


def _members(config: CrossvalConfig) -> Iterator[RunConfig]:
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
    return RunConfig(
        run_id=run_id,
        dataset=config.dataset,
        dataset_hash=config.dataset_hash,
        class_names=tuple(name for name in config.class_names if name not in left_out),
        left_out=left_out,
        fold=fold,
        train=config.train.model_copy(update={"seed": seed}),
        code_version=config.code_version,
    )


def _member(folder: RunFolder, member: RunConfig) -> RunFolder:
    return RunFolder(folder.path / "members" / member.run_id)


def _train_member(
    member: RunConfig, dataset: Dataset, folder: RunFolder, waves: Sequence[Waveform], position: str
) -> None:
    run = _member(folder, member)
    if run.finished():
        return
    started = time.monotonic()
    log.info("%s | %s", position, member.run_id)
    train(member, dataset, run, waves=waves)
    run.checkpoint.unlink(missing_ok=True)  # 15 MB each, and a finished member never resumes
    accuracy = run.metrics().get("accuracy", float("nan"))
    log.info("%s | %s | accuracy %.3f | %.1f min", position, member.run_id, accuracy, (time.monotonic() - started) / 60)


def _circumstances(config: CrossvalConfig, folder: RunFolder, members: Sequence[RunConfig]) -> dict[str, Any]:
    return {
        "protocol": _protocol(config),
        "hardware": hardware(),
        "minutes": round(sum(_member(folder, member).metrics()["minutes"] for member in members), 1),
    }


def _degrade(member: RunConfig, dataset: Dataset, folder: RunFolder, waves: Sequence[Waveform]) -> pd.DataFrame:
    """A member's held-out clips under every condition, answered by its own network."""
    run = _member(folder, member)
    if not run.robustness.exists():
        log.info("%s | held-out clips under degradation", member.run_id)
        chosen = [index for index, clip in enumerate(dataset.clips) if clip.fold == member.fold]
        clips, heard = [dataset.clips[i] for i in chosen], [waves[i] for i in chosen]
        net = load_artifact(run.artifact).net
        write_table(run.robustness, answer_degraded(net, clips, heard, member.train.audio, seed=member.train.seed))
    return pd.read_parquet(run.robustness)


def _score_open_set(member: RunConfig, dataset: Dataset, folder: RunFolder, waves: Sequence[Waveform]) -> pd.DataFrame:
    """A member's held-out clips and strangers: clips of its left-out classes, or synthesized sounds."""
    run = _member(folder, member)
    if not run.unknown.exists():
        log.info("%s | unknown sounds", member.run_id)
        near = (
            Stranger("near", clip.label, clip.filename, wave.samples)
            for clip, wave in zip(dataset.clips, waves, strict=True)
            if clip.label in member.left_out
        )
        far = far_strangers(member.train.audio.sample_rate_hz, seed=member.fold or 0)
        strangers = near if member.left_out else far
        artifact = load_artifact(run.artifact)
        write_table(run.unknown, score_open_set(artifact, run.records(), strangers, left_out=member.left_out))
    return pd.read_parquet(run.unknown)


def _protocol(config: CrossvalConfig) -> str:
    last = "moving average" if config.train.ema_decay else "last epoch"
    split = f"{_counted(len(config.folds), 'published fold')}, {_counted(len(config.seeds), 'seed')}"
    return f"{split}, {config.train.epochs} epochs, {last}; nothing selected on held-out clips"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
