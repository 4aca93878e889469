from pathlib import Path

import pytest

import setup_torchaudio as subject


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A torchaudio whose extension stands in the way as long as it has its name, beside a CPU-only torch."""
    lib = tmp_path / "torchaudio" / "lib"
    lib.mkdir(parents=True)
    for name in ("_torchaudio.so", "libtorchaudio.so", "notes.txt"):
        (lib / name).write_text(name)
    monkeypatch.setattr(subject, "extension_folder", lambda: lib)
    monkeypatch.setattr(subject, "torch_has_cuda", lambda: False)
    monkeypatch.setattr(
        subject, "import_problem", lambda: "OSError: libc10_cuda.so" if (lib / "_torchaudio.so").exists() else None
    )
    return lib


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_cuda_extension_beside_a_cpu_torch_is_set_aside(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert subject.main([]) == 0
    assert names(folder) == ["_torchaudio.so.disabled", "libtorchaudio.so.disabled", "notes.txt"]
    assert "set aside _torchaudio.so, libtorchaudio.so" in capsys.readouterr().out


def test_a_second_run_finds_nothing_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subject.main([])
    before = names(folder)
    capsys.readouterr()
    assert subject.main([]) == 0
    assert names(folder) == before
    assert "nothing to do" in capsys.readouterr().out


def test_undo_puts_everything_back(folder: Path) -> None:
    before = names(folder)
    subject.main([])
    assert subject.main(["--undo"]) == 0
    assert names(folder) == before


def test_undo_with_nothing_set_aside_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert subject.main(["--undo"]) == 0
    assert "nothing to put back" in capsys.readouterr().out


def test_a_cuda_torch_is_left_alone_even_if_torchaudio_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(folder)
    monkeypatch.setattr(subject, "torch_has_cuda", lambda: True)
    assert subject.main([]) == 1
    assert names(folder) == before
    assert "left alone" in capsys.readouterr().out


def test_another_reason_not_to_import_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(folder)
    monkeypatch.setattr(subject, "import_problem", lambda: "ImportError: numpy")
    assert subject.main([]) == 1
    assert names(folder) == before
    assert "ImportError: numpy" in capsys.readouterr().out


def test_without_torchaudio_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subject, "extension_folder", lambda: None)
    assert subject.main([]) == 1
    assert "pip install -r requirements.txt" in capsys.readouterr().out


def test_the_installed_torchaudio_imports_in_this_environment() -> None:
    assert subject.import_problem() is None
    found = subject.extension_folder()
    assert found is not None
    assert found.is_dir()
