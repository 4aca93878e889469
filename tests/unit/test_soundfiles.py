from pathlib import Path

import numpy as np
import pytest

from core.audio import write_wav
from core.errors import AudioError
from core.soundfiles import sound_files

WAV = write_wav(np.zeros(8_000, dtype=np.float32), 8_000)


def test_sounds_are_found_by_content_in_order_and_hidden_files_passed_over(tmp_path: Path) -> None:
    for name, data in {
        "b.wav": WAV,
        "a/deep/c.bin": WAV,
        "notes.wav": b"no sound",
        ".hidden.wav": WAV,
        ".trash/d.wav": WAV,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "nowhere")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    sounds, others = sound_files(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in sounds] == ["b.wav", "a/deep/c.bin"]
    assert [path.name for path in others] == ["dangling.wav", "notes.wav"]


def test_a_folder_without_sounds_is_told(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("none here")
    with pytest.raises(AudioError, match="found 1 other files and no sound") as caught:
        sound_files(tmp_path)
    assert caught.value.code == "no_sounds"
