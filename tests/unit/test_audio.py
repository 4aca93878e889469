import contextlib
import io
import itertools
import re
import struct
import time
import tracemalloc
from collections.abc import Callable

import av
import numpy as np
import pytest
import soundfile
import soxr

from core.audio import Waveform, decode, window_spans, write_wav
from core.config import AudioConfig, Limits
from core.containers import BLOCK_FRAMES, sniff
from core.errors import AudioError, LimitError

AUDIO = AudioConfig()
RATE = AUDIO.sample_rate_hz
TONE_HZ, PEAK = 440.0, 0.5


def tone(rate: int, duration_s: float = 1.0, channels: int = 1) -> np.ndarray:
    one = PEAK * np.sin(2 * np.pi * TONE_HZ * np.arange(round(rate * duration_s)) / rate)
    return np.repeat(one[:, None], channels, axis=1).astype(np.float32)


def noise(rate: int, duration_s: float) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (round(rate * duration_s), 1)).astype(np.float32)


def by_soundfile(sound: np.ndarray, rate: int, format: str, subtype: str | None = None) -> bytes:  # noqa: A002
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, rate, format=format, subtype=subtype)
    return buffer.getvalue()


def by_av(sound: np.ndarray, rate: int, container: str, codec: str, **options: str) -> bytes:
    buffer = io.BytesIO()
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[sound.shape[1]]
    with av.open(buffer, "w", format=container, options=options) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.T), format="fltp", layout=layout)
        frame.sample_rate = rate
        context = stream.codec_context
        fit = av.AudioResampler(format=context.format, layout=layout, rate=rate, frame_size=context.frame_size or None)
        for part in [*fit.resample(frame), *fit.resample(None)]:
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def assert_is_the_tone(wave: Waveform, *, duration_s: float = 1.0, level_db: float = 0.5) -> None:
    assert wave.samples.dtype == np.float32
    assert wave.sample_rate_hz == RATE
    assert wave.duration_s == pytest.approx(duration_s, abs=0.06)  # codecs pad
    middle = wave.samples[wave.samples.size // 4 : 3 * wave.samples.size // 4]
    rms = float(np.sqrt(np.mean(middle.astype(np.float64) ** 2)))
    assert 20 * np.log10(rms / (PEAK / np.sqrt(2))) == pytest.approx(0, abs=level_db)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(middle.size)))
    assert np.argmax(spectrum) * RATE / middle.size == pytest.approx(TONE_HZ, abs=4)


def failure(data: bytes, **limits: float) -> AudioError:
    with pytest.raises(AudioError) as caught:
        decode(data, limits=Limits(**limits))  # type: ignore[arg-type]
    return caught.value


# What is accepted


@pytest.mark.parametrize(
    ("format", "subtype"),
    [
        ("WAV", "PCM_U8"), ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_32"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"),
        ("WAV", "ULAW"), ("WAV", "ALAW"), ("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("FLAC", "PCM_16"),
        ("FLAC", "PCM_24"), ("WAVEX", "PCM_24"), ("WAVEX", "FLOAT"), ("WAV", "MS_ADPCM"), ("WAV", "IMA_ADPCM"),
        ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"), ("CAF", "PCM_16"), ("AU", "PCM_16"),
    ],
)  # fmt: skip
def test_what_libsndfile_writes_is_read(format: str, subtype: str) -> None:  # noqa: A002
    assert_is_the_tone(decode(by_soundfile(tone(44_100), 44_100, format, subtype)))


@pytest.mark.parametrize(
    ("container", "codec", "rate", "name"),
    [
        ("ipod", "aac", 44_100, "mp4"),
        ("mp4", "aac", 48_000, "mp4"),
        ("adts", "aac", 44_100, "aac"),
        ("webm", "libopus", 48_000, "webm"),
        ("matroska", "pcm_s16le", 22_050, "webm"),
        ("ogg", "libopus", 48_000, "ogg"),
        ("mp3", "libmp3lame", 32_000, "mp3"),
        ("wav", "adpcm_ms", 44_100, "wav"),
        ("mov", "alac", 96_000, "mp4"),
        ("ipod", "aac", 32_000, "mp4"),
        ("webm", "libopus", 16_000, "webm"),
        ("matroska", "pcm_f32le", 192_000, "webm"),
    ],
)
def test_what_ffmpeg_writes_is_read(container: str, codec: str, rate: int, name: str) -> None:
    data = by_av(tone(rate), rate, container, codec)
    assert sniff(data) == name
    wave = decode(data)
    assert_is_the_tone(wave)
    assert wave.source.container == name
    assert wave.source.sample_rate_hz == (48_000 if codec == "libopus" else rate)


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_opus_of_libsndfile_is_read(rate: int) -> None:
    assert_is_the_tone(decode(by_soundfile(tone(rate), rate, "OGG", "OPUS")))


