"""The player with one cursor over waveform, mel spectrogram and class probabilities. Works without a network.

A Streamlit component (version 2): Python packs what is to be drawn into bytes, ``player.js`` draws and plays them. A
click, a drag or an arrow key seeks; the space bar plays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app import words
from core.records import WindowPrediction

if TYPE_CHECKING:
    from core.audio import Waveform

HERE = Path(__file__).parent
HTML = """
<div class="player">
  <audio data-part="audio" controls preload="auto"></audio>
  <p class="mute" data-part="mute" role="status" hidden></p>
  <div class="stage" data-part="stage">
    <canvas data-part="picture" aria-hidden="true"></canvas>
    <canvas data-part="cursor" role="slider" tabindex="0" aria-valuemin="0"></canvas>
  </div>
  <div class="below">
    <span class="readout" data-part="readout"></span><span class="legend" data-part="legend"></span>
  </div>
</div>
"""
ENVELOPE_COLUMNS = 1_200
SHOWN_DB = 80.0

_component = st.components.v2.component(
    "earshot_player",
    html=HTML,
    css=(HERE / "player.css").read_text("utf-8"),
    js=(HERE / "player.js").read_text("utf-8"),
)


@dataclass(frozen=True)
class Overlay:
    """``strength`` (F', T') in [0, 1] over the mel spectrogram from ``start_s`` to ``end_s``; low pitches first."""

    strength: NDArray[np.float32]
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Timeline:
    """Class probabilities over time, of the classes ``shown``. A point stands at the middle of its window."""

    windows: Sequence[WindowPrediction]
    class_names: Sequence[str]
    shown: Sequence[str]


def cursor_player(
    name: str,
    audio: bytes,
    mime: str,
    wave: Waveform,
    log_mel: NDArray[np.float32],
    mel_hz: NDArray[np.float64],
    hop_s: float,
    *,
    key: str,
    overlay: Overlay | None = None,
    timeline: Timeline | None = None,
    shade: tuple[float, float] | None = None,
    on_stretch: Callable[[], None] | None = None,
) -> None:
    """Play ``audio``, of which ``wave`` and ``log_mel`` (F, T) in dB are what the model hears.

    ``shade`` marks a stretch, in seconds. ``on_stretch`` is called after a double click; the number of the timeline's
    window nearest to it is then in ``st.session_state[key]["stretch"]``.
    """
    _component(
        key=key,
        data=packed(name, audio, mime, wave, log_mel, mel_hz, hop_s, overlay=overlay, timeline=timeline, shade=shade),
        on_stretch_change=on_stretch or _nothing,
    )


def _nothing() -> None:
    """A double click on a sound of one stretch changes nothing."""


def packed(
    name: str,
    audio: bytes,
    mime: str,
    wave: Waveform,
    log_mel: NDArray[np.float32],
    mel_hz: NDArray[np.float64],
    hop_s: float,
    *,
    overlay: Overlay | None = None,
    timeline: Timeline | None = None,
    shade: tuple[float, float] | None = None,
) -> bytes:
    """What ``player.js`` reads: the length of a JSON header, the header, the parts it names."""
    from core.figures.audio import TICKS_HZ, envelope, mel_rows

    _, least, greatest = envelope(wave.samples, ENVELOPE_COLUMNS)
    peak = max(float(np.abs(wave.samples).max()), 1e-4)
    extremes = np.stack([least, greatest], axis=1).ravel() / peak * 127
    loudest = float(log_mel.max())
    levels = (log_mel - (loudest - SHOWN_DB)) / SHOWN_DB * 255
    parts = {"audio": audio, "wave": extremes.round().astype(np.int8).tobytes(), "mel": _byte(levels)}
    ticks = [hz for hz in TICKS_HZ if mel_hz[0] <= hz <= mel_hz[-1]]
    facts: dict[str, Any] = {
        "name": name,
        "alt": f"Position in {name}: waveform, mel spectrogram" + (" and class probabilities" if timeline else ""),
        "identity": hashlib.sha256(audio).hexdigest(),
        "mime": mime,
        "duration_s": wave.duration_s,
        "peak": f"{peak:.2g}",
        "mel": {
            "rows": log_mel.shape[0],
            "columns": log_mel.shape[1],
            "hop_s": hop_s,
            "low_db": round(loudest - SHOWN_DB),
            "high_db": round(loudest),
            "ticks": [
                {"row": row, "text": f"{hz / 1000:g}k" if hz >= 1000 else str(hz)}
                for row, hz in zip(mel_rows(ticks, mel_hz), ticks, strict=True)
            ],
        },
        "shade": None if shade is None else {"start_s": shade[0], "end_s": shade[1]},
        "overlay": None,
        "timeline": None if timeline is None else _lines(timeline),
    }
    if overlay is not None:
        rows, columns = overlay.strength.shape
        span = {"start_s": overlay.start_s, "end_s": overlay.end_s}
        facts["overlay"] = {"rows": rows, "columns": columns} | span
        parts["overlay"] = _byte(overlay.strength * 255)
    return _framed(facts, parts)


def _lines(timeline: Timeline) -> dict[str, Any]:
    index = {name: position for position, name in enumerate(timeline.class_names)}
    return {
        "times": [round((window.start_s + window.end_s) / 2, 4) for window in timeline.windows],
        "unknown": [window.unknown for window in timeline.windows],
        "lines": [
            {
                "name": words.plain(name),
                "values": [round(window.probabilities[index[name]], 4) for window in timeline.windows],
            }
            for name in timeline.shown
        ],
    }


def _byte(values: NDArray[np.float32]) -> bytes:
    return values.clip(0, 255).round().astype(np.uint8).tobytes()


def _framed(facts: dict[str, Any], parts: dict[str, bytes]) -> bytes:
    places, end = {}, 0
    for name, part in parts.items():
        places[name] = [end, len(part)]
        end += len(part)
    header = json.dumps(facts | {"parts": places}).encode()
    return len(header).to_bytes(4, "little") + header + b"".join(parts.values())
