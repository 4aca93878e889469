"""One training run: a held-out fold (or none) in, a run folder with records and an artifact out.

    python -m core train --data DIR --fold 1

Everything random is a pure function of (seed, epoch, step), so a run that was killed and resumed at an epoch boundary
ends with the same weights as one that was not. The last epoch, or its moving average, is what is reported: nothing is
selected on the held-out fold.
"""

from __future__ import annotations

import io
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from numpy.typing import NDArray
from torch import Tensor

from core.artifact import Facts, save_artifact
from core.audio import Waveform
from core.augment import draw, mask_features, mix_batch, soft_targets
from core.config import TrainConfig
from core.dataset import Clip, Dataset, twins_of
from core.errors import RunError
from core.evaluation import evaluate, reference_of, summarise
from core.hardware import hardware, multiplies_bf16_faster
from core.inference import infer
from core.model import AudioResNet
from core.training.data import ClipData, build_bank, decode_clips, derived_seed, generator
from core.training.journal import Journal
from core.training.runs import RunConfig, RunFolder, write_atomically
from core.training.tuning import adopt, before_and_after, heard_by, load_start

log = logging.getLogger(__name__)


class Classification(lightning.LightningModule):
    """The algorithm: draw, mix, shape, mask, classify, soft cross-entropy."""

    def __init__(self, config: TrainConfig, n_classes: int) -> None:
        super().__init__()
        self.config, self.n_classes = config, n_classes
        self.validation_answers: list[tuple[int, int]] = []  # (true, predicted) of the latest validation
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(config.seed))
            self.net = AudioResNet(n_classes, config.audio, config.features, config.model)

    def on_fit_start(self) -> None:
        self._data.bank = self._data.bank.to(self.device)

    def training_step(self, rows: Tensor, step: int) -> Tensor:
        features, targets = self.batch(rows, step)
        # Dropout draws from the global generator, which data loaders also use: seed it at each step, not at the epoch.
        torch.manual_seed(derived_seed(self.config.seed, self.current_epoch, step, 1))
        # Only the network runs in bf16: 4.5× as fast on CPUs with AMX, where the mel filterbank would lose precision.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._in_bf16):
            logits = self.net.classify(features).logits
        loss = torch.nn.functional.cross_entropy(logits.float(), targets, label_smoothing=self.config.label_smoothing)
        hits = logits.argmax(dim=1) == targets.argmax(dim=1)
        facts = {"train/loss": loss, "train/accuracy": hits.float().mean()}
        self.log_dict(facts, on_epoch=True, on_step=False, batch_size=rows.numel(), sync_dist=self._several)
        return loss

    @property
    def _in_bf16(self) -> bool:
        asked = self.config.precision
        return asked == "bf16-mixed" or (asked == "auto" and multiplies_bf16_faster(self.device.type))

    @torch.no_grad()
    def batch(self, rows: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Clips ``rows`` of the bank → masked features (B, 1, F, T) and soft targets (B, K)."""
        config, bank = self.config, self._data.bank
        # Of several devices each draws its own; a single one draws as it always did.
        key = (config.seed, self.current_epoch, step, 0, *([self.global_rank] if self._several else []))
        rng = generator(*key)
        drawn = draw(rows.cpu(), bank, config.augment, config.audio, config.features, rng=rng)
        features = self.net.front_end(mix_batch(bank, drawn, config.augment, config.audio))
        return mask_features(features, drawn), soft_targets(bank, drawn, self.n_classes).to(self.device)

    @property
    def _several(self) -> bool:
        return self.trainer.world_size > 1

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters() if p.grad is not None])
        self.log("train/gradient_norm", norm, on_epoch=True, on_step=False, sync_dist=self._several)

    def validation_step(self, clip: tuple[NDArray[np.float32], int], _: int) -> None:
        logits = torch.from_numpy(infer(self.net, clip[0], self.config.audio).logits)
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(clip[1]))
        hit = torch.tensor(float(logits.argmax() == clip[1]), device=self.device)
        facts = {"val/loss": loss.to(self.device), "val/accuracy": hit}
        self.log_dict(facts, on_epoch=True, on_step=False, batch_size=1, sync_dist=self._several)
        self.validation_answers.append((clip[1], int(logits.argmax())))

    def on_validation_epoch_start(self) -> None:
        self.validation_answers = []

    def configure_optimizers(self) -> Any:
        """AdamW without decay on biases and BatchNorm, OneCycleLR stepped every batch."""
        config = self.config
        matrices = [p for p in self.parameters() if p.ndim > 1]
        vectors = [p for p in self.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=config.learning_rate,
            total_steps=config.epochs * math.ceil(self.clip_count / self.trainer.world_size / config.batch_size),
            pct_start=config.warmup_fraction,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @property
    def clip_count(self) -> int:
        return self._data.bank.targets.numel()

    @property
    def _data(self) -> ClipData:
        return self.trainer.datamodule  # type: ignore[attr-defined]


class WholeCheckpoints(TorchCheckpointIO):
    """A checkpoint is there whole or not at all. Lightning's own passes through the system's temporary folder, and is a
    plain copy where that is on another disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        data = io.BytesIO()
        torch.save(checkpoint, data)  # straight to a full disk it would fail without saying why
        write_atomically(Path(path), lambda part: part.write_bytes(data.getbuffer()))


class OnceSaved(Callback):
    """Calls ``then`` at the start and whenever another epoch's checkpoint is on disk."""

    def __init__(self, then: Callable[[], None]) -> None:
        self.then = then

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.then()  # Lightning saves last at the end of an epoch, after every callback of ours


def train(
    config: RunConfig,
    dataset: Dataset,
    folder: RunFolder,
    *,
    waves: Sequence[Waveform] | None = None,
    devices: int = 1,
    once_saved: Callable[[], None] | None = None,
    with_bar: bool = True,
) -> None:
    """Run ``config`` to its end in ``folder``, going on from its last checkpoint where there is one.

    ``waves`` saves decoding when a caller trains many runs on one dataset; one for each of ``dataset.clips``, in order.
    ``devices`` share each epoch's clips, each with batches of its own (data-parallel).
    ``once_saved`` is called at the start and after each checkpoint, for whoever must carry the folder elsewhere.
    ``with_bar`` shows each epoch's progress on a terminal.
    Raises ``RunError`` when the folder holds another run; marks the run failed and re-raises when training fails.
    """
    if dataset.content_hash != config.dataset_hash:
        raise RunError(
            f"Expected the dataset that {config.run_id} was asked for, {config.dataset} with the content "
            f"{config.dataset_hash[:12]}, got {dataset.name} at {dataset.root} with {dataset.content_hash[:12]}. "
            "Give its folder as --data, or start another run.",
            code="other_dataset",
        )
    folder.begin(config)
    with folder.lock(), folder.at_work():
        if folder.finished():
            log.info("run %s is finished already", config.run_id)
            return
        before = folder.status_if_any()  # of a run that goes on
        done, told = (0, {}) if before is None else (before.epoch, before.metrics)
        folder.write_status("running", done, config.train.epochs, told)
        heard = decode_clips(dataset.clips, config.train.audio) if waves is None else waves
        callbacks = [] if once_saved is None else [OnceSaved(once_saved)]
        _train(config, dataset, folder, heard, devices, callbacks, with_bar)


def _train(
    config: RunConfig,
    dataset: Dataset,
    folder: RunFolder,
    waves: Sequence[Waveform],
    devices: int,
    callbacks: Sequence[Callback],
    with_bar: bool,
) -> None:
    started_s = time.monotonic()
    start = load_start(config)
    kept, in_fold = split(dataset.clips, config)
    heard = heard_by(start, dataset.clips)
    held_out = [i for i in in_fold if dataset.clips[i].filename not in heard]
    index = {name: target for target, name in enumerate(config.class_names)}
    target = [index.get(clip.label, -1) for clip in dataset.clips]
    data = ClipData(
        build_bank([waves[i] for i in kept], [target[i] for i in kept]),
        [(waves[i].samples, target[i]) for i in held_out],
        batch_size=config.train.batch_size,
        seed=config.train.seed,
    )
    module = Classification(config.train, len(config.class_names))
    if start is not None:
        adopt(module.net, start, config.class_names)
    journal = Journal(config, folder)
    fit(module, data, folder, [journal, *callbacks], devices=devices, with_bar=with_bar)
    fitted_s = time.monotonic()

    net = module.net.eval().float().cpu()

    def at(positions: Sequence[int]) -> tuple[list[Clip], list[Waveform]]:
        return [dataset.clips[i] for i in positions], [waves[i] for i in positions]

    records = evaluate(net, *at(held_out), config.train.audio, seed=config.train.seed)
    folder.write_oof(records)
    metrics = summarise(records, config.class_names) | {
        "protocol": _protocol(config),
        "hardware": hardware(),
        "minutes": _minutes(journal.trained_s, fitted_s - started_s, time.monotonic() - fitted_s),
    }
    if start is not None:
        metrics["start"] = before_and_after(start, net, *at(in_fold), config.class_names)
    folder.write_metrics(metrics)
    reference = reference_of(net, *at(kept), config.train.audio)
    save_artifact(folder.artifact, net, facts_of(config, metrics), reference)
    last = journal.latest or folder.status().metrics  # of another process where several devices trained
    folder.write_status("finished", config.train.epochs, config.train.epochs, last)
    journal.close(metrics)


def _minutes(epochs_s: float, fitting_s: float, measuring_s: float) -> float:
    """Of training and evaluation. ``epochs_s`` knows those before a resume, ``fitting_s`` what is around them."""
    return round((max(epochs_s, fitting_s) + measuring_s) / 60, 2)


def split(clips: Sequence[Clip], config: RunConfig) -> tuple[list[int], list[int]]:
    """Positions of the clips to train on and of those to hold out. Left-out classes are in neither.

    A source recording that appears in the held-out fold is not trained on, nor is one known to share its audio.
    """
    known = [i for i, clip in enumerate(clips) if clip.label in config.class_names]
    held_out = [i for i in known if clips[i].fold == config.fold]
    names = {clips[i].filename for i in held_out}
    unheard = {clip.source_group for clip in clips if clip.filename in names | twins_of(names)}
    kept = [i for i in known if clips[i].fold != config.fold and clips[i].source_group not in unheard]
    missing = sorted(set(config.class_names) - {clips[i].label for i in kept})
    if missing:
        raise RunError(
            f"Expected every class to have clips outside fold {config.fold} to learn from, {', '.join(missing)} "
            f"{'has' if len(missing) == 1 else 'have'} none. Spread each class over two folds or more, or train on all "
            "(--fold all).",
            code="nothing_to_learn_from",
        )
    return kept, held_out


def facts_of(config: RunConfig, metrics: dict[str, Any]) -> Facts:
    """What the artifact of this run says about itself."""
    return Facts(
        audio=config.train.audio,
        features=config.train.features,
        model=config.train.model,
        class_names=config.class_names,
        metrics=metrics,
        dataset=config.dataset,
        dataset_hash=config.dataset_hash,
        code_version=config.code_version,
        run_id=config.run_id,
    )


def _protocol(config: RunConfig) -> str:
    last = "moving average of the weights" if config.train.ema_decay else "last epoch"
    held_out = "no fold held out: trained on every clip" if config.fold is None else f"fold {config.fold} held out"
    left_out = f", without {' and '.join(config.left_out)}" if config.left_out else ""
    start = f", from the model {config.started_from[:12]}" if config.started_from else ""
    what = f"{config.train.epochs} epochs{start}, {last}, seed {config.train.seed}, {held_out}{left_out}"
    return f"{what}; no epoch selected on held-out clips"


def fit(
    module: Classification,
    data: ClipData,
    folder: RunFolder,
    callbacks: list[Callback],
    *,
    devices: int = 1,
    with_bar: bool = True,
) -> None:
    """Drive Lightning's trainer; go on from ``folder.checkpoint`` where it exists."""
    config = module.config
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # tips and greetings
    checkpoint = ModelCheckpoint(
        dirpath=folder.checkpoint.parent,
        filename=folder.checkpoint.stem,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    average = [EMAWeightAveraging(decay=config.ema_decay)] if config.ema_decay > 0 else []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # rows, not decoding: nothing to do
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=Warning)  # Lightning on torch 2.13
        warnings.filterwarnings("ignore", message=".*Total length of `list`.*is zero.*")  # no fold is held out
        warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")  # resuming
        warnings.filterwarnings("ignore", message=".*You defined a `validation_step` but have no `val_dataloader`.*")
        trainer = lightning.Trainer(
            max_epochs=config.epochs,
            logger=False,
            callbacks=[*average, *callbacks, checkpoint],
            check_val_every_n_epoch=config.validate_every_epochs,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            enable_progress_bar=with_bar and sys.stderr.isatty(),
            default_root_dir=folder.path,
            devices=devices,
            plugins=[WholeCheckpoints()],
            strategy="ddp_spawn" if devices > 1 else "auto",  # this process goes on alone when they are done
        )
        resume = folder.checkpoint if folder.checkpoint.exists() else None
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    if average:  # Lightning takes it over at the end of training alone, and a run may go on after that
        averaged = torch.load(folder.checkpoint, weights_only=True, map_location="cpu")["state_dict"]
        module.load_state_dict(averaged)