@pytest.mark.parametrize(("kind", "most"), [("FLAC", 8), ("OGG", 8), ("WAVEX", 8), ("MP3", 2)])
def test_compressed_channels_are_averaged(kind: str, most: int) -> None:
    for channels in range(1, most + 1):
        assert decode(by_soundfile(tone(44_100, 0.5, channels), 44_100, kind)).source.channels == channels


@pytest.mark.parametrize(
    "rate", [1_000, 8_000, 11_025, 16_000, 22_050, 44_100, 44_101, 48_000, 96_000, 192_000, 768_000]
)
def test_any_sample_rate_comes_out_at_the_models(rate: int) -> None:
    assert_is_the_tone(decode(by_soundfile(tone(rate), rate, "WAV", "PCM_16")))


@pytest.mark.parametrize("seconds", ["", "0.2"])
def test_a_phones_m4a_in_fragments_without_a_length_is_read(seconds: str) -> None:
    options = {"movflags": "+empty_moov+default_base_moof+frag_keyframe"}
    if seconds:
        options["frag_duration"] = f"{float(seconds) * 1e6:.0f}"
    wave = decode(by_av(tone(48_000, 3), 48_000, "mp4", "aac", **options))
    assert_is_the_tone(wave, duration_s=3)
    assert not wave.source.truncated


@pytest.mark.parametrize("channels", [1, 2, 6, 8, 32])
def test_channels_are_averaged(channels: int) -> None:
    sound = tone(44_100, channels=channels)
    wave = decode(by_soundfile(sound, 44_100, "WAV", "FLOAT"))
    assert_is_the_tone(wave)
    assert wave.source.channels == channels


def test_a_browsers_recording_without_a_length_is_read() -> None:
    data = by_av(tone(48_000), 48_000, "webm", "libopus", live="1")
    assert_is_the_tone(decode(data))


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_a_wav_written_to_a_pipe_is_whole(size: int) -> None:
    data = bytearray(by_soundfile(tone(44_100), 44_100, "WAV", "PCM_16"))
    at = data.index(b"data")
    data[at + 4 : at + 8] = struct.pack("<I", size)
    data[4:8] = struct.pack("<I", size)
    wave = decode(bytes(data))
    assert_is_the_tone(wave)
    assert not wave.source.truncated


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000])
def test_resampling_block_by_block_equals_resampling_at_once(rate: int) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 300_001).astype(np.float32)
    wave = decode(by_soundfile(sound, rate, "WAV", "FLOAT"))
    expected = soxr.resample(sound, rate, RATE, quality="HQ")
    assert wave.samples.size == expected.size == pytest.approx(sound.size * RATE / rate, abs=1)
    np.testing.assert_allclose(wave.samples, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["MP3", "OGG", "FLAC"])
def test_a_longer_sound_has_no_seams_between_blocks(kind: str) -> None:
    wave = decode(by_soundfile(tone(44_100, 7), 44_100, kind))
    inside = wave.samples[RATE : 6 * RATE].astype(np.float64)
    time_s = np.arange(inside.size) / RATE
    basis = np.stack([np.sin(2 * np.pi * TONE_HZ * time_s), np.cos(2 * np.pi * TONE_HZ * time_s)], axis=1)
    amplitude, *_ = np.linalg.lstsq(basis, inside, rcond=None)
    rest = inside - basis @ amplitude
    assert 10 * np.log10(np.mean(rest**2) / np.mean(inside**2)) < -30  # dB under the tone: no gaps, no repeats


def test_at_the_models_own_rate_samples_are_untouched() -> None:
    sound = tone(RATE)[:, 0]
    np.testing.assert_array_equal(decode(by_soundfile(sound, RATE, "WAV", "FLOAT")).samples, sound)


# What is noted about it


def test_clipped_runs_are_counted_across_block_borders() -> None:
    sound = np.zeros((140_000, 2), dtype=np.float32)
    sound[BLOCK_FRAMES - 6 : BLOCK_FRAMES + 9, 1] = 1.0
    sound[100:103, 0] = -1.0
    source = decode(by_soundfile(sound, 44_100, "WAV", "FLOAT")).source
    assert source.longest_clipped_run == 15
    assert source.peak == 1.0


