import errno
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.cli import main
from core.config import AudioConfig
from core.dataset import load_dataset
from core.descriptors import describe
from core.errors import DatasetError
from core.synthetic_dataset import CLASSES, RATE_HZ, write_dataset


def test_fifty_classes_load_as_a_dataset_in_five_folds(fifty_dir: Path) -> None:
    dataset = load_dataset(fifty_dir)
    assert len(dataset.class_names) == 50
    assert dataset.class_names == tuple(CLASSES)
    assert dataset.folds == (1, 2, 3, 4, 5)
    assert len(dataset.clips) == 500
    assert all(
        clip.filename == f"{clip.fold}-{clip.source_group}-{clip.take}-{clip.target}.wav" for clip in dataset.clips
    )


def test_takes_of_a_recording_share_its_class_and_fold(tmp_path: Path) -> None:
    write_dataset(tmp_path, classes=3, clips_per_fold=3, seconds=0.25)
    groups: dict[str, list[tuple[int, int, str]]] = {}
    for clip in load_dataset(tmp_path).clips:
        groups.setdefault(clip.source_group, []).append((clip.fold, clip.target, clip.take))
    assert sorted(len(takes) for takes in groups.values()) == [1] * 15 + [2] * 15
    for takes in groups.values():
        assert len({(fold, target) for fold, target, _ in takes}) == 1
        assert [take for *_, take in takes] == ["A", "B"][: len(takes)]


def test_clips_are_plain_wav_as_in_esc50(fifty_dir: Path) -> None:
    for path in sorted((fifty_dir / "audio").iterdir())[::25]:
        about = soundfile.info(path)
        assert (about.format, about.subtype, about.samplerate, about.channels) == ("WAV", "PCM_16", RATE_HZ, 1)
        samples, _ = soundfile.read(path, dtype="float32")
        assert samples.size == 2 * RATE_HZ
        assert 0.05 < np.abs(samples).max() < 0.9  # −26 to −1 dBFS: heard, and never clipped


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path: Path) -> None:
    hashes = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_dataset(tmp_path / name, classes=2, clips_per_fold=1, seconds=0.25, seed=seed)
        hashes.append(load_dataset(tmp_path / name).content_hash)
    assert hashes[0] == hashes[1] != hashes[2]


def test_timbres_differ_in_pitch_and_rhythms_in_how_the_level_moves(fifty_dir: Path) -> None:
    of = {clip.label: clip for clip in load_dataset(fifty_dir).clips}

    def level_moves(label: str) -> float:
        samples, _ = soundfile.read(of[label].path, dtype="float32")
        frames = np.sqrt(np.square(samples[: samples.size // 882 * 882].reshape(-1, 882)).mean(axis=1))  # 20 ms
        return float(np.std(20 * np.log10(frames + 1e-6)))

    def centroid_hz(label: str) -> float:
        samples, _ = soundfile.read(of[label].path, dtype="float32")
        return describe(samples, RATE_HZ)["spectral_centroid_hz"]

    assert centroid_hz("steady_rumble") < centroid_hz("steady_whistle") < centroid_hz("steady_high_hiss")
    assert level_moves("steady_reed") < 1 < level_moves("fluttering_reed")
    assert level_moves("struck_reed") > 5


@pytest.mark.parametrize("changes", [{"classes": 1}, {"classes": 51}, {"clips_per_fold": 0}, {"seconds": 0.1}])
def test_numbers_out_of_range_are_refused_before_anything_is_written(tmp_path: Path, changes: dict[str, int]) -> None:
    with pytest.raises(DatasetError, match="Expected 2 to 50 classes") as caught:
        write_dataset(tmp_path / "new", **changes)  # type: ignore[arg-type]
    assert caught.value.code == "out_of_range"
    assert not (tmp_path / "new").exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    assert main(["synthesize", "--to", str(tmp_path)]) == 1
    assert "error [in_the_way]: Expected a new or an empty folder" in capsys.readouterr().err
    assert main(["synthesize", "--to", str(tmp_path / "letter.txt")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_full_disk_is_told_and_leaves_no_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written, write = [], Path.write_bytes

    def until_full(path: Path, data: bytes) -> int:
        if len(written) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", until_full)
    with pytest.raises(DatasetError, match="No space left on device") as caught:
        write_dataset(tmp_path / "new", classes=2, seconds=0.25)
    assert caught.value.code == "disk"
    with pytest.raises(DatasetError, match="found no"):
        load_dataset(tmp_path / "new")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="Not a directory"):
        write_dataset(tmp_path / "file" / "new", classes=2, seconds=0.25)


def test_the_command_says_where_the_dataset_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["synthesize", "--to", str(tmp_path / "new"), "--classes", "2", "--clips-per-fold", "1", "--seconds", "0.3"]
    assert main(asked) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "new")
    assert len(load_dataset(tmp_path / "new").clips) == 10


def test_a_clip_is_long_enough_for_the_front_door_at_the_least_length(tmp_path: Path) -> None:
    from core.training.data import decode_clips

    write_dataset(tmp_path, classes=2, clips_per_fold=1, seconds=0.25)
    assert len(decode_clips(load_dataset(tmp_path).clips, AudioConfig())) == 10
