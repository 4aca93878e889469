"""Your own sounds as a dataset: what people said of logged sounds, beside the clips the model was made from.

Only sounds that were kept (``EARSHOT_KEEP_AUDIO``) can be learnt from. A sound's fold follows from its own bytes, so it
is the same in every dataset made later, and a sound stays held out from the network that is judged by it. A sound that
is a clip of the base already is left to the base.
"""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.containers import sniff
from core.dataset import TABLE, Dataset, load_dataset
from core.errors import DatasetError
from core.store import Store

FEWEST_OF_A_NEW_CLASS = 10  # fewer teach a network nothing that lasts
FEWEST_FOLDS_OF_A_NEW_CLASS = 2  # or none of its sounds could be held out
DATASETS = Path("datasets")  # under the runs folder
COLUMNS = ("filename", "fold", "target", "category", "src_file", "take")


@dataclass(frozen=True)
class OwnSound:
    """A kept sound and what a person says it is. ``clip_id``: first 16 hex digits of its sha256."""

    clip_id: str
    label: str


@dataclass(frozen=True)
class Plan:
    """Which own sounds a dataset would take, and why not the others.

    ``taken``: usable sounds; ``new_classes``: those of their labels that the base does not have; ``left_out``: reason →
    how many sounds.
    """

    taken: tuple[OwnSound, ...]
    new_classes: tuple[str, ...]
    left_out: dict[str, int]

    @property
    def counts(self) -> dict[str, int]:
        """Class → how many own sounds of it are taken."""
        return dict(sorted(Counter(sound.label for sound in self.taken).items()))


def plan(store: Store, base: Dataset, *, none_of_the_classes: str = "") -> Plan:
    """What of the corrected and confirmed sounds in ``store`` can be learnt beside ``base``."""
    known = {clip_id_of_file(clip.path) for clip in base.clips}
    left_out: Counter[str] = Counter()
    usable: list[OwnSound] = []
    labelled = store.labelled_sounds()
    left_out["said to be none of the classes"] = int((labelled["label"] == none_of_the_classes).sum())
    for row in labelled[labelled["label"] != none_of_the_classes].itertuples():
        if not row.kept:
            left_out["its sound was not kept"] += 1
        elif row.clip_id in known:
            left_out["a clip of the dataset already"] += 1
        else:
            usable.append(OwnSound(str(row.clip_id), str(row.label)))
    new = sorted({sound.label for sound in usable} - set(base.class_names))
    allowed = []
    for name in new:
        folds = [fold_of(sound.clip_id, base.folds) for sound in usable if sound.label == name]
        if len(folds) < FEWEST_OF_A_NEW_CLASS or len(set(folds)) < FEWEST_FOLDS_OF_A_NEW_CLASS:
            left_out[f"new class {name}: {len(folds)} of the {FEWEST_OF_A_NEW_CLASS} sounds it needs"] += len(folds)
        else:
            allowed.append(name)
    taken = tuple(sound for sound in usable if sound.label in base.class_names or sound.label in allowed)
    return Plan(taken, tuple(allowed), {reason: n for reason, n in left_out.items() if n})


def fold_of(clip_id: str, folds: Sequence[int]) -> int:
    """The fold of a sound, by its bytes alone."""
    return folds[int(clip_id, 16) % len(folds)]


def write_adapted(store: Store, base: Dataset, planned: Plan, runs_dir: Path) -> Path:
    """Write base and own sounds as one dataset under ``runs_dir``; the same sounds and labels give the same folder.

    Raises ``DatasetError`` where there is nothing to learn or the disk cannot be written.
    """
    if not planned.taken:
        raise DatasetError(
            "Expected sounds that were kept and that somebody said the class of, found none. Set EARSHOT_KEEP_AUDIO=1, "
            "classify sounds and confirm or correct their answers.",
            code="nothing_to_learn",
        )
    facts = sorted((sound.clip_id, sound.label) for sound in planned.taken)
    digest = hashlib.sha256(repr((base.content_hash, facts)).encode()).hexdigest()[:12]
    folder = runs_dir / DATASETS / f"{base.root.name}-own-{digest}"
    if not folder.exists():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part.") as part:
                staged = Path(part) / "dataset"
                _fill(staged, store, base, planned)
                load_dataset(staged)
                staged.rename(folder)
        except OSError as exc:
            raise DatasetError(
                f"Expected to write a dataset into {folder.parent}, got {exc.strerror or exc}. Free space.", code="disk"
            ) from exc
    return folder


def _fill(root: Path, store: Store, base: Dataset, planned: Plan) -> None:
    (root / "audio").mkdir(parents=True)
    (root / TABLE).parent.mkdir()
    target = {name: index for index, name in enumerate((*base.class_names, *planned.new_classes))}
    rows: list[tuple[object, ...]] = []
    for clip in base.clips:
        _link(clip.path, root / "audio" / clip.filename)
        rows.append((clip.filename, clip.fold, target[clip.label], clip.label, clip.source_group, clip.take))
    for sound in planned.taken:
        data = store.sound(sound.clip_id)
        if data is None:
            raise DatasetError(f"The sound {sound.clip_id} was removed from the log meanwhile. Try again.", code="gone")
        name = f"own-{sound.clip_id}.{sniff(data) or 'bin'}"
        (root / "audio" / name).write_bytes(data)
        fold = fold_of(sound.clip_id, base.folds)
        rows.append((name, fold, target[sound.label], sound.label, f"own-{sound.clip_id}", "A"))
    with (root / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def _link(source: Path, target: Path) -> None:
    """The same file under another name, or a copy where the disk does not do that."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def clip_id_of_file(path: Path) -> str:
    """As the log names sounds: the first 16 hex digits of the sha256 of the file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as exc:
        raise DatasetError(
            f"Expected the clip {path.name} in the dataset, it cannot be read ({exc.strerror}). Restore it.",
            code="unreadable_clip",
        ) from exc