@pytest.mark.parametrize("value", [0.9989, 0.9991])
def test_a_sample_counts_as_clipped_from_a_thousandth_under_full_scale(value: float) -> None:
    sound = np.full(44_100, -value, dtype=np.float32)
    source = decode(by_soundfile(sound, 44_100, "WAV", "FLOAT")).source
    assert source.longest_clipped_run == (44_100 if value > 0.999 else 0)


def test_floats_above_full_scale_are_clipped_only_where_their_tops_are_flat() -> None:
    wave = 2 * np.sin(np.linspace(0, 400, 44_100)).astype(np.float32)
    for subtype in ("FLOAT", "DOUBLE"):
        whole = decode(by_soundfile(wave[:, None], 44_100, "WAV", subtype)).source
        cut = decode(by_soundfile(np.clip(wave, -1.5, 1.5)[:, None], 44_100, "WAV", subtype)).source
        assert whole.longest_clipped_run <= 2
        assert cut.longest_clipped_run > 20


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW", "PCM_U8", "PCM_16"])
def test_clipping_is_seen_at_the_end_of_every_coding(subtype: str) -> None:
    """The largest number of µ-law is 0.980 of full scale, that of A-law 0.984, and of 8 bits 0.992."""
    tone = np.sin(np.linspace(0, 400, 44_100))[:, None].astype(np.float32)
    cut = decode(by_soundfile(np.clip(3 * tone, -1, 1), 44_100, "WAV", subtype)).source
    assert cut.longest_clipped_run > 20
    assert decode(by_soundfile(0.9 * tone, 44_100, "WAV", subtype)).source.longest_clipped_run == 0


def test_clipped_samples_apart_or_in_different_channels_are_not_a_run() -> None:
    sound = np.zeros((44_100, 2), dtype=np.float32)
    sound[100:200:2, 0] = sound[101:200:2, 1] = 1.0
    sound[BLOCK_FRAMES % 44_100 - 1] = 1.0
    assert decode(by_soundfile(sound, 44_100, "WAV", "PCM_16")).source.longest_clipped_run == 1


def test_the_waveform_is_the_mean_of_the_channels() -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, (100_000, 5)).astype(np.float32)
    wave = decode(by_soundfile(sound, RATE, "WAV", "FLOAT"))
    np.testing.assert_allclose(wave.samples, sound.mean(axis=1), atol=1e-6)
    assert wave.source.peak == np.abs(sound).max()


@pytest.mark.parametrize("channels", [2, 4, 8])
def test_unrelated_channels_lose_what_chance_takes_and_so_does_one_alone(channels: int) -> None:
    unrelated = np.random.default_rng(0).normal(0, 0.1, (100_000, channels)).astype(np.float32)
    alone = unrelated.copy()
    alone[:, 1:] = 0
    for sound in (unrelated, alone):
        source = decode(by_soundfile(sound, 44_100, "WAV", "FLOAT")).source
        assert source.downmix_loss_db == pytest.approx(10 * np.log10(channels), abs=0.1)


def test_a_float_file_may_go_over_full_scale() -> None:
    sound = 30_000 * tone(RATE)[:, 0]
    wave = decode(by_soundfile(sound, RATE, "WAV", "FLOAT"))
    np.testing.assert_array_equal(wave.samples, sound)
    assert wave.source.peak == pytest.approx(15_000, rel=1e-3)


