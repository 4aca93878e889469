"""Clips for training: decoded once, held in memory, handed out as rows so that whole batches are augmented at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from core.audio import Waveform, decode
from core.augment import Bank
from core.config import AudioConfig
from core.dataset import Clip
from core.errors import AudioError, DatasetError

DIGITAL_SILENCE = 1e-4  # −80 dBFS; ESC pads short recordings with zeros, which lossy coding turns into less than this
DECODE_THREADS = 4  # libsndfile releases the GIL


def decode_clips(clips: Sequence[Clip], audio: AudioConfig) -> list[Waveform]:
    """Decode every clip through the same front door as a user's upload; list all that cannot be read."""
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        results = list(pool.map(lambda clip: _decode(clip, audio), clips))
    failures = [result for result in results if isinstance(result, str)]
    if failures:
        shown = "; ".join(failures[:10]) + (" …" if len(failures) > 10 else "")
        raise DatasetError(
            f"Expected {len(clips):,} readable clips, {len(failures):,} could not be decoded: {shown}. "
            "Replace them or remove them from meta/esc50.csv.",
            code="unreadable_clips",
        )
    return [result for result in results if isinstance(result, Waveform)]


def _decode(clip: Clip, audio: AudioConfig) -> Waveform | str:
    try:
        return decode(clip.path.read_bytes(), audio=audio)
    except (AudioError, OSError) as exc:
        return f"{clip.filename}: {exc}"


def build_bank(waves: Sequence[Waveform], targets: Sequence[int]) -> Bank:
    """Trim digital silence from both ends and pad to one length, so that a crop seldom falls on nothing."""
    trimmed = [torch.from_numpy(trim(wave.samples)) for wave in waves]
    return Bank(
        samples=torch.nn.utils.rnn.pad_sequence(trimmed, batch_first=True),
        lengths=torch.tensor([clip.numel() for clip in trimmed]),
        targets=torch.tensor(targets),
    )


def trim(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut leading and trailing samples below ``DIGITAL_SILENCE``; a silent clip stays as it is."""
    loud = np.flatnonzero(np.abs(samples) > DIGITAL_SILENCE)
    return samples[loud[0] : loud[-1] + 1] if loud.size else samples


class EpochShuffle(Sampler[int]):
    """A permutation that depends on seed and epoch alone, so that a resumed run sees the order it would have seen."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        yield from torch.randperm(self.size, generator=generator(self.seed, self.epoch)).tolist()


class ClipData(lightning.LightningDataModule):
    """The training bank, and the held-out clips as ``(samples (N,), target)`` pairs, evaluated one at a time."""

    def __init__(
        self, bank: Bank, held_out: Sequence[tuple[NDArray[np.float32], int]], *, batch_size: int, seed: int
    ) -> None:
        super().__init__()
        self.bank, self.held_out = bank, held_out
        self.batch_size, self.seed = batch_size, seed

    def train_dataloader(self) -> DataLoader[int]:
        size = self.bank.targets.numel()
        return DataLoader(range(size), self.batch_size, sampler=EpochShuffle(size, self.seed))  # type: ignore[arg-type]

    def val_dataloader(self) -> list[DataLoader[tuple[NDArray[np.float32], int]]]:
        return [DataLoader(self.held_out, batch_size=None, collate_fn=_as_is)] if self.held_out else []  # type: ignore[arg-type]


def _as_is(item: tuple[NDArray[np.float32], int]) -> tuple[NDArray[np.float32], int]:
    return item


def generator(*key: int) -> torch.Generator:
    """A CPU generator that is a pure function of ``key``: (seed, epoch) or (seed, epoch, step)."""
    return torch.Generator().manual_seed(derived_seed(*key))


def derived_seed(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
