import io
import struct
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from core.audio import decode
from core.config import Limits
from core.containers import (
    BLOCK_FRAMES,
    DEMUXERS,
    AvReader,
    Header,
    SoundFileReader,
    ends_early,
    open_sound,
    read_wav_header,
    sniff,
)
from core.errors import AudioError

RATE = 48_000


def noise(duration_s: float = 1.0, channels: int = 1) -> np.ndarray:
    shape = round(RATE * duration_s), channels
    return np.random.default_rng(0).uniform(-0.3, 0.3, shape).astype(np.float32)


def by_soundfile(sound: np.ndarray, kind: str, subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, RATE, format=kind, subtype=subtype)
    return buffer.getvalue()


def by_av(sound: np.ndarray, container: str, codec: str, *, film: bool = False) -> bytes:
    """A file of one sound track, beside a film if asked; in packets of the codec's own size, or 1024 frames."""
    buffer = io.BytesIO()
    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[sound.shape[1]]
    with av.open(buffer, "w", format=container) as out:
        if film:
            video = out.add_stream("mpeg4", rate=10)
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        stream = out.add_stream(codec, rate=RATE, layout=layout)
        size = stream.codec_context.frame_size or 1_024
        fit = av.AudioResampler(format=stream.codec_context.format, layout=layout, rate=RATE, frame_size=size)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound).reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate = RATE
        for part in [*fit.resample(frame), *fit.resample(None)]:
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
        if film:
            out.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
            out.mux(video.encode(None))
    return buffer.getvalue()


def id3(size: int) -> bytes:
    return b"ID3\x04\0\0" + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127]) + bytes(size)


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


FMT = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 2, 22_050, 88_200, 4, 16))


# What a file is


@pytest.mark.parametrize(
    ("start", "container"),
    [
        (b"RIFF\0\0\0\0WAVEfmt ", "wav"),
        (b"RF64\xff\xff\xff\xffWAVEds64", "wav"),
        (b"RIFX\0\0\0\0WAVEfmt ", "wav"),
        (b"FORM\0\0\0\0AIFFCOMM", "aiff"),
        (b"FORM\0\0\0\0AIFCCOMM", "aiff"),
        (b"\0\0\0\x1cftypM4A ", "mp4"),
        (b"fLaC", "flac"),
        (b"OggS", "ogg"),
        (b"caff", "caf"),
        (b".snd", "au"),
        (b"\x1a\x45\xdf\xa3", "webm"),
        (b"\xff\xfb\x90\x64", "mp3"),  # MPEG-1 layer III, 128 kb/s
        (b"\xff\xf3\x40\xc4", "mp3"),  # MPEG-2 layer III
        (b"\xff\xfd\x84\x00", "mp3"),  # MPEG-1 layer II
        (b"\xff\xf1\x50\x80", "aac"),
        (b"\xff\xf9\x4c\x80", "aac"),
        (id3(300) + b"fLaC", "flac"),
        (id3(300) + b"\xff\xf1\x50\x80", "aac"),
        (id3(300) + b"\xff\xfb\x90\x64", "mp3"),
        (b"ID3", "mp3"),
    ],
)
def test_a_container_is_known_by_its_first_bytes(start: bytes, container: str) -> None:
    assert sniff(start) == container
    assert container in DEMUXERS


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"\xff",
        b"\xff\xfb",
        b"RIFF\0\0\0\0AVI LIST",
        b"RIFF\0\0\0\0WEBPVP8 ",
        b"\xff\xd8\xff\xe0\0\x10JFIF",
        "\ufefftext".encode("utf-16-le"),  # its byte order mark looks like MPEG layer I
        b"\xff\xff\xff\xff",
        b"\xff\xfb\xf0\x00",  # no such bit rate
        b"\xff\xf1\xff\xff",  # no such sample rate
        b"#EXTM3U\n",
        b"<svg xmlns",
        b"<!DOCTYPE html>",
        b"%PDF-1.7",
        b"PK\x03\x04",
        b"\x7fELF",
    ],
)
def test_what_is_no_sound_has_no_container(start: bytes) -> None:
    assert sniff(start) is None


