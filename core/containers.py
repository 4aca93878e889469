"""Readers of sound files, all of one shape: what the header claims, then blocks of (frames, channels) float32.

libsndfile reads wav, flac, ogg, opus, aiff; PyAV (FFmpeg's libraries inside its wheel) reads mp3, m4a, webm and what
libsndfile refuses. The content decides, never the name, and FFmpeg is told the format, the codecs and the protocols it
may use: left to guess, it would also follow playlists to other files.
"""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from core.errors import AudioError

Block = NDArray[np.float32]
READ_FRAMES = 4_096  # a broken stream loses the read it breaks in; FLAC's own blocks have this size
BLOCK_FRAMES = 65_536  # what the reads are gathered to, so that the work on each block is cheap
MOST_PACKETS = 2**19  # twenty minutes of 2.5 ms each; bounds the work where packets hold a sample each
MOST_BAD_PACKETS = 100  # a few are passed over; more are not worth the time
UNSIZED_FROM = 0x7FFF_0000  # sizes from here, or 0, stand in streamed wav headers that were never completed
FOLLOWING_CHUNKS = (b"LIST", b"fact", b"id3 ", b"ID3 ", b"bext", b"cue ", b"smpl")
OGG_BEGIN_OF_STREAM, OGG_END_OF_STREAM = 0x02, 0x04
OGG_PAGE_HEADER_BYTES = 27
ID3_HEADER_BYTES = 10
LEAD_IN_BYTES = 8_192  # within which a cut mp3 comes to its next frames: one has at most 1,441 bytes
MP3_KBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)  # MPEG-1 layer III
MP3_KBITS_LOW = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)  # MPEG-2 and 2.5

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
LIBSNDFILE = {"wav", "flac", "ogg", "aiff", "caf", "au"}  # not mp3: it prints warnings about damaged ones
CODECS = frozenset(
    ["aac", "ac3", "alac", "eac3", "flac", "mp2", "mp2float", "mp3", "mp3float", "opus", "vorbis"]
    + ["adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "gsm", "gsm_ms", "pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8"]
    + [f"pcm_{kind}{order}" for kind in ("s16", "s24", "s32", "f32", "f64") for order in ("le", "be")]
)
FFMPEG_OPTIONS = {
    "codec_whitelist": ",".join(sorted(CODECS)),  # pictures and films in a file are never decoded
    "protocol_whitelist": "none",  # nothing else is ever opened
}
MOST_PLANES = 7  # of a frame of 8 or more, PyAV 18.1 reads past the end of the list of planes, and crashes
COUNTED_FRAMES = (b"Xing", b"Info", b"VBRI")  # an mp3 without any of these has its length guessed from the bit rate
COUNTED_WITHIN_BYTES = 4_096


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
    if data[:3] == b"ID3":
        inner = sniff(data[_after_id3(data) :][:16])
        return inner if inner in {"flac", "aac"} else "mp3"
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
    return _mpeg_audio(head) or _mp3_after(data[:LEAD_IN_BYTES])


_MAGIC = {
    b"fLaC": "flac",
    b"OggS": "ogg",
    b"caff": "caf",
    b".snd": "au",
    b"\x1a\x45\xdf\xa3": "webm",
}


def _after_id3(data: bytes) -> int:
    """Where an ID3v2 tag ends: four bytes of seven bits hold its size."""
    size = 0
    for byte in data[6:ID3_HEADER_BYTES]:
        size = size << 7 | byte & 0x7F
    return ID3_HEADER_BYTES + size


def _mpeg_audio(head: bytes) -> str | None:
    """``mp3`` (layer II or III) or ``aac`` (ADTS) by the sync bits and the values that no frame header may hold."""
    if len(head) < 3 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    if head[1] & 0xF6 == 0xF0:
        return "aac" if (head[2] >> 2 & 0x0F) < 13 else None
    version, layer, bit_rate, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    return "mp3" if version != 1 and layer in (1, 2) and bit_rate != 15 and rate != 3 else None


def _mp3_after(data: bytes) -> str | None:
    """``mp3`` for one that does not begin with a frame, as when cut out of a stream: three frames in a row tell."""
    for start in range(1, min(len(data), LEAD_IN_BYTES // 2)):
        at, found = start, 0
        while found < 3 and (size := _mp3_frame_bytes(data[at : at + 4])):
            at, found = at + size, found + 1
        if found == 3:
            return "mp3"
    return None


def _mp3_frame_bytes(head: bytes) -> int:
    """How long a layer III frame with this header is; 0 where it is none."""
    if len(head) < 4 or _mpeg_audio(head) != "mp3" or head[1] >> 1 & 3 != 1:
        return 0
    first = head[1] >> 3 & 3 == 3
    rate_hz = (44_100, 48_000, 32_000)[head[2] >> 2 & 3] >> {3: 0, 2: 1, 0: 2}[head[1] >> 3 & 3]
    kbits = (MP3_KBITS if first else MP3_KBITS_LOW)[head[2] >> 4]
    return (144 if first else 72) * 1000 * kbits // rate_hz + (head[2] >> 1 & 1)


def read_wav_header(data: bytes) -> Header | None:
    """The ``fmt`` and ``data`` chunks of a RIFF file, read without trusting any size. ``None`` without ``fmt``."""
    order = ">" if data[:4] == b"RIFX" else "<"
    position, header, long_size = 12, None, None
    while position + 8 <= len(data):
        name, size = data[position : position + 4], struct.unpack_from(order + "I", data, position + 4)[0]
        position += 8
        if name == b"ds64" and position + 16 <= len(data):  # RF64: sizes of 64 bits
            long_size = struct.unpack_from("<Q", data, position + 8)[0]
        if name == b"fmt " and position + 16 <= len(data):
            tag, channels, rate = struct.unpack_from(order + "HHI", data, position)
            header = Header("wav", f"wave_format_{tag:#06x}", rate, channels)
        if name == b"data" and header is not None:
            claimed = size if long_size is None else long_size
            short = len(data) - position < claimed and (long_size is not None or claimed < UNSIZED_FROM)
            short = short or (claimed > 0 and _is_no_chunk(data[position + claimed + claimed % 2 :][:8]))
            unsized = claimed == 0 and len(data) > position and data[position : position + 4] not in FOLLOWING_CHUNKS
            return replace(header, truncated=short, unsized_data_at=position if unsized else None)
        position += size + size % 2
    return header


def _is_no_chunk(following: bytes) -> bool:
    """Whether what follows a wav's samples is more samples: a writer that died never completed the size."""
    return len(following) == 8 and any(following) and not all(32 <= byte < 127 for byte in following[:4])


def ends_early(data: bytes, container: str) -> bool:
    """Whether the bytes stop before the container says that they do, as far as it says so at all."""
    if container == "wav":
        header = read_wav_header(data)
        return header is not None and header.truncated
    if container == "aiff" and len(data) >= 8:
        return int.from_bytes(data[4:8], "big") + 8 > len(data)
    if container == "au" and len(data) >= 12:
        start, size = struct.unpack_from(">II", data, 4)
        return bool(size != 0xFFFFFFFF and start + size > len(data))
    return container == "ogg" and _ogg_is_cut_off(data)


def _ogg_is_cut_off(data: bytes) -> bool:
    """Whether the last page is incomplete or lacks the end-of-stream flag: cut, or never finished by its writer."""
    page = data[max(0, data.rfind(b"OggS")) :]
    if len(page) < OGG_PAGE_HEADER_BYTES or not page[5] & OGG_END_OF_STREAM:
        return True
    body = OGG_PAGE_HEADER_BYTES + page[26]  # a table of segment sizes, then the segments
    return body + sum(page[OGG_PAGE_HEADER_BYTES:body]) > len(page)


def _ogg_goes_on(data: bytes) -> bool:
    """Whether another stream begins after pages of sound, as in recordings of radio. libsndfile reads the first one."""
    at, begun = 0, False
    while at + OGG_PAGE_HEADER_BYTES <= len(data) and data.startswith(b"OggS", at):
        begins = bool(data[at + 5] & OGG_BEGIN_OF_STREAM)
        if begins and begun:
            return True
        begun = begun or not begins
        body = at + OGG_PAGE_HEADER_BYTES + data[at + 26]
        at = body + sum(data[at + OGG_PAGE_HEADER_BYTES : body])
    return False


def _with_size(data: bytes) -> bytes:
    """libsndfile takes a streamed size of 0 for no samples: give it the size that is there."""
    header = read_wav_header(data)
    if header is None or header.unsized_data_at is None:
        return data
    at, order = header.unsized_data_at, ">" if data[:4] == b"RIFX" else "<"
    return data[: at - 4] + struct.pack(order + "I", len(data) - at) + data[at:]


def _gather(parts: Iterator[Block]) -> Iterator[Block]:
    """The same frames in blocks of at least ``BLOCK_FRAMES``, but for the last."""
    waiting: list[Block] = []
    frames = 0
    for part in parts:
        waiting.append(part)
        frames += len(part)
        if frames >= BLOCK_FRAMES:
            yield np.concatenate(waiting)
            waiting, frames = [], 0
    if frames:
        yield np.concatenate(waiting)


class _Memory(io.BytesIO):
    """Damage makes libsndfile seek to before the start, and soundfile print a traceback if that is an error."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


class _Forward(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """soundfile seeks after every read of what it believes seekable, which costs time and garbles mp3."""

    def seekable(self) -> bool:
        return False


class SoundFileReader:
    """libsndfile. Raises ``soundfile.LibsndfileError`` for what it does not read."""

    def __init__(self, data: bytes, container: str) -> None:
        self._file = _Forward(_Memory(_with_size(data) if container == "wav" else data))
        frames = self._file.frames
        self.header = Header(
            container=container,
            codec=self._file.subtype.lower(),
            sample_rate_hz=self._file.samplerate,
            channels=self._file.channels,
            frames=frames if 0 <= frames < 2**62 else None,  # unknown is the largest count
            truncated=ends_early(data, container),
        )
        self.broken = False

    def blocks(self) -> Iterator[Block]:
        return _gather(self._reads())

    def _reads(self) -> Iterator[Block]:
        """As many frames as the header counts, no more: what follows may be a tag, which does not decode."""
        left = sys.maxsize if self.header.frames is None else self.header.frames
        while left > 0:
            try:
                part = self._file.read(min(READ_FRAMES, left), dtype="float32", always_2d=True)
            except soundfile.LibsndfileError:
                self.broken = True
                return
            if not len(part):
                return
            left -= len(part)
            yield part

    def close(self) -> None:
        self._file.close()


class AvReader:
    """FFmpeg's libraries through PyAV. Raises ``av.error.FFmpegError`` for what they do not read."""

    def __init__(self, data: bytes, container: str) -> None:
        self.broken = False
        self._container = av.open(
            io.BytesIO(data), "r", format=DEMUXERS[container], metadata_errors="replace", options=FFMPEG_OPTIONS
        )
        try:
            self._stream = self._choose_stream(container)
            self._frames = self._decode()
            self._first = next(self._frames, None)  # only a decoded frame knows rate and channels: HE-AAC doubles them
            self.header = self._read_header(data, container)
        except BaseException:
            self._container.close()
            raise

    def _choose_stream(self, container: str) -> av.AudioStream:
        if not self._container.streams.audio:
            raise AudioError(
                f"Expected a sound track, the {container} file has none. Choose a file with sound.",
                code="no_audio_stream",
            )
        stream = _preferred(self._container.streams.audio)
        if stream.codec_context is None or stream.codec_context.name not in CODECS:
            raise AudioError(
                f"Expected a usual codec in the {container} file (aac, mp3, opus, vorbis, flac, pcm), got "
                f"{'an unknown one' if stream.codec_context is None else stream.codec_context.name}. "
                "Export it again as wav, flac, mp3 or m4a.",
                code="unknown_codec",
            )
        return stream

    def _read_header(self, data: bytes, container: str) -> Header:
        context = self._stream.codec_context
        rate = self._first.sample_rate if self._first else context.sample_rate or 0
        channels = self._first.layout.nb_channels if self._first else context.channels
        if not rate and not self._first:
            raise AudioError(_only_starts_like(container, "no sound in it can be decoded"), code="corrupt")
        seconds, tick = None, float(self._stream.time_base or 0)
        if _tells_its_length(data, container):
            if self._stream.duration is not None and tick:
                seconds = self._stream.duration * tick
            elif self._container.duration is not None and len(self._container.streams) == 1:  # else a film's length
                seconds = self._container.duration / av.time_base - max(0.0, float(self._stream.start_time or 0) * tick)
        return Header(
            container=container,
            codec=context.codec.canonical_name,
            sample_rate_hz=rate,
            channels=channels,
            frames=None if seconds is None else max(0, round(seconds * rate)),
            truncated=ends_early(data, container),
        )

    def _decode(self) -> Generator[av.AudioFrame, None, None]:
        """Frames in order; a packet that cannot be decoded is passed over, up to a point."""
        packets = self._container.demux(self._stream)
        bad_packets = 0
        for _ in range(MOST_PACKETS):
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, ValueError):
                break  # the container itself is broken from here on
            if packet is None:
                self.broken = self.broken or bad_packets > 0
                return
            try:
                frames = packet.decode()
            except av.error.EOFError:
                continue
            except (av.error.FFmpegError, ValueError):
                bad_packets += 1
                if bad_packets > MOST_BAD_PACKETS:
                    break
                continue
            yield from frames
        self.broken = True

    def blocks(self) -> Iterator[Block]:
        return _gather(self._parts())

    def _parts(self) -> Iterator[Block]:
        interleave = av.AudioResampler(format="flt")  # rate and channels stay
        frame = self._first
        while frame is not None:
            if frame.sample_rate != self.header.sample_rate_hz or frame.layout.nb_channels != self.header.channels:
                self.broken = True  # changed in mid-stream: what follows is another sound
                return
            if frame.format.is_planar and frame.layout.nb_channels > MOST_PLANES:
                try:
                    yield from map(_to_block, interleave.resample(frame))
                except (av.error.FFmpegError, ValueError):
                    self.broken = True
                    return
            else:
                yield _to_block(frame)
            frame = next(self._frames, None)

    def close(self) -> None:
        self._frames.close()
        self._container.close()


def _preferred(streams: Sequence[av.AudioStream]) -> av.AudioStream:
    """The sound track that players choose: the default one, else the first; of those with a codec known here."""
    known = [stream for stream in streams if stream.codec_context and stream.codec_context.name in CODECS] or streams
    marked = [stream for stream in known if stream.disposition & av.stream.Disposition.default]
    return (marked or known)[0]


def _to_block(frame: av.AudioFrame) -> Block:
    """Any sample format to (frames, channels) float32; integers become ±1 by their width, as libsndfile does it."""
    samples = frame.to_ndarray()
    by_frame = samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)
    with np.errstate(over="ignore"):  # doubles beyond float32 become infinite, and are refused as that
        block = by_frame.astype(np.float32)
    if samples.dtype == np.uint8:
        return block / np.float32(128) - np.float32(1)
    if np.issubdtype(samples.dtype, np.integer):
        return block / np.float32(2 ** (8 * samples.dtype.itemsize - 1))
    return block


def _tells_its_length(data: bytes, container: str) -> bool:
    if container == "mp3":
        start = _after_id3(data) if data[:3] == b"ID3" else 0
        return any(mark in data[start : start + COUNTED_WITHIN_BYTES] for mark in COUNTED_FRAMES)
    return container != "aac"


Reader = SoundFileReader | AvReader


def open_sound(data: bytes, container: str) -> Reader:
    """The first reader that accepts ``data``. Raises ``AudioError`` when none does."""
    if container in LIBSNDFILE and not (container == "ogg" and _ogg_goes_on(data)):
        try:
            return SoundFileReader(data, container)
        except soundfile.LibsndfileError:
            pass  # a wav may hold codecs that only FFmpeg knows
    try:
        return AvReader(data, container)
    except (av.error.FFmpegError, ValueError) as exc:
        raise AudioError(_only_starts_like(container, _reason(exc)), code="corrupt") from exc


def _only_starts_like(container: str, reason: str) -> str:
    return (
        f"Expected a readable {container} file, got one that only starts like it ({reason}). "
        "It may be damaged or incomplete: export or record it again."
    )


def _reason(exc: Exception) -> str:
    return getattr(exc, "strerror", None) or type(exc).__name__
