"""The front door: bytes → Waveform. Everything after it may trust its input.

Bounds on bytes, seconds, channels and rate are checked on the header, then again on every decoded block, so a header
that lies in either direction costs neither memory nor time. Nothing is repaired: what is odd about a recording is kept
as facts for ``core.quality`` to put into words.
"""

from __future__ import annotations

import io
import math
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from core.config import AudioConfig, Limits
from core.containers import Block, Header, Reader, open_sound, read_wav_header, sniff
from core.errors import AudioError, LimitError
from core.records import SourceFacts

FLOATS = {"float", "double", *(f"pcm_f{bits}{order}" for bits in (32, 64) for order in ("le", "be"))}
CLIPPED_AT = 0.999  # of full scale
CLIPPED_AT_OF = {"ulaw": 0.98, "pcm_mulaw": 0.98, "alaw": 0.984, "pcm_alaw": 0.984, "pcm_u8": 0.992}  # their own ends
SILENT_POWER = 1e-20
LOUDEST = 2.0**32  # floats scaled like 32-bit integers are odd but sound; beyond, arithmetic on them overflows
CODEC_SLACK_FRAMES = 4_096  # encoder delay and padding, which headers count differently
MOST_SAMPLES = 2**28  # over all channels, a few seconds of decoding: a small FLAC may hold many channels at a high rate
USUAL_HZ, USUAL_CHANNELS = 48_000, 2  # of these, all the seconds that the limits allow may come
FORMATS = "wav, flac, ogg, opus, mp3, m4a, aac, webm"
LOOKS_LIKE = {b"%PDF": "a PDF", b"PK\x03\x04": "a zip archive", b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture"}


@dataclass(frozen=True)
class Waveform:
    """Mono audio at the model's rate.

    ``samples``: (N,) float32, finite, full scale ±1 (float files may exceed it); ``source``: facts about the file.
    """

    samples: NDArray[np.float32]
    sample_rate_hz: int
    source: SourceFacts

    @property
    def duration_s(self) -> float:
        return self.samples.size / self.sample_rate_hz


def decode(data: bytes, *, audio: AudioConfig = AudioConfig(), limits: Limits = Limits()) -> Waveform:
    """Decode a sound file to mono float32 at ``audio.sample_rate_hz`` (channel mean, soxr HQ).

    Raises ``LimitError`` (too_many_bytes, too_long, too_many_channels) or ``AudioError`` (empty_file, not_audio,
    no_audio_stream, unknown_codec, bad_sample_rate, corrupt, no_samples, too_short, non_finite); no other error for any
    bytes.
    """
    container = _accept(data, limits)
    with closing(open_sound(data, container)) as reader:
        _check_header(reader.header, limits)
        return _drain(reader, audio, limits)


def window_spans(n_samples: int, audio: AudioConfig) -> list[tuple[int, int]]:
    """Analysis windows as (start, end) in samples: all of it up to two window lengths, else one every ``hop_s``.

    The last window ends with the sound, so none is padded and nothing is left out.
    """
    if n_samples <= 2 * audio.window_samples:
        return [(0, n_samples)]
    last = n_samples - audio.window_samples
    starts = [*range(0, last, audio.hop_samples), last]
    return [(start, start + audio.window_samples) for start in starts]


def write_wav(samples: NDArray[np.float32], sample_rate_hz: int, *, exact: bool = False) -> bytes:
    """Mono 16-bit wav that every browser plays; peaks over full scale are limited to it.

    ``exact``: 32-bit float instead, which keeps every sample as it is. For sounds that a backend answers for.
    """
    buffer = io.BytesIO()
    if exact:
        soundfile.write(buffer, samples, sample_rate_hz, format="WAV", subtype="FLOAT")
        return _timeless(buffer.getvalue())
    soundfile.write(buffer, np.clip(samples, -1, 1), sample_rate_hz, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _timeless(wav: bytes) -> bytes:
    """Equal sounds are equal bytes: libsndfile writes the second of writing into the PEAK chunk of float files."""
    chunk = wav.find(b"PEAK", 0, 128)
    stamp = chunk + 12  # after name, size and version
    return wav if chunk < 0 else wav[:stamp] + bytes(4) + wav[stamp + 4 :]


def _accept(data: bytes, limits: Limits) -> str:
    """What can be said from the bytes alone: size, kind, and a wav header's rate and channels."""
    if not data:
        raise AudioError(
            "Expected a sound file, got an empty one (0 bytes). Record or export it again.", code="empty_file"
        )
    if len(data) > limits.max_bytes:
        raise LimitError(
            f"Expected at most {limits.max_bytes:,} bytes, got {len(data):,}. Cut it or compress it (flac, ogg).",
            code="too_many_bytes",
        )
    container = sniff(data)
    if container is None:
        raise AudioError(
            f"Expected a sound file ({FORMATS}), got {_appearance(data)}. The name does not matter, the content does: "
            "choose a recording.",
            code="not_audio",
        )
    if container == "wav" and (header := read_wav_header(data)) is not None:
        _check_header(header, limits)
    return container


def _appearance(data: bytes) -> str:
    for magic, kind in LOOKS_LIKE.items():
        if data.startswith(magic):
            return kind
    head = data[:256]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "text"
    if sum(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head) > 0.95 * len(head):
        return "text"
    return f"{len(data):,} bytes of another kind"


def _check_header(header: Header, limits: Limits) -> None:
    if header.channels < 1:
        raise AudioError(
            f"Expected 1 to {limits.max_channels} channels, the header says {header.channels}. "
            "It is damaged: export or record it again.",
            code="corrupt",
        )
    if header.channels > limits.max_channels:
        raise LimitError(
            f"Expected 1 to {limits.max_channels} channels, the header says {header.channels}. Mix it down first.",
            code="too_many_channels",
        )
    if not limits.min_sample_rate_hz <= header.sample_rate_hz <= limits.max_sample_rate_hz:
        raise AudioError(
            f"Expected a sample rate from {limits.min_sample_rate_hz:,} to {limits.max_sample_rate_hz:,} Hz, "
            f"the header says {header.sample_rate_hz:,} Hz. Export it again at a usual rate, such as 44,100 Hz.",
            code="bad_sample_rate",
        )
    if header.frames is not None:
        _check_length(header.frames, header, limits, "the header says")


def _check_length(frames: int, header: Header, limits: Limits, says: str) -> None:
    seconds = frames / header.sample_rate_hz
    if seconds > limits.max_duration_s:
        raise LimitError(
            f"Expected at most {limits.max_duration_s:,.0f} s of sound, {says} {seconds:,.1f} s. Cut it into parts.",
            code="too_long",
        )
    most = max(MOST_SAMPLES, math.ceil(limits.max_duration_s * USUAL_HZ * USUAL_CHANNELS))
    if frames * header.channels > most:
        raise LimitError(
            f"Expected at most {most:,} samples over all channels, {says} {frames * header.channels:,} "
            f"({header.channels} channels at {header.sample_rate_hz:,} Hz). Mix it down or lower its sample rate.",
            code="too_long",
        )


def _drain(reader: Reader, audio: AudioConfig, limits: Limits) -> Waveform:
    """Mix down, measure and resample block by block: memory grows with the answer, not with the file."""
    header = reader.header
    meter = _Meter(header)
    resample = soxr.ResampleStream(header.sample_rate_hz, audio.sample_rate_hz, 1, dtype="float32", quality="HQ")
    to_mono = np.full(header.channels, 1 / header.channels, dtype=np.float32)
    parts = []
    for block in reader.blocks():
        size = np.abs(block)
        _check_finite(size, meter.frames, header)
        mono = block[:, 0].copy() if header.channels == 1 else block @ to_mono
        meter.add(block, size, mono)
        _check_length(meter.frames, header, limits, "the sound goes past")
        parts.append(resample.resample_chunk(mono))
    parts.append(resample.resample_chunk(np.zeros(0, dtype=np.float32), last=True))
    _check_enough(meter.frames, reader, audio)
    return Waveform(np.concatenate(parts), audio.sample_rate_hz, meter.facts(reader))


def _check_finite(size: Block, before: int, header: Header) -> None:
    if not size.max(initial=0.0) <= LOUDEST:  # also where it is NaN
        first = before + int(np.flatnonzero(~(size <= LOUDEST).all(axis=1))[0])
        raise AudioError(
            f"Expected finite samples, found NaN, infinity or a number beyond any sound at "
            f"{first / header.sample_rate_hz:.3f} s. The program that wrote the file went wrong: export it again.",
            code="non_finite",
        )


def _check_enough(frames: int, reader: Reader, audio: AudioConfig) -> None:
    rate = reader.header.sample_rate_hz
    if frames == 0 and (reader.broken or reader.header.frames):
        raise AudioError(
            f"Expected a readable {reader.header.container} file, but its sound cannot be decoded. "
            "It is damaged or incomplete: export or record it again.",
            code="corrupt",
        )
    if frames == 0:
        raise AudioError(
            f"Expected at least {audio.min_duration_s:g} s of audio, the file holds a header and no samples. "
            "Record or export it again.",
            code="no_samples",
        )
    if frames < audio.min_duration_s * rate:
        raise AudioError(
            f"Expected at least {audio.min_duration_s:g} s of audio, got {frames / rate:.2g} s "
            f"({frames:,} sample{'s' * (frames != 1)} at {rate:,} Hz). Record a longer clip.",
            code="too_short",
        )


class _Meter:
    """Running facts about the source channels."""

    def __init__(self, header: Header) -> None:
        self.frames = 0
        self._clipped_at = CLIPPED_AT_OF.get(header.codec, CLIPPED_AT)
        self._may_exceed = header.codec in FLOATS
        self._peak = 0.0
        self._channel_power = self._mono_power = 0.0
        self._open_run = np.zeros(
            header.channels, dtype=np.int64
        )  # clipped samples that reach the end of the last block
        self._longest_run = 0

    def add(self, block: Block, size: Block, mono: NDArray[np.float32]) -> None:
        """``size`` is ``|block|``."""
        self.frames += len(block)
        peak = float(size.max(initial=0.0))
        self._peak = max(self._peak, peak)
        self._channel_power += float(np.vdot(block, block)) / block.shape[1]
        self._mono_power += float(np.vdot(mono, mono))
        if peak >= self._clipped_at:
            clipped = size >= self._clipped_at
            self._count_clipping(clipped & _held(block) if self._may_exceed else clipped)
        else:
            self._open_run[:] = 0

    def _count_clipping(self, clipped: NDArray[np.bool_]) -> None:
        for channel in range(clipped.shape[1]):
            column = clipped[:, channel]
            if not column.any():
                self._open_run[channel] = 0
                continue
            edges = np.flatnonzero(np.diff(np.concatenate([[0], column.view(np.int8), [0]])))
            runs = edges[1::2] - edges[::2]
            runs[0] += self._open_run[channel] if column[0] else 0
            self._longest_run = max(self._longest_run, int(runs.max()))
            self._open_run[channel] = runs[-1] if column[-1] else 0

    def facts(self, reader: Reader) -> SourceFacts:
        header = reader.header
        missing = header.frames is not None and self.frames < 0.99 * header.frames - CODEC_SLACK_FRAMES
        loss = 10 * np.log10((self._channel_power + SILENT_POWER) / (self._mono_power + SILENT_POWER))
        return SourceFacts(
            container=header.container,
            codec=header.codec,
            sample_rate_hz=header.sample_rate_hz,
            channels=header.channels,
            duration_s=self.frames / header.sample_rate_hz,
            peak=self._peak,
            longest_clipped_run=self._longest_run,
            downmix_loss_db=max(0.0, float(loss)),
            truncated=header.truncated or reader.broken or missing,
        )


def _held(block: Block) -> NDArray[np.bool_]:
    """Samples equal to one beside them: floats may exceed full scale, and only a flat top tells that they were cut."""
    same = np.diff(block, axis=0) == 0
    held = np.zeros(block.shape, dtype=bool)
    held[1:] |= same
    held[:-1] |= same
    return held