def test_no_bytes_trouble_the_readers_of_first_bytes() -> None:
    rng = np.random.default_rng(0)
    starts = [b"", b"RIFF\0\0\0\0WAVE", b"RF64\0\0\0\0WAVEds64", b"ID3", b"\xff", b"FORM\0\0\0\0AIFF", b".snd", b"OggS"]
    for number in range(4_000):
        data = starts[number % len(starts)] + rng.bytes(int(rng.integers(0, 60)))
        container = sniff(data)
        assert container is None or container in DEMUXERS
        read_wav_header(data)
        for each in DEMUXERS:
            ends_early(data, each)


# A wav's header


def test_a_wav_header_is_found_behind_other_chunks_of_odd_size() -> None:
    data = b"RIFF\0\0\0\0WAVE" + chunk(b"JUNK", b"odd") + FMT + chunk(b"LIST", b"x" * 7) + chunk(b"data", bytes(8))
    assert read_wav_header(data) == Header("wav", "wave_format_0x0001", 22_050, 2)


def test_a_big_endian_wav_header_is_read_in_its_order() -> None:
    fmt = struct.pack(">HHIIHH", 1, 6, 96_000, 1_152_000, 12, 16)
    data = b"RIFX\0\0\0\0WAVEfmt " + struct.pack(">I", 16) + fmt + b"data" + struct.pack(">I", 99)
    assert read_wav_header(data) == Header("wav", "wave_format_0x0001", 96_000, 6, truncated=True)