def test_channels_that_cancel_are_noticed_and_equal_ones_lose_nothing() -> None:
    mono = tone(44_100)
    against = decode(by_soundfile(np.hstack([mono, -mono]), 44_100, "WAV", "PCM_16")).source
    together = decode(by_soundfile(np.hstack([mono, mono]), 44_100, "WAV", "PCM_16")).source
    assert against.downmix_loss_db > 60
    assert together.downmix_loss_db == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    "data",
    [
        by_soundfile(tone(44_100, 2), 44_100, "WAV", "PCM_16"),
        by_soundfile(noise(44_100, 2), 44_100, "FLAC"),
        by_soundfile(noise(44_100, 2), 44_100, "OGG"),
        by_av(tone(44_100, 2), 44_100, "ipod", "aac", movflags="+empty_moov+default_base_moof", frag_duration="200000"),
    ],
    ids=["wav", "flac", "ogg", "m4a"],
)
def test_a_file_cut_in_half_gives_its_first_half_and_says_so(data: bytes) -> None:
    assert not decode(data).source.truncated
    half = decode(data[: len(data) // 2])
    assert half.source.truncated
    assert 0.4 < half.duration_s < 1.6


# What is refused


def header(rate: int = 44_100, channels: int = 1, data_bytes: int = 0) -> bytes:
    block = channels * 2
    fmt = struct.pack("<HHIIHH", 1, channels, rate, (rate * block) & 0xFFFFFFFF, block & 0xFFFF, 16)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + data_bytes)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + fmt
        + b"data"
        + struct.pack("<I", data_bytes)
    )


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (b"", "empty_file", r"got an empty one \(0 bytes\)"),
        (b"Dear Sir or Madam, this is not a sound. " * 9, "not_audio", "got text"),
        (b"%PDF-1.7 and so on", "not_audio", "a PDF"),
        (b"PK\x03\x04" + b"\0" * 90, "not_audio", "a zip archive"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 90, "not_audio", "a picture"),
        (b"\x93\x01\x02" * 50, "not_audio", "150 bytes of another kind"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/passwd\n", "not_audio", "got text"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "not_audio", "got text"),
        (header(), "no_samples", "a header and no samples"),
        (header(data_bytes=2**31), "no_samples", "a header and no samples"),
        (header(rate=0) + b"\0" * 99, "bad_sample_rate", r"says 0 Hz"),
        (header(rate=4_000_000_000) + b"\0" * 99, "bad_sample_rate", r"says 4,000,000,000 Hz"),
        (header(channels=64) + b"\0" * 9_000, "too_many_channels", "says 64"),
        (header(channels=0) + b"\0" * 9_000, "corrupt", "says 0"),
        (b"ID3" + b"\0" * 5, "corrupt", "mp3"),
        (b"fLaC" + b"\0" * 300, "corrupt", "flac"),
        (b"OggS" + b"\0" * 300, "corrupt", "ogg"),
        (b"\0\0\0\x20ftypM4A " + b"\0" * 300, "corrupt", "mp4"),
        (b"\x1a\x45\xdf\xa3" + b"\0" * 300, "corrupt", "webm"),
        (b"RIFF\x24\0\0\0WAVE", "corrupt", "wav"),
    ],
)  # fmt: skip
def test_what_is_not_a_usable_sound_is_told_by_what_it_is(data: bytes, code: str, says: str) -> None:
    error = failure(data)
    assert error.code == code, str(error)
    assert re.search(says, str(error)), str(error)
    assert str(error).startswith("Expected")
    assert re.search(r"\b(got|says|holds|but its sound)\b", str(error)), str(error)
    assert re.search(r"(again|first|recording)[^.]*\.$", str(error)), str(error)


@pytest.mark.parametrize("samples", [1, 1_323])
def test_too_short_a_sound_says_how_short(samples: int) -> None:
    error = failure(by_soundfile(tone(44_100)[:samples], 44_100, "WAV"))
    assert error.code == "too_short"
    assert f"{samples:,} sample" in str(error)
    assert "Record a longer clip" in str(error)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers_are_refused_with_their_place(value: float) -> None:
    sound = tone(44_100, 2)
    sound[66_150] = value
    error = failure(by_soundfile(sound, 44_100, "WAV", "FLOAT"))
    assert error.code == "non_finite"
    assert "1.500 s" in str(error)


@pytest.mark.parametrize("channels", [1, 2])
def test_numbers_too_great_to_compute_with_are_refused(channels: int) -> None:
    error = failure(by_soundfile(2 * tone(44_100, channels=channels) * np.float32(3e38), 44_100, "WAV", "FLOAT"))
    assert error.code == "non_finite"


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "OGG", "AU"])
def test_a_file_of_no_length_holds_no_samples(kind: str) -> None:
    error = failure(by_soundfile(np.zeros(0, dtype=np.float32), 44_100, kind))
    assert error.code == "no_samples"
    assert "Record or export it again." in str(error)


def test_the_least_that_is_heard_is_a_quarter_second() -> None:
    assert decode(by_soundfile(tone(8_000)[:2_000], 8_000, "WAV")).duration_s == 0.25
    assert failure(by_soundfile(tone(8_000)[:1_999], 8_000, "WAV")).code == "too_short"


def test_silence_is_a_sound() -> None:
    wave = decode(by_soundfile(np.zeros(44_100), 44_100, "WAV"))
    assert not wave.samples.any()
    assert wave.source.downmix_loss_db == 0


