import os
import subprocess
import sys
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


def test_undo_keeps_what_a_newer_installation_put_there(folder: Path) -> None:
    subject.main([])
    (folder / "_torchaudio.so").write_text("newer")
    assert subject.main(["--undo"]) == 0
    assert (folder / "_torchaudio.so").read_text() == "newer"
    assert (folder / "libtorchaudio.so").exists()


def as_a_command(site_packages: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``setup_torchaudio.py`` as ``make setup`` runs it, with other packages before the installed ones."""
    environment = {**os.environ, "PYTHONPATH": str(site_packages)}
    command = [sys.executable, str(Path(subject.__file__)), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def site_packages(folder: Path, cuda: str | None) -> Path:
    """A torch of this CUDA version beside a torchaudio whose extension cannot be loaded, as folders and files."""
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "__init__.py").write_text("from torch import version\n")
    (folder / "torch" / "version.py").write_text(f"cuda = {cuda!r}\n")
    (folder / "torchaudio" / "lib").mkdir(parents=True)
    (folder / "torchaudio" / "__init__.py").write_text(
        "from pathlib import Path\n"
        "if (Path(__file__).parent / 'lib' / '_torchaudio.abi3.so').exists():\n"
        "    raise OSError('libc10_cuda.so: cannot open shared object file')\n"
    )
    for name in ("_torchaudio.abi3.so", "libtorchaudio.abi3.so", "torchaudio_prefixctc.abi3.so"):
        (folder / "torchaudio" / "lib" / name).touch()
    return folder


def test_as_a_command_it_makes_torchaudio_import_and_undoes_it(tmp_path: Path) -> None:
    packages = site_packages(tmp_path, cuda=None)
    lib = packages / "torchaudio" / "lib"
    before = names(lib)
    result = as_a_command(packages)
    assert (result.returncode, result.stderr) == (0, "")
    assert "set aside _torchaudio.abi3.so, libtorchaudio.abi3.so" in result.stdout
    assert "nothing to do" in as_a_command(packages).stdout
    assert "put back _torchaudio.abi3.so" in as_a_command(packages, "--undo").stdout
    assert names(lib) == before


def test_as_a_command_it_leaves_a_cuda_torch_alone(tmp_path: Path) -> None:
    packages = site_packages(tmp_path, cuda="12.8")
    before = names(packages / "torchaudio" / "lib")
    result = as_a_command(packages)
    assert result.returncode == 1
    assert "left alone" in result.stdout
    assert names(packages / "torchaudio" / "lib") == before
