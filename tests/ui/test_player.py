"""What the player's script is given."""

import json

import numpy as np

from app.player import Overlay, Timeline, packed
from core.audio import Waveform, decode, write_wav
from core.records import WindowPrediction

RATE = 32_000


def wave(duration_s: float = 2.0) -> Waveform:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, round(duration_s * RATE)).astype(np.float32)
    return decode(write_wav(samples, RATE))


def unpacked(data: bytes) -> tuple[dict[str, object], dict[str, bytes]]:
    length = int.from_bytes(data[:4], "little")
    facts = json.loads(data[4 : 4 + length])
    body = data[4 + length :]
    return facts, {name: body[start : start + size] for name, (start, size) in facts.pop("parts").items()}


def test_every_part_arrives_whole_and_in_its_scale() -> None:
    mel = np.linspace(-120, -20, 64 * 10).reshape(64, 10).astype(np.float32)
    mel_hz = np.geomspace(40, 15_000, 64)
    windows = [
        WindowPrediction(start_s=0, end_s=1, probabilities=(0.2, 0.8)),
        WindowPrediction(start_s=1, end_s=2, probabilities=(0.6, 0.4), unknown=True),
    ]
    given = packed(
        "a.wav",
        b"audio",
        "audio/wav",
        wave(),
        mel,
        mel_hz,
        0.2,
        overlay=Overlay(np.array([[0.0, 0.5, 1.0]], np.float32), 0.5, 1.5),
        timeline=Timeline(windows, ("dog", "sea_waves"), ["sea_waves", "dog"]),
        shade=(0.5, 1.5),
    )
    facts, parts = unpacked(given)
    assert parts["audio"] == b"audio"
    extremes = np.frombuffer(parts["wave"], np.int8).reshape(-1, 2)
    assert (extremes[:, 0] <= extremes[:, 1]).all()
    assert np.abs(extremes.astype(int)).max() == 127
    levels = np.frombuffer(parts["mel"], np.uint8).reshape(64, 10)
    assert (levels[0, 0], levels[-1, -1]) == (0, 255)
    assert np.frombuffer(parts["overlay"], np.uint8).tolist() == [0, 128, 255]
    assert facts["overlay"] == {"rows": 1, "columns": 3, "start_s": 0.5, "end_s": 1.5}
    assert facts["timeline"] == {
        "times": [0.5, 1.5],
        "unknown": [False, True],
        "lines": [{"name": "Sea waves", "values": [0.8, 0.4]}, {"name": "Dog", "values": [0.2, 0.6]}],
    }
    assert facts["duration_s"] == 2
    assert [tick["text"] for tick in facts["mel"]["ticks"]] == ["100", "500", "1k", "2k", "5k", "10k"]  # type: ignore[index]


def test_silence_is_drawn_as_a_line() -> None:
    silent = decode(write_wav(np.zeros(RATE, np.float32), RATE))
    facts, parts = unpacked(
        packed("s", b"", "audio/wav", silent, np.full((4, 4), -100, np.float32), np.arange(4.0), 0.1)
    )
    assert set(parts["wave"]) == {0}
    assert facts["timeline"] is None
    assert "overlay" not in parts
