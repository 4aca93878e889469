"""Readers of sound files, all of one shape: what the header claims, then blocks of (frames, channels) float32.

libsndfile reads wav, flac, ogg, opus, aiff; PyAV (FFmpeg's libraries inside its wheel) reads mp3, m4a, webm and what
libsndfile refuses. The content decides, never the name, and FFmpeg is told the format it may use: left to guess, it
would also follow playlists to other files.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from core.errors import AudioError

Block = NDArray[np.float32]
BLOCK_FRAMES = 4_096  # a broken stream loses the block it breaks in; FLAC's own blocks have this size
STREAMED_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)  # what a writer puts in a wav header that it cannot go back to
FOLLOWING_CHUNKS = (b"LIST", b"fact", b"id3 ", b"ID3 ", b"bext", b"cue ", b"smpl")
OGG_END_OF_STREAM = 0x04

# container → FFmpeg's name for its demuxer; the keys are everything that is accepted
DEMUXERS = {
    "wav": "wav",
    "flac": "flac",
    "ogg": "ogg",
    "mp3": "mp3",
    "aiff": "aiff",
    "caf": "caf",
    "au": "au",
    "mp4": "mp4",
    "webm": "matroska",
    "aac": "aac",
}
LIBSNDFILE = {
    "wav",
    "flac",
    "ogg",
    "aiff",
    "caf",
    "au",
}  # not mp3: it seeks after each read, which garbles block borders
COUNTED_FRAMES = (b"Xing", b"Info", b"VBRI")  # an mp3 without any of these has its length guessed from the bit rate


@dataclass(frozen=True)
class Header:
    """What a file says of itself; ``frames`` is ``None`` where it says nothing that can be relied on."""

    container: str
    codec: str
    sample_rate_hz: int
    channels: int
    frames: int | None = None
    truncated: bool = False  # the header promises more bytes than there are, or the end marker is missing
    unsized_data_at: int | None = None  # where a wav's samples begin that were streamed without a size


def sniff(data: bytes) -> str | None:
    """The container by its first bytes, a key of ``DEMUXERS``; ``None`` for anything else."""
    head = data[:16]
    if head[:4] in (b"RIFF", b"RF64", b"RIFX") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[4:8] == b"ftyp":
        return "mp4"
    for magic, container in _MAGIC.items():
        if head.startswith(magic):
            return container
    return _mpeg_audio(head)


_MAGIC = {
    b"fLaC": "flac",
    b"OggS": "ogg",
    b"ID3": "mp3",
    b"caff": "caf",
    b".snd": "au",
    b"\x1a\x45\xdf\xa3": "webm",
}


def _mpeg_audio(head: bytes) -> str | None:
    """``mp3`` or ``aac`` (ADTS) by the eleven or twelve sync bits and the layer field."""
    if len(head) < 2 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    if head[1] & 0x06:
        return "mp3"
    return "aac" if head[1] & 0xF0 == 0xF0 else None


def read_wav_header(data: bytes) -> Header | None:
    """The ``fmt`` and ``data`` chunks of a RIFF file, read without trusting any size. ``None`` without ``fmt``."""
    order = ">" if data[:4] == b"RIFX" else "<"
    position, header = 12, None
    while position + 8 <= len(data):
        name, size = data[position : position + 4], struct.unpack_from(order + "I", data, position + 4)[0]
        position += 8
        if name == b"fmt " and position + 16 <= len(data):
            tag, channels, rate = struct.unpack_from(order + "HHI", data, position)
            header = Header("wav", f"wave_format_{tag:#06x}", rate, channels)
        if name == b"data" and header is not None:
            short = size not in STREAMED_SIZES and size > len(data) - position and data[:4] != b"RF64"
            unsized = size == 0 and len(data) > position and data[position : position + 4] not in FOLLOWING_CHUNKS
            return replace(header, truncated=short, unsized_data_at=position if unsized else None)
        position += size + size % 2
    return header


def _with_size(data: bytes, header: Header | None) -> bytes:
    """libsndfile takes a streamed size of 0 for no samples: give it the size that is there."""
    if header is None or header.unsized_data_at is None:
        return data
    at, order = header.unsized_data_at, ">" if data[:4] == b"RIFX" else "<"
    return data[: at - 4] + struct.pack(order + "I", len(data) - at) + data[at:]


def ogg_is_cut_off(data: bytes) -> bool:
    """Whether the last page lacks the end-of-stream flag: the writer never finished, or the file was cut."""
    last = data.rfind(b"OggS")
    return last < 0 or last + 5 >= len(data) or not data[last + 5] & OGG_END_OF_STREAM


class SoundFileReader:
    """libsndfile. Raises ``soundfile.LibsndfileError`` for what it does not read."""

    def __init__(self, data: bytes, container: str) -> None:
        claimed = read_wav_header(data) if container == "wav" else None
        self._file = soundfile.SoundFile(io.BytesIO(_with_size(data, claimed)))
        cut_off = claimed.truncated if claimed else container == "ogg" and ogg_is_cut_off(data)
        frames = self._file.frames
        self.header = Header(
            container=container,
            codec=self._file.subtype.lower(),
            sample_rate_hz=self._file.samplerate,
            channels=self._file.channels,
            frames=frames if 0 <= frames < 2**62 else None,  # unknown is the largest count
            truncated=cut_off,
        )
        self.broken = False

    def blocks(self) -> Iterator[Block]:
        while True:
            try:
                block = self._file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError:
                self.broken = True
                return
            if not len(block):
                return
            yield block

    def close(self) -> None:
        self._file.close()


class AvReader:
    """FFmpeg's libraries through PyAV. Raises ``av.error.FFmpegError`` for what they do not read."""

    def __init__(self, data: bytes, container: str) -> None:
        self._container = av.open(io.BytesIO(data), "r", format=DEMUXERS[container], metadata_errors="replace")
        try:
            self.header = self._read_header(container, length_counts=_tells_its_length(data, container))
        except BaseException:
            self._container.close()
            raise
        self.broken = False

    def _read_header(self, container: str, *, length_counts: bool) -> Header:
        if not self._container.streams.audio:
            raise AudioError(
                f"Expected a sound track, the {container} file has none. Choose a file with sound.",
                code="no_audio_stream",
            )
        self._stream = self._container.streams.audio[0]
        context = self._stream.codec_context
        seconds = None
        if length_counts:
            if self._stream.duration is not None and self._stream.time_base is not None:
                seconds = float(self._stream.duration * self._stream.time_base)
            elif self._container.duration is not None:
                seconds = self._container.duration / av.time_base
        return Header(
            container=container,
            codec=context.name,
            sample_rate_hz=context.sample_rate or 0,
            channels=context.channels,
            frames=None if seconds is None else round(seconds * (context.sample_rate or 0)),
        )

    def blocks(self) -> Iterator[Block]:
        planar = av.AudioResampler(format="fltp")  # sample format only: rate and channels stay
        try:
            for frame in self._container.decode(self._stream):
                if frame.sample_rate != self.header.sample_rate_hz or frame.layout.nb_channels != self.header.channels:
                    self.broken = True  # changed in mid-stream: what follows is another sound
                    return
                for part in planar.resample(frame):
                    yield np.ascontiguousarray(part.to_ndarray().T)
        except (av.error.FFmpegError, ValueError):
            self.broken = True

    def close(self) -> None:
        self._container.close()


def _tells_its_length(data: bytes, container: str) -> bool:
    if container == "mp3":
        return any(mark in data for mark in COUNTED_FRAMES)
    return container != "aac"


Reader = SoundFileReader | AvReader


def open_sound(data: bytes, container: str) -> Reader:
    """The first reader that accepts ``data``. Raises ``AudioError`` when none does."""
    if container in LIBSNDFILE:
        try:
            return SoundFileReader(data, container)
        except soundfile.LibsndfileError:
            pass  # wav may hold codecs that only FFmpeg knows, an ID3 tag may precede AAC
    try:
        return AvReader(data, container)
    except (av.error.FFmpegError, ValueError, UnicodeDecodeError) as exc:
        raise AudioError(
            f"Expected a readable {container} file, got one that only starts like it ({_reason(exc)}). "
            "It may be damaged or incomplete: export or record it again.",
            code="corrupt",
        ) from exc


def _reason(exc: Exception) -> str:
    return getattr(exc, "strerror", None) or type(exc).__name__
