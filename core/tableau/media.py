"""Thumbnails and sounds beside the tables, for those who want to look and listen from within Tableau. Optional.

Written as they are asked for, once each: a picture of the log-mel spectrogram and the sound file itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import matplotlib.image
import numpy as np
import torch

from core.audio import decode
from core.config import AudioConfig, FeatureConfig, Limits
from core.errors import AudioError
from core.features import LogMel
from core.tableau.files import whole

THUMBNAILS, SOUNDS = "thumbnails", "audio"
COLUMNS = 200  # of a thumbnail, at most
RANGE_DB = 80.0
SUFFIX = re.compile(r"\.[a-z0-9]{1,5}", re.ASCII)


class MediaFolder:
    """Files under ``out``; paths are relative to it, or under ``base_url`` where people will serve them."""

    def __init__(
        self,
        out: Path,
        read: Callable[[str], bytes | None],
        *,
        base_url: str = "",
        audio: AudioConfig = AudioConfig(),
        features: FeatureConfig = FeatureConfig(),
        limits: Limits = Limits(),
    ) -> None:
        self._out, self._read, self._limits, self._audio = out, read, limits, audio
        self._base = base_url.rstrip("/") + "/" if base_url else ""
        self._log_mel = LogMel(audio, features)
        self._known: dict[str, tuple[str | None, str | None]] = {}
        self._taken: set[str] = set()

    def paths(self, clip_id: str) -> tuple[str | None, str | None]:
        """Write a clip's files the first time it is asked for. No sound or no usable one: no paths."""
        if clip_id not in self._known:
            data = self._read(clip_id)
            self._known[clip_id] = (None, None) if data is None else self._write(clip_id, data)
        return self._known[clip_id]

    def _write(self, clip_id: str, data: bytes) -> tuple[str | None, str | None]:
        try:
            wave = decode(data, audio=self._audio, limits=self._limits)
        except AudioError:
            return None, None
        name = Path(clip_id)
        suffix = name.suffix.lower() if SUFFIX.fullmatch(name.suffix.lower()) else f".{wave.source.container}"
        stem = re.sub(r"[^\w.-]", "_", name.stem if name.suffix else clip_id, flags=re.ASCII)
        if stem != (name.stem if name.suffix else clip_id) or stem in self._taken:  # another clip may be called so, too
            stem = f"{stem}-{hashlib.sha256(clip_id.encode()).hexdigest()[:8]}"
        self._taken.add(stem)
        picture, sound = f"{THUMBNAILS}/{stem}.png", f"{SOUNDS}/{stem}{suffix}"
        with whole(self._out / picture) as beside:
            matplotlib.image.imsave(beside, self._spectrogram(wave.samples), cmap="magma", origin="lower", format="png")
        with whole(self._out / sound) as beside:
            beside.write_bytes(data)
        return self._base + quote(picture), self._base + quote(sound)

    @torch.inference_mode()
    def _spectrogram(
        self, samples: np.ndarray[tuple[int], np.dtype[np.float32]]
    ) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """(F, T) in dB, within ``RANGE_DB`` of the loudest."""
        level = self._log_mel(torch.from_numpy(samples)[None])[0, 0].numpy()
        level = level[:, :: max(level.shape[1] // COLUMNS, 1)]
        return np.maximum(level, level.max() - RANGE_DB)