def test_more_bytes_than_allowed_are_refused_before_anything_else() -> None:
    error = failure(b"RIFF" + b"\0" * 1_000, max_bytes=1_000)
    assert isinstance(error, LimitError)
    assert error.code == "too_many_bytes"
    assert "at most 1,000 bytes, got 1,004" in str(error)


def test_more_seconds_than_allowed_are_refused_by_the_header_alone() -> None:
    error = failure(by_soundfile(tone(8_000, 11), 8_000, "FLAC"), max_duration_s=10)
    assert error.code == "too_long"
    assert "at most 10 s of sound, the header says 11.0 s" in str(error)


def hours_of_silence(hours: float) -> bytes:
    return by_soundfile(np.zeros(round(hours * 3_600 * 8_000), dtype=np.int16), 8_000, "FLAC")


def test_a_flac_that_hides_its_length_is_stopped_on_the_way() -> None:
    data = bytearray(hours_of_silence(2))
    assert len(data) < 200_000
    data[8 + 13] &= 0xF0  # STREAMINFO's total number of samples, 36 bits, becomes 0: unknown
    data[8 + 14 : 8 + 18] = bytes(4)
    tracemalloc.start()
    error = failure(bytes(data))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error.code == "too_long"
    assert most < 200e6  # 600 s at the model's rate are 77 MB; two hours would be 900


def test_a_flac_of_many_channels_at_a_high_rate_is_refused_by_the_work_it_would_be() -> None:
    data = bytearray(by_soundfile(np.zeros((6_000, 8), dtype=np.int16), 600_000, "FLAC"))
    data[8 + 14 : 8 + 18] = struct.pack(">I", 36_000_000)  # STREAMINFO's total: a minute
    error = failure(bytes(data))
    assert isinstance(error, LimitError)
    assert error.code == "too_long"
    assert "at most 268,435,456 samples over all channels, the header says 288,000,000" in str(error)
    assert "(8 channels at 600,000 Hz). Mix it down or lower its sample rate." in str(error)


@pytest.mark.parametrize("by_ffmpeg", [False, True])
def test_a_long_sound_is_decoded_in_little_more_memory_than_its_answer_takes(by_ffmpeg: bool) -> None:
    silence = np.zeros((80 * 48_000, 2), dtype=np.float32)
    data = by_av(silence, 48_000, "webm", "libopus") if by_ffmpeg else by_soundfile(silence, 48_000, "OGG", "OPUS")
    assert len(data) < 100_000
    tracemalloc.start()
    wave = decode(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert wave.duration_s == pytest.approx(80, abs=0.1)
    assert most < 2 * wave.samples.nbytes + 4e6 < silence.nbytes  # the answer in parts and as a whole


def test_a_header_that_claims_a_day_takes_no_memory_by_its_claim() -> None:
    data = header(data_bytes=24 * 3_600 * 8_000) + np.full(44_100, 1_000, dtype="<i2").tobytes()
    tracemalloc.start()
    wave = decode(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert wave.duration_s == pytest.approx(1, abs=0.01)
    assert wave.source.truncated
    assert most < 20e6


def test_a_film_without_sound_has_no_audio_stream() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(5):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), dtype=np.uint8), format="rgb24")))
        out.mux(stream.encode(None))
    assert failure(buffer.getvalue()).code == "no_audio_stream"


def test_the_name_of_a_file_plays_no_part() -> None:
    flac = by_soundfile(tone(44_100), 44_100, "FLAC")
    assert decode(flac).source.container == "flac"  # whatever it was called, decode never learns


SEEDS: dict[str, Callable[[], bytes]] = {
    "wav": lambda: by_soundfile(tone(8_000), 8_000, "WAV"),
    "float": lambda: by_soundfile(tone(8_000), 8_000, "WAVEX", "FLOAT"),
    "flac": lambda: by_soundfile(tone(8_000), 8_000, "FLAC"),
    "ogg": lambda: by_soundfile(tone(8_000), 8_000, "OGG"),
    "opus": lambda: by_soundfile(tone(8_000), 8_000, "OGG", "OPUS"),
    "mp3": lambda: by_soundfile(tone(32_000), 32_000, "MP3"),
    "aiff": lambda: by_soundfile(tone(8_000), 8_000, "AIFF"),
    "aac": lambda: by_av(tone(32_000), 32_000, "adts", "aac"),
    "m4a": lambda: by_av(tone(32_000), 32_000, "ipod", "aac"),
    "mp4 in fragments": lambda: by_av(tone(32_000), 32_000, "mp4", "aac", movflags="+empty_moov+frag_keyframe"),
    "webm": lambda: by_av(tone(48_000), 48_000, "webm", "libopus"),
    "webm of a browser": lambda: by_av(tone(48_000), 48_000, "webm", "libopus", live="1"),
    "mka": lambda: by_av(tone(8_000), 8_000, "matroska", "pcm_s16le"),
}


