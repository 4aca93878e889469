"""The Classify page as a person uses it, by the text on it. Browser-only behaviour is in ``tests/browser``."""

import io
import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from streamlit.testing.v1 import AppTest

from app import state, words
from app.components import browser_format, result_json
from app.services.sounds import Sound
from core.classifier import Classifier
from core.explain import explain
from core.figures.picture import result_picture
from core.records import Prediction, SourceFacts
from core.training.runs import RunFolder

OpenApp = Callable[..., AppTest]
RATE_HZ = 44_100


def file_of(samples: np.ndarray, *, rate_hz: int = RATE_HZ, kind: str = "WAV", subtype: str | None = "PCM_16") -> bytes:
    """``samples`` (N,) or (N, channels) as a sound file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=kind, subtype=subtype)
    return file.getvalue()


def noise(duration_s: float, *, level: float = 0.1, channels: int = 1) -> np.ndarray:
    shape = (round(duration_s * RATE_HZ), channels)
    return np.random.default_rng(0).normal(0, level, shape).clip(-1, 1)


def upload(page: AppTest, name: str, data: bytes) -> AppTest:
    return page.file_uploader(key=state.UPLOAD.name).upload(name, data).run()


def texts(page: AppTest) -> str:
    """All the words on the page, Markdown escapes removed."""
    kinds = (page.title, page.header, page.subheader, page.markdown, page.caption, page.error, page.warning)
    return "\n".join(element.value for kind in kinds for element in kind).replace("\\", "")


def charts(page: AppTest) -> int:
    return len(page.get("plotly_chart"))


def played(page: AppTest) -> dict[str, Any]:
    """What the one player on the page was given, without its bytes."""
    (component,) = page.get("bidi_component")
    data = component.proto.bytes
    return dict(json.loads(data[4 : 4 + int.from_bytes(data[:4], "little")]))


@pytest.fixture
def clip() -> bytes:
    return file_of(noise(2))


@pytest.fixture
def answer(artifact: Path, clip: bytes) -> Prediction:
    return Classifier.from_artifact(artifact).predict(clip)


def test_an_empty_page_says_what_it_knows_and_what_to_do(open_app: OpenApp) -> None:
    page = open_app()
    assert not page.exception
    assert not page.error
    assert "Earshot knows 4 sounds: crying baby, dog, rain, rooster." in texts(page)
    assert "Upload a file, record something or pick a sample clip" in texts(page)


def test_a_clip_gets_an_explained_answer(open_app: OpenApp, clip: bytes, answer: Prediction) -> None:
    page = upload(open_app(), "noise_1.wav", clip)
    assert not page.exception
    assert not page.error
    assert page.header[0].value == words.plain(answer.label)
    assert f"**{words.percent(answer.confidence)}** confidence" in texts(page)
    assert words.margin_in_words(answer) in texts(page)
    assert words.entropy_in_words(answer) in texts(page)
    assert "noise_1.wav" in texts(page)
    assert f"model {answer.fingerprint[:12]}" in texts(page)
    assert charts(page) == 2  # bars, feature maps
    assert played(page)["name"] == "noise_1.wav"
    assert len(page.get("download_button")) == 2


def test_a_sound_unlike_all_it_learnt_is_called_none_of_the_classes(
    open_app: OpenApp, strict_artifact: Path, clip: bytes
) -> None:
    page = open_app(ARTIFACT=strict_artifact)
    assert "is called none of them, and so is about one in 20 of the sounds it knows" in texts(page)
    upload(page, "noise_1.wav", clip)
    assert not page.exception
    answer = Classifier.from_artifact(strict_artifact).predict(clip)
    assert page.header[0].value == "None of the four classes"
    assert words.strangeness_in_words(answer) in texts(page)
    assert "confidence" not in texts(page).split("Unlike the sounds it learnt")[0]


def test_a_recording_gets_an_answer(open_app: OpenApp, clip: bytes, answer: Prediction) -> None:
    page = open_tab(open_app(), "Record")
    page.audio_input(key=state.RECORDING.name).upload("recorded.wav", clip).run()
    assert not page.exception
    assert page.header[0].value == words.plain(answer.label)


def open_tab(page: AppTest, name: str) -> AppTest:
    from app.sound_input import TABS

    page.session_state[state.SOURCE.name] = next(tab for tab in TABS if tab.endswith(name))
    return page.run()


def test_the_next_tab_shows_its_own_sound(open_app: OpenApp, clip: bytes) -> None:
    page = upload(open_app(), "a.wav", clip)
    assert page.header
    assert not open_tab(page, "Record").header
    assert open_tab(page, "Upload").header


def test_fewer_classes_can_be_shown(open_app: OpenApp, clip: bytes) -> None:
    page = upload(open_app(), "a.wav", clip)
    page.get_by_key(state.TOP_K.name).set_value(3).run()
    assert not page.exception
    bars = json.loads(page.get("plotly_chart")[0].proto.spec)["data"][0]
    assert len(bars["y"]) == 3


def test_any_class_and_any_stage_can_be_explained(open_app: OpenApp, clip: bytes) -> None:
    page = upload(open_app(), "a.wav", clip)
    digest = Sound.of("a.wav", clip).digest
    page.selectbox(key=state.EXPLAINED.of(digest).name).set_value("rain").run()
    page.get_by_key(state.STAGE.name).set_value("stem").run()
    assert not page.exception
    assert not page.error
    assert charts(page) == 2


def test_what_lies_over_the_spectrogram_is_chosen(open_app: OpenApp, clip: bytes) -> None:
    page = upload(open_app(), "a.wav", clip)
    assert played(page)["overlay"]
    page.get_by_key(state.OVERLAY.name).set_value("off").run()
    assert played(page)["overlay"] is None
    page.get_by_key(state.OVERLAY.name).set_value("occlusion").run()
    assert "patches were silenced one by one" in texts(page)
    assert played(page)["overlay"]


def test_a_clip_is_answered_second_by_second(open_app: OpenApp, clip: bytes) -> None:
    lines = played(upload(open_app(), "a.wav", clip))["timeline"]
    assert lines["times"] == [0.5, 0.75, 1.0, 1.25, 1.5]
    assert {len(line["values"]) for line in lines["lines"]} == {5}


def test_long_audio_gets_a_timeline_and_a_choice_of_stretch(open_app: OpenApp) -> None:
    data = file_of(noise(20))
    page = upload(open_app(), "long.wav", data)
    assert not page.exception
    slider = page.select_slider(key=state.WINDOW.of(Sound.of("long.wav", data).digest).name)
    assert len(slider.options) == 7  # 5 s windows every 2.5 s over 20 s
    assert "one of 7 stretches" in texts(page)
    slider.set_value(6).run()
    assert not page.exception
    assert not page.error
    shown = played(page)
    assert shown["shade"] == {"start_s": 15, "end_s": 20}
    assert len(shown["timeline"]["times"]) == 7


def test_short_audio_has_no_choice_of_stretch(open_app: OpenApp, clip: bytes) -> None:
    assert not upload(open_app(), "a.wav", clip).select_slider


def test_silence_is_answered_with_a_warning(open_app: OpenApp) -> None:
    page = upload(open_app(), "silence.wav", file_of(np.zeros(2 * RATE_HZ)))
    assert not page.exception
    assert not page.error
    assert page.header
    assert page.warning


def test_a_hidden_file_type_is_sniffed(open_app: OpenApp) -> None:
    page = upload(open_app(), "really_flac.wav", file_of(noise(2), kind="FLAC"))
    assert not page.error
    assert page.header


def header_only(*, rate_hz: int = RATE_HZ, channels: int = 1, frames: int = 0) -> bytes:
    """A PCM_16 WAV header that claims ``frames`` and holds none."""
    size = frames * channels * 2
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate_hz, rate_hz * channels * 2 % 2**32, channels * 2, 16)
    return struct.pack("<4sI8s", b"RIFF", 36 + size, b"WAVEfmt ") + form + struct.pack("<4sI", b"data", size)


def not_finite() -> bytes:
    samples = noise(1)
    samples[100] = np.nan
    return file_of(samples, subtype="FLOAT")


BAD = {
    "empty file": b"",
    "text": b"This is a letter and not a sound.\n" * 50,
    "no samples": file_of(noise(0)),
    "one sample": file_of(noise(1 / RATE_HZ)),
    "30 ms": file_of(noise(0.03)),
    "NaN": not_finite(),
    "0 Hz": header_only(rate_hz=0, frames=10),
    "absurd rate": header_only(rate_hz=4_000_000_000, frames=10),
    "64 channels": file_of(noise(0.5, channels=64)),
    "claims a day": header_only(frames=RATE_HZ * 3600 * 13),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_bad_input_is_told_and_the_app_goes_on(open_app: OpenApp, clip: bytes, data: bytes) -> None:
    page = upload(open_app(), "bad.wav", data)
    assert not page.exception
    assert len(page.error) == 1
    assert page.error[0].value.count(". ") >= 1  # what was expected and came, then what to do
    assert not page.header
    page.file_uploader(key=state.UPLOAD.name).clear()
    assert upload(page, "good.wav", clip).header
    assert not page.error


def test_a_truncated_file_is_answered_with_a_warning_or_told(open_app: OpenApp) -> None:
    page = upload(open_app(), "cut.flac", file_of(noise(4), kind="FLAC")[:200_000])
    assert not page.exception
    assert page.warning or page.error


@pytest.mark.parametrize(("setting", "said"), [("MAX_BYTES", "1,000 bytes"), ("MAX_DURATION_S", "1,000 s")])
def test_limits_come_from_the_settings(open_app: OpenApp, setting: str, said: str) -> None:
    data = file_of(np.zeros(1_001 * 1_000), rate_hz=1_000)  # 1,001 s
    page = upload(open_app(**{setting: 1_000}), "a.wav", data)
    assert f"Expected at most {said}" in page.error[0].value


def test_a_wrong_setting_is_told(open_app: OpenApp) -> None:
    page = open_app(MAX_BYTES="plenty")
    assert not page.exception
    assert "EARSHOT_MAX_BYTES" in texts(page)


def test_a_missing_model_is_told(open_app: OpenApp, tmp_path: Path) -> None:
    page = open_app(ARTIFACT=tmp_path / "gone")
    assert not page.exception
    assert "EARSHOT_ARTIFACT" in texts(page)
    assert not page.file_uploader


def test_an_altered_model_is_told_and_a_restored_one_answers(
    open_app: OpenApp, artifact: Path, tmp_path: Path, clip: bytes
) -> None:
    altered = tmp_path / "altered"
    shutil.copytree(artifact, altered)
    weights = altered / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    page = open_app(ARTIFACT=altered)
    assert not page.exception
    assert "is not what was saved" in texts(page)
    shutil.copy(artifact / weights.name, weights)
    assert upload(page.run(), "a.wav", clip).header


def test_without_a_dataset_a_download_is_offered(open_app: OpenApp) -> None:
    page = open_tab(open_app(), "Sample clips")
    assert not page.exception
    assert "CC BY" in texts(page)
    assert "MB" in texts(page)
    assert page.button(key=state.DOWNLOAD.name).label == "Download ESC-10"


def test_a_failed_download_is_told(open_app: OpenApp, monkeypatch: pytest.MonkeyPatch) -> None:
    from core import download
    from core.errors import DatasetError

    def fail(*_: object, **__: object) -> Path:
        raise DatasetError("Expected the archive, got HTTP 503. Try again later.")

    monkeypatch.setattr(download, "download", fail)
    page = open_tab(open_app(), "Sample clips")
    page.button(key=state.DOWNLOAD.name).click().run()
    assert not page.exception
    assert "Try again later." in texts(page)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = tmp_path / "dataset"
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for target, name in enumerate(("dog", "rain")):
        for fold in (1, 2):
            filename = f"{fold}-{fold}{target}-A-{target}.wav"
            (root / "audio" / filename).write_bytes(file_of(noise(1, level=0.1 * fold + 0.01 * target)))
            lines.append(f"{filename},{fold},{target},{name},True,{fold}{target},A")
    (root / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    return root


def test_a_download_is_followed_by_the_sample_clips(
    open_app: OpenApp, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core import download

    def arrive(name: str, destination: Path, *, progress: Callable[[int, int | None], None]) -> Path:
        progress(0, None)
        progress(20_000_000, 40_000_000)
        return Path(shutil.copytree(dataset, destination))

    monkeypatch.setattr(download, "download", arrive)
    page = open_tab(open_app(DATA_DIR=tmp_path / "new"), "Sample clips")
    page.button(key=state.DOWNLOAD.name).click().run()
    assert not page.exception
    assert page.get_by_key(state.SAMPLE_CLASS.name).options == ["Dog", "Rain"]


def test_a_sample_clip_is_chosen_by_class_and_take(open_app: OpenApp, dataset: Path) -> None:
    page = open_tab(open_app(DATA_DIR=dataset), "Sample clips")
    assert not page.header
    page.get_by_key(state.SAMPLE_CLASS.name).set_value("rain").run()
    assert "1-11-A-1.wav" in texts(page)
    assert "labelled rain" in texts(page)
    page.get_by_key(f"{state.SAMPLE_TAKE.name}_rain").set_value(1).run()
    assert not page.exception
    assert "2-21-A-1.wav" in texts(page)


def test_a_sample_clip_that_has_gone_is_told(open_app: OpenApp, dataset: Path) -> None:
    page = open_tab(open_app(DATA_DIR=dataset), "Sample clips")
    (dataset / "audio" / "1-11-A-1.wav").unlink()
    page.get_by_key(state.SAMPLE_CLASS.name).set_value("rain").run()
    assert not page.exception
    assert "choose another clip" in texts(page)


def test_a_damaged_dataset_is_told(open_app: OpenApp, dataset: Path) -> None:
    (dataset / "meta" / "esc50.csv").write_text("nothing,useful\n1,2\n")
    page = open_tab(open_app(DATA_DIR=dataset), "Sample clips")
    assert not page.exception
    assert "missing" in texts(page)


def test_the_json_is_the_record_and_the_name(clip: bytes, answer: Prediction) -> None:
    content = json.loads(result_json(Sound.of("naïve.wav", clip), answer))
    assert content.pop("file") == "naïve.wav"
    assert Prediction.model_validate(content) == answer


def test_names_from_outside_are_shown_as_they_are(open_app: OpenApp, clip: bytes) -> None:
    page = upload(open_app(), "*a*_b_$1$:red[x].wav", clip)
    assert any(element.value.startswith(words.literal("*a*_b_$1$:red[x].wav")) for element in page.caption)


@pytest.mark.parametrize(
    ("container", "codec", "rate_hz", "channels", "expected"),
    [
        ("wav", "pcm_16", 44_100, 2, "audio/wav"),
        ("wav", "float", 44_100, 2, None),
        ("wav", "pcm_16", 192_000, 2, None),
        ("mp3", "mp3", 44_100, 6, None),
        ("mp4", "aac", 48_000, 2, "audio/mp4"),
        ("mp4", "alac", 48_000, 2, None),
        ("mp4", "ac3", 48_000, 2, None),
        ("webm", "opus", 48_000, 1, "audio/webm"),
        ("webm", "pcm_s16le", 48_000, 1, None),
        ("mp3", "mp2", 44_100, 1, None),
        ("flac", "pcm_24", 44_100, 2, "audio/flac"),
        ("aac", "aac", 44_100, 2, None),
    ],
)
def test_only_what_browsers_play_is_sent_as_it_is(
    answer: Prediction, container: str, codec: str, rate_hz: int, channels: int, expected: str | None
) -> None:
    facts = {"container": container, "codec": codec, "sample_rate_hz": rate_hz, "channels": channels}
    assert browser_format(SourceFacts.model_validate(answer.source.model_dump() | facts)) == expected


@pytest.fixture
def fifty(open_app: OpenApp, fifty_run: RunFolder, fifty_dir: Path) -> AppTest:
    return open_app(ARTIFACT=fifty_run.artifact, DATA_DIR=fifty_dir)


@pytest.fixture
def twelve(fifty_dir: Path) -> bytes:
    """Twelve classes in turn, 6 s each."""
    paths = [next((fifty_dir / "audio").glob(f"1-*-A-{target}.wav")) for target in range(0, 48, 4)]
    return file_of(np.concatenate([np.tile(soundfile.read(path)[0], 3) for path in paths]))


@pytest.mark.slow
def test_fifty_names_are_a_list_to_open(fifty: AppTest) -> None:
    assert not fifty.exception
    assert "Earshot knows 50 sounds. Any other sound" in texts(fifty)
    listed = next(caption.value for caption in fifty.caption if caption.value.startswith("fluttering"))
    assert listed.count(",") == 49
    assert listed.endswith("swelling whistle.")


@pytest.mark.slow
def test_a_sample_clip_of_fifty_classes_is_found_in_a_list(fifty: AppTest) -> None:
    chooser = open_tab(fifty, "Sample clips").selectbox(key=state.SAMPLE_CLASS.name)
    assert len(chooser.options) == 50
    assert chooser.options == sorted(chooser.options)
    chooser.set_value("struck_high_hiss").run()
    assert not fifty.exception
    assert not fifty.error
    assert "labelled struck high hiss" in texts(fifty)
    assert fifty.header
    fifty.get_by_key(f"{state.SAMPLE_TAKE.name}_struck_high_hiss").set_value(3).run()
    assert re.search(r"4-\d+-A-48\.wav", texts(fifty))


@pytest.mark.slow
def test_few_of_fifty_classes_or_all_can_be_shown(fifty: AppTest, clip: bytes) -> None:
    upload(fifty, "a.wav", clip)
    sizes = {}
    for shown in (3, 5, 10, 20, 50):
        fifty.get_by_key(state.TOP_K.name).set_value(shown).run()
        figure = json.loads(fifty.get("plotly_chart")[0].proto.spec)
        assert len(figure["data"][0]["y"]) == shown
        sizes[shown] = figure["layout"]["height"]
    assert sizes[5] < sizes[10] < sizes[50] < 1_500


@pytest.mark.slow
def test_any_of_fifty_classes_can_be_explained(fifty: AppTest, clip: bytes) -> None:
    upload(fifty, "a.wav", clip)
    chooser = fifty.selectbox(key=state.EXPLAINED.of(Sound.of("a.wav", clip).digest).name)
    assert len(chooser.options) == 50
    chooser.set_value("fluttering_band_noise").run()
    assert not fifty.exception
    assert "spoke" in texts(fifty)
    assert "for fluttering band noise" in texts(fifty)


@pytest.mark.slow
def test_the_timeline_of_fifty_classes_shows_those_that_lead(
    fifty: AppTest, twelve: bytes, fifty_run: RunFolder
) -> None:
    upload(fifty, "many.wav", twelve)
    assert not fifty.exception
    answer = Classifier.from_artifact(fifty_run.artifact).predict(twelve)
    assert words.leaders_in_words(words.leaders(answer, fifty_run.config().class_names)) in texts(fifty)
    named = [line["name"] for line in played(fifty)["timeline"]["lines"]]
    leading = words.leaders(answer, fifty_run.config().class_names)
    assert {words.plain(name) for name in leading[:4]} <= set(named)
    assert 5 <= len(named) <= 10
    assert len(named) >= min(len(leading), 10)


@pytest.mark.slow
def test_the_picture_is_drawn_for_fifty_classes(fifty_run: RunFolder, twelve: bytes) -> None:
    classifier = Classifier.from_artifact(fifty_run.artifact)
    prediction, wave = classifier.predict(twelve), classifier.decode(twelve)
    png = result_picture(prediction, wave, explain(classifier, wave.samples))
    assert struct.unpack(">II", png[16:24]) == (1600, 1200)