@pytest.mark.parametrize("size", [0, 0x7FFF_F000, 0x7FFF_FFD3, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
def test_sizes_that_streaming_writers_leave_behind_promise_nothing(size: int) -> None:
    data = b"RIFF\0\0\0\0WAVE" + FMT + b"data" + struct.pack("<I", size) + bytes(range(1, 41))
    header = read_wav_header(data)
    assert header is not None
    assert not header.truncated


@pytest.mark.parametrize(("claimed", "truncated"), [(40, False), (44, True), (2**33, True)])
def test_the_64_bit_size_of_an_rf64_counts(claimed: int, truncated: bool) -> None:
    sizes = chunk(b"ds64", struct.pack("<QQQI", claimed + 80, claimed, claimed // 4, 0))
    data = b"RF64\xff\xff\xff\xffWAVE" + sizes + FMT + b"data\xff\xff\xff\xff" + bytes(40)
    header = read_wav_header(data)
    assert header is not None
    assert header.truncated == truncated


# Where a file stops


@pytest.mark.parametrize("kind", ["WAV", "RF64", "AIFF", "AU", "OGG"])
def test_a_whole_file_does_not_end_early_and_one_without_its_last_bytes_does(kind: str) -> None:
    data = by_soundfile(noise(), kind)
    container = sniff(data)
    assert container is not None
    assert not ends_early(data, container)
    assert ends_early(data[:-40], container)
    assert decode(data[:-4_000]).source.truncated


def test_a_tag_behind_a_flac_is_no_damage() -> None:
    wave = decode(by_soundfile(noise(), "FLAC") + b"TAG" + bytes(125))
    assert wave.duration_s == 1
    assert not wave.source.truncated


@pytest.mark.parametrize("kind", ["FLAC", "MP3"])
def test_of_a_cut_stream_all_but_the_last_tenth_of_a_second_is_heard(kind: str) -> None:
    data = by_soundfile(noise(4), kind)
    half = decode(data[: len(data) // 2])
    assert half.source.truncated
    assert half.duration_s == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize(("container", "codec"), [("adts", "aac"), ("mp3", "libmp3lame"), ("webm", "libopus")])
def test_a_damaged_packet_costs_itself_and_not_what_follows(container: str, codec: str) -> None:
    data = bytearray(by_av(noise(4), container, codec))
    middle = len(data) // 2
    data[middle : middle + 60] = bytes(60)
    assert decode(bytes(data)).duration_s == pytest.approx(4, abs=0.2)


def test_a_cut_m4a_without_its_table_of_contents_is_corrupt() -> None:
    data = by_av(noise(), "ipod", "aac")
    with pytest.raises(AudioError, match=r"Expected a readable mp4 file, got one that only starts like it .* again\.$"):
        decode(data[: len(data) * 9 // 10])


# What is read


@pytest.mark.parametrize(
    ("container", "codec", "name"),
    [
        ("mov", "alac", "alac"),
        ("ipod", "aac", "aac"),
        ("webm", "libopus", "opus"),
        ("matroska", "pcm_s16le", "pcm_s16le"),
    ],
)
def test_the_codec_has_its_usual_name(container: str, codec: str, name: str) -> None:
    assert decode(by_av(noise(channels=2), container, codec)).source.codec == name


def test_lossless_codecs_give_back_the_samples() -> None:
    sound = noise(channels=2)
    for data in (
        by_soundfile(sound, "FLAC", "PCM_24"),
        by_soundfile(sound, "WAV", "PCM_32"),
        by_soundfile(sound, "RF64", "DOUBLE"),
        by_av(sound, "matroska", "pcm_f32le"),
        by_av(sound, "mov", "alac"),
    ):
        container = sniff(data)
        assert container is not None
        with closing(open_sound(data, container)) as reader:
            read = np.concatenate(list(reader.blocks()))
        np.testing.assert_allclose(read, sound, atol=2**-15)


@pytest.mark.parametrize("container", ["id3 before aac", "id3 before flac"])
def test_a_tag_before_a_stream_is_passed_over(container: str) -> None:
    data = by_av(noise(), "adts", "aac") if container.endswith("aac") else by_soundfile(noise(), "FLAC")
    wave = decode(id3(5_000) + data)
    assert wave.source.container == container.split()[-1]
    assert wave.duration_s == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3"])
def test_blocks_are_large_however_small_the_packets(kind: str) -> None:
    data = by_soundfile(noise(5), kind)
    container = sniff(data)
    assert container is not None
    with closing(open_sound(data, container)) as reader:
        sizes = [len(block) for block in reader.blocks()]
    assert len(sizes) == 4
    assert all(BLOCK_FRAMES <= size < 1.1 * BLOCK_FRAMES for size in sizes[:-1])


def test_each_container_has_its_reader() -> None:
    with closing(open_sound(by_soundfile(noise(), "FLAC"), "flac")) as reader:
        assert isinstance(reader, SoundFileReader)
    with closing(open_sound(by_soundfile(noise(), "MP3"), "mp3")) as reader:
        assert isinstance(reader, AvReader)
    with closing(open_sound(by_av(noise(), "wav", "ac3"), "wav")) as reader:  # libsndfile has no AC-3
        assert isinstance(reader, AvReader)


@pytest.mark.parametrize("channels", [2, 6, 8])
@pytest.mark.parametrize(("container", "codec"), [("ipod", "aac"), ("webm", "libopus"), ("matroska", "pcm_f32le")])
def test_every_channel_is_read_of_planar_frames_too(container: str, codec: str, channels: int) -> None:
    """Eight planes crashed the process: PyAV looks for the end of their list in the memory behind it."""
    seconds = np.arange(RATE) / RATE
    tones = 0.3 * np.sin(2 * np.pi * 500 * np.arange(1, channels + 1) * seconds[:, None])
    if channels > 2:
        tones[:, 3] = 0  # the low-frequency channel passes none of them
    data = by_av(tones.astype(np.float32), container, codec)
    wave = decode(data)
    assert wave.source.channels == channels
    spectrum = np.abs(np.fft.rfft(wave.samples[:32_000]))
    levels = spectrum[500 * np.arange(1, channels + 1)] / (16_000 * 0.3 / channels)
    expected = np.where(np.any(tones, axis=0), 1, 0)
    np.testing.assert_allclose(levels, expected, atol=0.15)


def test_a_films_sound_is_read_and_its_pictures_are_not_decoded() -> None:
    data = by_av(noise(), "mp4", "aac", film=True)
    with closing(AvReader(data, "mp4")) as reader:
        video = reader._container.streams.video[0]
        assert video.codec_context.pix_fmt is None  # known only to who decodes one
    assert decode(data).duration_s == pytest.approx(1, abs=0.06)


def test_an_unknown_codec_is_named_as_such() -> None:
    data = by_av(noise(), "matroska", "pcm_s16le").replace(b"A_PCM/INT/LIT", b"A_XYZ/INT/LIT")
    with pytest.raises(AudioError, match=r"Expected a usual codec .* got an unknown one.* Export it again") as caught:
        decode(data)
    assert caught.value.code == "unknown_codec"


# What must never happen


PLAYLISTS: dict[str, Callable[[Path], str]] = {
    "m3u8": lambda path: f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n",
    "concat": lambda path: f"ffconcat version 1.0\nfile '{path}'\n",
    "svg": lambda path: f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{path}"/></svg>',
    "html": lambda path: f'<!DOCTYPE html><html><audio src="file://{path}"></audio></html>',
    "mpd": lambda path: f'<?xml version="1.0"?><MPD><BaseURL>file://{path}</BaseURL></MPD>',
    "sdp": lambda path: f"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\na={path}\n",
}
DISGUISES = [
    b"",
    b"RIFF\0\0\0\0WAVE",
    b"ID3\x04\0\0\0\0\0\0",
    b"fLaC",
    b"OggS",
    b"\xff\xfb\x90\x64",
    b"\xff\xf1\x50\x80",
    b"\0\0\0\x18ftypM4A ",
    b"\x1a\x45\xdf\xa3",
    b"FORM\0\0\0\0AIFF",
    b"caff",
    b".snd",
]


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_never_leads_to_another_file_whatever_it_starts_with(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "secret.wav"
    path.write_bytes(by_soundfile(noise(), "WAV"))
    text = PLAYLISTS[kind](path).encode()
    for disguise in DISGUISES:
        with pytest.raises(AudioError):
            decode(disguise + text)


def test_ffmpeg_is_never_left_to_guess_the_format(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    whole = av.open

    def spy(*args: object, **kwargs: object) -> object:
        asked.append(kwargs)
        return whole(*args, **kwargs)

    monkeypatch.setattr(av, "open", spy)
    decode(by_soundfile(noise(), "MP3"))
    assert [kwargs["format"] for kwargs in asked] == ["mp3"]
    assert asked[0]["options"]["protocol_whitelist"] == "none"


def test_packets_beyond_all_reason_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.containers.MOST_PACKETS", 50)
    wave = decode(by_av(noise(2), "adts", "aac"))
    assert wave.duration_s == pytest.approx(50 * 1_024 / RATE, abs=1e-4)
    assert wave.source.truncated


def test_rubbish_packets_are_passed_over_only_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.containers.MOST_BAD_PACKETS", 0)
    data = bytearray(by_av(noise(4), "webm", "libopus"))
    for place in range(len(data) // 2, len(data) // 2 + 2_000, 50):
        data[place : place + 10] = b"\xff" * 10
    wave = decode(bytes(data))
    assert wave.duration_s < 3.9
    assert wave.source.truncated


@pytest.mark.parametrize(
    ("codec", "step"),
    [
        ("pcm_u8", 2**-7),
        ("pcm_s16le", 2**-15),
        ("pcm_s24le", 2**-23),
        ("pcm_s32le", 2**-24),
        ("pcm_f32le", 2**-24),
        ("pcm_f64le", 2**-24),
    ],
)
def test_every_sample_format_of_ffmpeg_has_full_scale_at_one(codec: str, step: float) -> None:
    sound = noise(channels=2)
    with closing(AvReader(by_av(sound, "wav", codec), "wav")) as reader:
        np.testing.assert_allclose(np.concatenate(list(reader.blocks())), sound, atol=1.01 * step)


def test_doubles_that_no_float_holds_are_refused() -> None:
    data = by_av(noise(), "wav", "pcm_f64le")
    start = data.index(b"data") + 8
    huge = np.frombuffer(data[start : start + 8 * RATE], dtype="<f8") * 1e300
    with closing(AvReader(data[:start] + huge.tobytes(), "wav")) as reader:
        assert not np.isfinite(np.concatenate(list(reader.blocks()))).all()


@pytest.mark.parametrize("start", [disguise for disguise in DISGUISES if disguise])
def test_megabytes_of_rubbish_behind_a_good_start_are_soon_refused(start: bytes) -> None:
    began = time.perf_counter()
    with pytest.raises(AudioError):
        decode(start + np.random.default_rng(0).bytes(4_000_000))
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_every_stream_of_a_chained_ogg_is_heard(subtype: str) -> None:
    """Recordings of radio hold one stream a title."""
    both = by_soundfile(noise(2.0), "OGG", subtype) + by_soundfile(noise(3.0), "OGG", subtype)
    wave = decode(both)
    assert wave.duration_s == pytest.approx(5.0, abs=0.05)
    assert not wave.source.truncated


def test_a_wav_whose_size_was_never_completed_is_told_as_incomplete() -> None:
    whole = by_soundfile(noise(2.0), "WAV", "PCM_16")
    header = read_wav_header(whole)
    assert header is not None
    assert not header.truncated
    at = whole.index(b"data") + 4
    stale = whole[:at] + struct.pack("<I", RATE) + whole[at + 4 :]
    wave = decode(stale)
    assert wave.duration_s == pytest.approx(0.5)
    assert wave.source.truncated
    assert not decode(whole + chunk(b"LIST", b"INFOabcd")).source.truncated


def test_an_mp3_that_does_not_begin_with_a_frame_is_one() -> None:
    whole = by_av(noise(3.0), "mp3", "mp3")
    for cut in (b"\0" + whole, bytes(500) + whole, whole[5_000:]):
        assert sniff(cut) == "mp3"
        assert decode(cut).duration_s > 1
    rng = np.random.default_rng(0)
    assert [sniff(b"\0" + rng.bytes(20_000)) for _ in range(50)] == [None] * 50


def film(*, sound_s: float, picture_s: float, begins_s: float = 0.0) -> bytes:
    """Matroska with a picture: it states one length, of the longer of the two."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        sound, picture = out.add_stream("flac", rate=RATE), out.add_stream("mjpeg", rate=5)
        assert isinstance(sound, av.AudioStream)
        assert isinstance(picture, av.VideoStream)
        picture.width, picture.height, picture.pix_fmt = 32, 32, "yuvj420p"
        sound.layout = "mono"
        samples = (noise(sound_s)[None] * 2**15).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, round(begins_s * RATE)
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
        for number in range(round(picture_s * 5)):
            still = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), dtype=np.uint8), format="rgb24")
            still.pts = number
            out.mux(picture.encode(still))
        out.mux(picture.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize(("sound_s", "picture_s", "begins_s"), [(2.0, 3.0, 0.0), (1.0, 4.0, 0.0), (1.0, 3.0, 2.0)])
def test_a_film_longer_than_its_sound_is_not_incomplete(sound_s: float, picture_s: float, begins_s: float) -> None:
    wave = decode(film(sound_s=sound_s, picture_s=picture_s, begins_s=begins_s))
    assert wave.duration_s == pytest.approx(sound_s, abs=0.01)
    assert not wave.source.truncated


def test_a_film_longer_than_the_limit_is_heard_where_its_sound_is_not() -> None:
    assert decode(film(sound_s=1.0, picture_s=4.0), limits=Limits(max_duration_s=2)).duration_s == pytest.approx(1.0)