def damage(whole: bytes, rng: np.random.Generator) -> bytes:
    """Change, cut and insert bytes: seven times in ten in the first 600, else anywhere."""
    data = bytearray(whole)
    for _ in range(int(rng.integers(1, 12))):
        place = int(rng.integers(0, min(len(data), 600) if rng.random() < 0.7 else len(data)))
        size = int(rng.integers(1, 40))
        match rng.integers(4):
            case 0:
                data[place] = int(rng.integers(256))
            case 1:
                del data[place : place + size]
            case 2:
                data[place:place] = rng.bytes(size)
            case _:
                data[place : place + 4] = bytes([rng.choice([0, 0x7F, 0x80, 0xFF])]) * 4
    return bytes(data)


@pytest.mark.parametrize("kind", SEEDS)
def test_no_damage_to_a_file_causes_anything_but_an_answer_or_an_audio_error(kind: str) -> None:
    whole, rng = SEEDS[kind](), np.random.default_rng(1)
    decode(whole)
    for _ in range(40):
        data, began = damage(whole, rng), time.perf_counter()
        with contextlib.suppress(AudioError):
            wave = decode(data)
            assert np.isfinite(wave.samples).all()
            assert wave.samples.size >= AUDIO.min_duration_s * RATE * 0.99
        assert time.perf_counter() - began < 5


@pytest.mark.parametrize("kind", SEEDS)
def test_a_file_cut_anywhere_is_answered_or_refused(kind: str) -> None:
    whole = SEEDS[kind]()
    for size in [*range(1, 100, 9), *np.linspace(100, len(whole) - 1, 12, dtype=int)]:
        with contextlib.suppress(AudioError):
            decode(whole[:size])


# Windows and players


@pytest.mark.parametrize("duration_s", [0.25, 5, 10])
def test_up_to_two_windows_of_sound_are_one_span(duration_s: float) -> None:
    samples = round(duration_s * RATE)
    assert window_spans(samples, AUDIO) == [(0, samples)]


@pytest.mark.parametrize("samples", [10 * RATE + 1, 11 * RATE, 12 * RATE + 7, 12 * RATE + RATE // 2, 600 * RATE])
def test_windows_cover_everything_and_end_with_the_sound(samples: int) -> None:
    spans = window_spans(samples, AUDIO)
    assert spans[0][0] == 0
    assert spans[-1][1] == samples
    assert {end - start for start, end in spans} == {5 * RATE}
    steps = np.diff([start for start, _ in spans])
    assert (steps[:-1] == AUDIO.hop_samples).all()
    assert 0 < steps[-1] <= AUDIO.hop_samples


def test_windows_of_any_length_and_hop_leave_nothing_out() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        window_s = float(rng.uniform(0.1, 6))
        audio = AudioConfig(sample_rate_hz=1_000, window_s=window_s, hop_s=float(rng.uniform(0.05, window_s)))
        samples = int(rng.integers(1, 60_000))
        spans = window_spans(samples, audio)
        assert spans[0][0] == 0
        assert spans[-1][1] == samples
        assert (len(spans) == 1) == (samples <= 2 * audio.window_samples)
        assert all(0 < after[0] - before[0] <= audio.hop_samples for before, after in itertools.pairwise(spans))
        assert all(after[0] <= before[1] for before, after in itertools.pairwise(spans))
        assert len(spans) == 1 or {end - start for start, end in spans} == {audio.window_samples}


def test_the_players_wav_is_the_same_sound() -> None:
    sound = tone(RATE)[:, 0]
    data, rate = soundfile.read(io.BytesIO(write_wav(sound, RATE)))
    assert rate == RATE
    np.testing.assert_allclose(data, sound, atol=1 / 32_000)


def test_a_peak_over_full_scale_does_not_wrap_round() -> None:
    data, _ = soundfile.read(io.BytesIO(write_wav(np.array([1.5, -1.5], dtype=np.float32), RATE)))
    assert data.tolist() == pytest.approx([1, -1], abs=1e-4)
