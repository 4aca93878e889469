"""What a run tells while it runs: TensorBoard curves, counts and pictures, ``status.json``, one log line an epoch."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.tensorboard import SummaryWriter

from core.figures.training import confusion_counts, confusion_picture, spectrogram_picture
from core.training.curves import CONFUSION_TAG
from core.training.runs import RunConfig, RunFolder

if TYPE_CHECKING:
    from core.training.loop import Classification

log = logging.getLogger(__name__)

PICTURES_A_RUN = 10  # confusion matrices and example spectrograms, evenly over the epochs
EXAMPLES = 4


class Journal(Callback):
    """Writes at the end of each epoch; ``latest`` holds the last epoch's numbers, ``trained_s`` the time of all."""

    def __init__(self, config: RunConfig, folder: RunFolder) -> None:
        self.config, self.folder = config, folder
        self.latest: dict[str, float] = {}
        self.trained_s = 0.0  # goes into each checkpoint: a resumed run knows the epochs before
        self._writer: SummaryWriter | None = None
        self._epoch_started = time.monotonic()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.is_global_zero:
            # A resumed run writes on from its checkpoint; purge_step hides what a killed process wrote past it. Epochs
            # are counted from 1 on the board: current_epoch of them stand.
            self._writer = SummaryWriter(str(self.folder.path), purge_step=trainer.current_epoch + 1)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._epoch_started = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"trained_s": self.trained_s}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.trained_s = float(state_dict["trained_s"])

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Classification) -> None:  # type: ignore[override]
        if not trainer.is_global_zero:
            return
        epoch, epochs = trainer.current_epoch + 1, self.config.train.epochs
        seconds = time.monotonic() - self._epoch_started
        self.trained_s += seconds
        validated = epoch % self.config.train.validate_every_epochs == 0  # otherwise val/* repeats an earlier epoch
        self.latest = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if validated or not name.startswith("val/")
        }
        self.latest["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        for name, value in self.latest.items():
            self._board.add_scalar(name, value, epoch)
        if validated and pl_module.validation_answers:
            counts = confusion_counts(pl_module.validation_answers, len(self.config.class_names))
            self._board.add_tensor(CONFUSION_TAG, torch.from_numpy(counts), epoch)
        if epoch % max(1, epochs // PICTURES_A_RUN) == 0 or epoch == epochs:
            self._draw(pl_module, epoch)
        self.folder.write_status("running", epoch, epochs, self.latest)
        log.info("%s", self._line(epoch, epochs, seconds))

    def close(self, metrics: dict[str, Any]) -> None:
        """Write hyper-parameters beside the final numbers."""
        hparams = _flat(self.config.train.model_dump())
        hparams |= {"fold": self.config.fold or 0, "dataset": self.config.dataset}
        results = {f"final/{name}": value for name, value in metrics.items() if isinstance(value, float)}
        self._board.add_hparams(hparams, results, run_name=".")
        self._board.close()

    @property
    def _board(self) -> SummaryWriter:
        if self._writer is None:  # training ran in processes of its own
            self._writer = SummaryWriter(str(self.folder.path))
        return self._writer

    def _draw(self, module: Classification, epoch: int) -> None:
        if module.validation_answers:
            picture = confusion_picture(module.validation_answers, self.config.class_names)
            self._board.add_image("val/confusion", picture, epoch, dataformats="HWC")
        rows = torch.arange(min(EXAMPLES, module.clip_count))
        features, targets = module.batch(rows, 0)
        for index in range(rows.numel()):
            title = _mixture(targets[index], self.config.class_names)
            picture = spectrogram_picture(features[index, 0].cpu().numpy(), title)
            self._board.add_image(f"train/example_{index + 1}", picture, epoch, dataformats="HWC")

    def _line(self, epoch: int, epochs: int, seconds: float) -> str:
        named = {
            name: self.latest[name]
            for name in ("train/loss", "train/accuracy", "val/loss", "val/accuracy")
            if name in self.latest
        }
        numbers = " | ".join(f"{name} {value:.3f}" for name, value in named.items())
        return f"epoch {epoch}/{epochs} | {numbers} | lr {self.latest['learning_rate']:.1e} | {seconds:.1f} s"


def _mixture(target: torch.Tensor, class_names: tuple[str, ...]) -> str:
    """``0.7 dog + 0.3 rain``."""
    parts = [(float(share), class_names[index]) for index, share in enumerate(target) if share > 0.005]
    return " + ".join(f"{share:.2f} {name}" for share, name in sorted(parts, reverse=True))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str | float]:
    flat: dict[str, str | float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value if isinstance(value, int | float) else str(value)
    return flat
