"""Own sounds as a dataset: what is taken, what is not, and which fold a sound is in."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.adaptation import FEWEST_OF_A_NEW_CLASS, clip_id_of_file, fold_of, plan, write_adapted
from core.artifact import Artifact
from core.classifier import Classifier
from core.config import Limits
from core.dataset import Dataset, load_dataset
from core.errors import DatasetError
from core.records import NONE_OF_THE_CLASSES
from core.store import Store
from tests.synthetic_dataset import write_dataset


@pytest.fixture
def base(tmp_path: Path) -> Dataset:
    write_dataset(tmp_path / "toy", n_classes=2, folds=3, per_class_and_fold=1, duration_s=0.3, sample_rate_hz=16_000)
    return load_dataset(tmp_path / "toy")


class Log:
    """A store and a way to fill it."""

    def __init__(self, store: Store, artifact: Artifact) -> None:
        self.store, self.classifier = store, Classifier(artifact, Limits())

    def add(self, sound: bytes, *labels: str, kept: bool = True) -> str:
        prediction = self.classifier.predict(sound)
        number = self.store.log(prediction, self.classifier.manifest, name="a", origin="app")
        for label in labels:
            self.store.correct(number, label)
        if kept:
            self.store.keep_sound(prediction.clip_id, sound)
        return prediction.clip_id


@pytest.fixture
def log(tmp_path: Path, untrained: Artifact) -> Iterator[Log]:
    store = Store.open(f"sqlite:///{tmp_path / 'store.sqlite3'}")
    yield Log(store, untrained)
    store.close()


def noise(seed: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(seed).normal(0, 0.1, 5_000), 16_000, format="FLAC")
    return file.getvalue()


def test_the_latest_word_on_a_kept_sound_is_what_it_is_learnt_as(log: Log, base: Dataset, tmp_path: Path) -> None:
    clip_id = log.add(noise(1), "class_1", "class_0")
    log.add(noise(2))
    planned = plan(log.store, base)
    assert planned.counts == {"class_0": 1}
    folder = write_adapted(log.store, base, planned, tmp_path / "runs")
    adapted = load_dataset(folder)
    assert len(adapted.clips) == len(base.clips) + 1
    (own,) = (clip for clip in adapted.clips if clip.filename.startswith("own-"))
    assert (own.filename, own.label, own.fold) == (f"own-{clip_id}.flac", "class_0", fold_of(clip_id, base.folds))
    assert own.path.read_bytes() == noise(1)
    assert write_adapted(log.store, base, planned, tmp_path / "runs") == folder


def test_every_clip_of_the_base_keeps_its_name_and_its_fold(log: Log, base: Dataset, tmp_path: Path) -> None:
    log.add(noise(1), "class_0")
    adapted = load_dataset(write_adapted(log.store, base, plan(log.store, base), tmp_path))
    folds = {clip.filename: (clip.fold, clip.label, clip.source_group) for clip in adapted.clips}
    assert all(folds[clip.filename] == (clip.fold, clip.label, clip.source_group) for clip in base.clips)
    assert adapted.class_names == base.class_names


def test_what_cannot_be_learnt_is_left_out_and_counted(log: Log, base: Dataset, tmp_path: Path) -> None:
    log.add(noise(1), "class_0", kept=False)
    log.add(noise(2), NONE_OF_THE_CLASSES)
    log.add(base.clips[0].path.read_bytes(), "class_1")
    log.add(noise(3), "kettle")
    planned = plan(log.store, base, none_of_the_classes=NONE_OF_THE_CLASSES)
    assert planned.taken == ()
    assert planned.left_out == {
        "said to be none of the classes": 1,
        "its sound was not kept": 1,
        "a clip of the dataset already": 1,
        f"new class kettle: 1 of the {FEWEST_OF_A_NEW_CLASS} sounds it needs": 1,
    }
    with pytest.raises(DatasetError, match="EARSHOT_KEEP_AUDIO"):
        write_adapted(log.store, base, planned, tmp_path)


def test_a_new_class_with_enough_sounds_joins_behind_the_others(log: Log, base: Dataset, tmp_path: Path) -> None:
    for seed in range(FEWEST_OF_A_NEW_CLASS):
        log.add(noise(seed), "kettle")
    planned = plan(log.store, base)
    assert planned.new_classes == ("kettle",)
    assert load_dataset(write_adapted(log.store, base, planned, tmp_path)).class_names == (
        "class_0",
        "class_1",
        "kettle",
    )


def test_a_sound_is_named_as_the_log_names_it(log: Log, tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(noise(7))
    assert clip_id_of_file(tmp_path / "a.flac") == log.add(noise(7))


def test_a_dataset_that_breaks_off_half_written_is_not_there(
    log: Log, base: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.add(noise(1), "class_0")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("core.adaptation.load_dataset", full)
    with pytest.raises(DatasetError, match="No space left"):
        write_adapted(log.store, base, plan(log.store, base), tmp_path / "runs")
    assert list((tmp_path / "runs" / "datasets").iterdir()) == []
