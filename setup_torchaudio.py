"""Let torchaudio import beside a CPU-only torch. Run by ``make setup``; ``--undo`` puts everything back.

The torchaudio wheel on PyPI is a CUDA build for Linux x86-64. With a CPU-only torch its compiled extension cannot be
loaded and ``import torchaudio`` stops at ``libc10_cuda.so``. torchaudio itself goes on without the extension where the
file is missing, and Earshot uses only what it writes in Python; so the files are renamed. A CUDA torch, a torchaudio
that imports, and other platforms are left alone.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PATTERNS = ("_torchaudio*.so", "libtorchaudio*.so")
ASIDE = ".disabled"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when torchaudio imports afterwards (or was restored), 1 when it does not."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    folder = extension_folder()
    if folder is None:
        print("torchaudio is not installed. Run: pip install -r requirements.txt")
        return 1
    if "--undo" in arguments:
        restored = restore(folder)
        print(f"torchaudio: put back {', '.join(restored)}" if restored else "torchaudio: nothing to put back")
        return 0
    problem = import_problem()
    if problem is None:
        print("torchaudio: imports as it is, nothing to do")
        return 0
    if torch_has_cuda():
        print(f"torchaudio does not import beside a CUDA torch, which is left alone: {problem}")
        return 1
    moved = set_aside(folder)
    problem = import_problem()
    if problem is not None:
        restore(folder)
        print(f"torchaudio does not import, and its compiled extension is not why: {problem}")
        return 1
    print(f"torchaudio: a CUDA build beside a CPU-only torch; set aside {', '.join(moved)}. The rest works without.")
    return 0


def extension_folder() -> Path | None:
    """Where the compiled extension lies; ``None`` without torchaudio."""
    spec = importlib.util.find_spec("torchaudio")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "lib"


def import_problem() -> str | None:
    """The last line of what ``import torchaudio`` says in a fresh interpreter; ``None`` when it works."""
    result = subprocess.run([sys.executable, "-c", "import torchaudio"], capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return None
    return (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]


def torch_has_cuda() -> bool:
    """Whether the installed torch is a CUDA build, with or without a GPU in this machine."""
    command = "import torch, sys; sys.exit(torch.version.cuda is None)"
    return subprocess.run([sys.executable, "-c", command], capture_output=True, check=False).returncode == 0


def set_aside(folder: Path) -> list[str]:
    """Rename the compiled extension so that it is not found; the names it had."""
    files = sorted({file for pattern in PATTERNS for file in folder.glob(pattern)})
    for file in files:
        file.rename(file.with_name(file.name + ASIDE))
    return [file.name for file in files]


def restore(folder: Path) -> list[str]:
    """Undo ``set_aside``; the names that are back. A file that pip has put there since is newer and stays."""
    back = []
    for file in sorted(folder.glob(f"*{ASIDE}")):
        original = file.with_name(file.name.removesuffix(ASIDE))
        if not original.exists():
            file.rename(original)
            back.append(original.name)
    return back


if __name__ == "__main__":
    sys.exit(main())
