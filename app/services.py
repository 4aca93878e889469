"""Process-wide objects and cached work: the only ``cache_resource`` and ``cache_data`` of the app.

Results are keyed by the sha256 of a sound's bytes and the model's fingerprint, never by the samples: Streamlit hashes
large arrays from a sample of their elements. They are frozen, so all sessions share them (``cache_resource``) instead
of unpickling a copy each time. Errors are never cached. torch takes a second to import, so what needs it is imported
where it is used and the page draws first.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import streamlit as st

from app import theme
from core.config import SHIPPED_ARTIFACT, SHIPPED_RUN, Settings
from core.errors import ArtifactError, AudioError, DatasetError, RecordsError
from core.records import NONE_OF_THE_CLASSES, Prediction

if TYPE_CHECKING:
    import pandas as pd
    from pandas import DataFrame

    from core.adaptation import Plan
    from core.admin import Gate, Guard
    from core.administration import Administration
    from core.artifact import Manifest
    from core.audio import Waveform
    from core.backend import Backend, LocalBackend
    from core.dataset import Clip, Dataset, Layout
    from core.diagnostics.classification import Comparison
    from core.diagnostics.drift_report import DriftReport
    from core.diagnostics.duplicates import SharedSound
    from core.diagnostics.maps import Ground, Method, SoundMap
    from core.diagnostics.noise import NoiseScan
    from core.drift_demo import Degrading
    from core.explain import Explanation
    from core.jobs import Job, Trainer, Where
    from core.recordset import RecordSet
    from core.store import Store
    from core.tableau.export import Exported, KeptExports
    from core.training.overview import RunFacts

P = ParamSpec("P")
T = TypeVar("T")
AT_ONCE = 8  # sounds between two signs of progress
REFUSED = {  # codes of ``AudioError`` in plain words
    "not_audio": "files that are no sounds",
    "corrupt": "damaged sounds",
    "empty_file": "empty or damaged files",
    "too_short": "sounds under 0.25 s",
    "too_long": "sounds that are too long",
}
TAKES = 4  # sample clips offered of each class


@dataclass(frozen=True)
class Sound:
    """What a person gave: a file's name and bytes. Equal bytes have equal ``digest``s.

    ``truth``: what its dataset says it is, for sample clips.
    """

    name: str
    data: bytes = field(repr=False)
    digest: str
    truth: str | None = None

    @classmethod
    def of(cls, name: str, data: bytes, *, truth: str | None = None) -> Sound:
        return cls(name, data, hashlib.sha256(data).hexdigest(), truth)


def settings() -> Settings:
    """The environment, read anew: it costs less than a millisecond. Raises ``SettingsError``."""
    return Settings.load()


def answers_on() -> Where:
    """Where sounds are answered: as this person chose, else as the settings say."""
    from app import state

    return state.BACKEND.get() or settings().backend


def backend() -> Backend:
    """The chosen backend over the configured artifact; made again when its files change. Raises ``ArtifactError``."""
    given = settings()
    stamp = _stamp(given.artifact)
    if answers_on() == "modal":
        return _modal_backend(given.artifact, stamp, given.runs_dir)
    return _backend(given.artifact, stamp, given.max_bytes, given.max_duration_s)


def modal_is_set_up() -> bool:
    """Whether this machine has a Modal token: where ``modal setup`` leaves it, or in the environment."""
    config = Path(os.environ.get("MODAL_CONFIG_PATH", "~/.modal.toml")).expanduser()
    return "MODAL_TOKEN_ID" in os.environ or config.is_file()


@st.cache_resource(max_entries=2, show_spinner=False)
def _modal_backend(artifact: Path, stamp: tuple[int, ...], runs_dir: Path) -> Backend:
    from core.artifact import read_manifest
    from modal_backend import connect

    return connect(read_manifest(artifact), runs_dir)


@st.cache_resource(max_entries=2, show_spinner=False)
def _modal_trainer(runs_dir: Path) -> Trainer:
    from modal_backend import trainer

    return trainer(runs_dir)


@st.cache_resource(max_entries=2, show_spinner=False)
def _backend(artifact: Path, stamp: tuple[int, ...], max_bytes: int, max_duration_s: float) -> Backend:
    from core.backend import LocalBackend
    from core.classifier import Classifier
    from core.inference import leave_cores_free

    leave_cores_free()
    return LocalBackend(Classifier.from_artifact(artifact, limits=settings().limits))


def _stamp(folder: Path) -> tuple[int, ...]:
    """Modification times of the files in ``folder``: they tell when a cached reading of it is out of date."""
    try:
        return tuple(sorted(file.stat().st_mtime_ns for file in folder.iterdir()))
    except OSError:
        return ()


def classify(backend: Backend, sound: Sound) -> Prediction:
    """Raises ``AudioError`` for what is not a usable sound."""
    return _classify(backend.name, backend.manifest.fingerprint, sound.digest, _backend=backend, _sound=sound)


@st.cache_resource(max_entries=128, show_spinner=False)
def _classify(name: str, fingerprint: str, digest: str, *, _backend: Backend, _sound: Sound) -> Prediction:
    answer = _backend.classify([_sound.data])[0]
    if isinstance(answer, AudioError):
        raise answer
    return answer


def waveform(backend: Backend, sound: Sound) -> Waveform:
    """The sound as the model hears it."""
    return _waveform(backend.manifest.fingerprint, sound.digest, _backend=backend, _sound=sound)


@st.cache_resource(max_entries=4, show_spinner=False)  # ten minutes at 32 kHz are 77 MB
def _waveform(fingerprint: str, digest: str, *, _backend: Backend, _sound: Sound) -> Waveform:
    from core.audio import decode
    from core.backend import LocalBackend

    if isinstance(_backend, LocalBackend):
        return _backend.waveform(_sound.data)
    return decode(_sound.data, audio=_backend.manifest.audio, limits=settings().limits)


def explanation(
    backend: Backend,
    sound: Sound,
    *,
    label: str | None,
    window: int,
    timeline: bool = False,
    occlusion: bool = False,
) -> Explanation:
    """Why ``label``, or the window's own answer when ``None``."""
    key = (backend.name, backend.manifest.fingerprint, sound.digest, label, window, timeline, occlusion)
    return _explanation(*key, _backend=backend, _sound=sound)


@st.cache_resource(max_entries=24, show_spinner=False)  # about 3 MB each
def _explanation(
    name: str,
    fingerprint: str,
    digest: str,
    label: str | None,
    window: int,
    timeline: bool,
    occlusion: bool,
    *,
    _backend: Backend,
    _sound: Sound,
) -> Explanation:
    return _backend.explain(_sound.data, label=label, window=window, timeline=timeline, occlusion=occlusion)


def picture(backend: Backend, sound: Sound, window: int) -> bytes:
    """The whole result as PNG, explained at ``window``. Safe to call outside a script run, as downloads are."""
    from core.figures.picture import result_picture

    why = explanation(backend, sound, label=None, window=window)
    return result_picture(classify(backend, sound), waveform(backend, sound), why, palette=theme.palette())


def dataset() -> Dataset | None:
    """The configured dataset, or ``None`` where there is none yet. Raises ``DatasetError`` for a damaged one."""
    root = settings().data_dir
    meta = root / "meta"
    return _dataset(root, _stamp(meta)) if meta.is_dir() else None


@st.cache_resource(max_entries=2, show_spinner=False)
def _dataset(root: Path, stamp: tuple[int, ...]) -> Dataset:
    from core.dataset import load_dataset

    return load_dataset(root, clips_per_class=1)  # to listen, not to train


def samples(dataset: Dataset) -> dict[str, list[Clip]]:
    """A few clips of each class, by class name."""
    from core.dataset import sample_clips

    by_class: dict[str, list[Clip]] = {name: [] for name in dataset.class_names}
    for clip in sample_clips(dataset, per_class=TAKES):
        by_class[clip.label].append(clip)
    return by_class


def read_sample(clip: Clip) -> Sound:
    """Raises ``DatasetError`` when the clip's file has gone."""
    try:
        return Sound.of(clip.filename, clip.path.read_bytes(), truth=clip.label)
    except OSError as exc:
        raise DatasetError(
            f"Expected the clip {clip.filename} in the dataset, but it cannot be read ({exc.strerror}). "
            "Restore the dataset folder, or choose another clip.",
            code="unreadable_clip",
        ) from exc


def clip_sound(clip_id: str) -> Sound | None:
    """The sound of a record: a clip of the configured dataset, or one kept with the log; else ``None``.

    Raises ``StoreError``.
    """
    clip = dataset_clip(clip_id)
    if clip is not None:
        return clip
    kept = store().sound(clip_id)
    return None if kept is None else Sound.of(clip_id, kept)


def dataset_clip(clip_id: str) -> Sound | None:
    """The clip of that file name in the configured dataset, or ``None``; no name reaches out of its folder."""
    path = settings().data_dir / "audio" / clip_id
    if PurePath(clip_id).name != clip_id or not path.is_file():
        return None
    return Sound.of(clip_id, path.read_bytes())


def network(artifact: Path) -> LocalBackend:
    """A network of this machine, asked for explanations beside the one that answers. Raises ``ArtifactError``."""
    return _network(artifact, _stamp(artifact))


@st.cache_resource(max_entries=8, show_spinner=False)  # 5 MB each
def _network(artifact: Path, stamp: tuple[int, ...]) -> LocalBackend:
    from core.backend import LocalBackend
    from core.classifier import Classifier
    from core.inference import leave_cores_free

    leave_cores_free()
    return LocalBackend(Classifier.from_artifact(artifact, limits=settings().limits))


def members(run: Path) -> dict[tuple[int | None, int], Path]:
    """(held-out fold, seed) → artifact, of the networks of a run that are still there."""
    return _members(run, _stamp(run / "members"))


@st.cache_resource(max_entries=8, show_spinner=False)
def _members(run: Path, stamp: tuple[int, ...]) -> dict[tuple[int | None, int], Path]:
    from core.training.runs import networks

    return networks(run)


def reference(artifact: Path) -> pd.DataFrame | None:
    """The training clips as the network of ``artifact`` hears them; ``None`` where none were saved with it."""
    return network(artifact).classifier.reference


def download_dataset(progress: Callable[[int, int | None], None]) -> Path:
    """Fetch ESC-10 into the configured folder and check it. Raises ``EarshotError`` when either fails."""
    from core.download import download

    return download("esc10", settings().data_dir, progress=progress)


SHIPPED, LOG, RUN = "shipped", "log", "run:"  # sources of records, as they stand in a URL; a run's name follows RUN
LOG_LAST = 100_000  # newest logged predictions that diagnostics read


def record_sources() -> list[str]:
    """What diagnostics can read here, the shipped cross-validation first."""
    runs = sorted((path.parent.name for path in settings().runs_dir.glob("*/oof.parquet")), reverse=True)
    return [SHIPPED, LOG, *(RUN + name for name in runs)]


def records(source: str) -> RecordSet:
    """Records of one of ``record_sources``; read again when they change. Raises ``EarshotError``."""
    if source == LOG:
        return _log_records(settings().artifact, _stamp(settings().artifact), settings().database, store().version())
    folder = run_folder(source)
    if folder is None:
        raise RecordsError(f"Expected records of {SHIPPED}, {LOG} or {RUN}NAME, got {source!r}.", code="no_records")
    return _run_records(folder, _stamp(folder))


def run_folder(source: str) -> Path | None:
    """The run that a source of records is, or ``None`` for the log and for uploads."""
    if source == SHIPPED:
        return SHIPPED_RUN
    folder = settings().runs_dir / source.removeprefix(RUN)
    return folder if source.startswith(RUN) and folder.parent == settings().runs_dir else None


@st.cache_resource(max_entries=4, show_spinner="Reading the records…")
def _run_records(folder: Path, stamp: tuple[int, ...]) -> RecordSet:
    from core.sources import of_run

    return of_run(folder)


@st.cache_resource(max_entries=2, show_spinner="Reading the prediction log…")
def _log_records(artifact: Path, stamp: tuple[int, ...], url: str, version: tuple[int, int]) -> RecordSet:
    from core.artifact import read_manifest
    from core.sources import of_log

    return of_log(store(), read_manifest(artifact), last=LOG_LAST)


@dataclass(frozen=True)
class RecordsFile:
    """A Parquet file that a person gave. Equal bytes have equal ``digest``s."""

    name: str
    data: bytes = field(repr=False)
    digest: str

    @classmethod
    def of(cls, name: str, data: bytes) -> RecordsFile:
        return cls(name, data, hashlib.sha256(data).hexdigest())


def uploaded_records(file: RecordsFile, class_names: tuple[str, ...] = ()) -> RecordSet:
    """``class_names`` in the order of the logits; empty: as the file says. Raises ``RecordsError``."""
    return _uploaded_records(file.digest, file.name, class_names, _file=file)


@st.cache_resource(max_entries=4, show_spinner="Reading the records…")
def _uploaded_records(digest: str, name: str, class_names: tuple[str, ...], *, _file: RecordsFile) -> RecordSet:
    from core.sources import of_bytes

    return of_bytes(_file.data, title=name, class_names=class_names or None)


def comparison(records: RecordSet, other: RecordSet) -> Comparison:
    """Whether the other network answers the same clips better. Raises ``RecordsError``."""
    return _comparison(records.digest, other.digest, _a=records, _b=other)


@st.cache_resource(max_entries=16, show_spinner="Comparing…")
def _comparison(digest_a: str, digest_b: str, *, _a: RecordSet, _b: RecordSet) -> Comparison:
    from core.diagnostics.classification import compare

    return compare(_a, _b)


def protocol(records: RecordSet, source: str) -> str:
    """How held-out answers came about, in words: as the run says, or as far as the records tell."""
    folder = run_folder(source)
    if folder is not None and (said := _run_protocol(folder, _stamp(folder))):
        return said
    folds = records.table["fold"].nunique()
    return f"{folds} folds; nothing more is known" if folds > 1 else "no folds: answers as they were given"


@st.cache_data(max_entries=16, show_spinner=False)
def _run_protocol(folder: Path, stamp: tuple[int, ...]) -> str:
    from core.errors import EarshotError
    from core.training.runs import RunFolder

    try:
        return str(RunFolder(folder).metrics().get("protocol", ""))
    except EarshotError:
        return ""


def computed(
    compute: Callable[Concatenate[RecordSet, P], T], records: RecordSet, *args: P.args, **kwargs: P.kwargs
) -> T:
    """``compute(records, …)``, once for equal records and equal plain arguments. Do not change what it returns."""
    named = tuple(sorted(kwargs.items()))
    return _computed(
        f"{compute.__module__}.{compute.__qualname__}", records.digest, args, named, _of=(compute, records)
    )


@st.cache_resource(max_entries=128, show_spinner="Counting…")
def _computed(name: str, digest: str, args: tuple[Any, ...], named: tuple[Any, ...], *, _of: tuple[Any, Any]) -> Any:
    compute, records = _of
    return compute(records, *args, **dict(named))


def scaled(records: RecordSet) -> RecordSet:
    """The records after temperature, also where they are answered without one."""
    from core.recordset import temperature_scaled

    return computed(temperature_scaled, records)


def unscaled(records: RecordSet) -> RecordSet:
    """The records before temperature."""
    from core import recordset

    return computed(recordset.unscaled, records)


def store() -> Store:
    """The database of predictions. Raises ``StoreError``."""
    return _store(settings().database)


@st.cache_resource(max_entries=2, show_spinner=False, on_release=lambda store: store.close())
def _store(url: str) -> Store:
    from core.store import Store

    return Store.open(url)


def trainers() -> dict[Where, Trainer]:
    """Where training can run: on this machine, and on Modal where its client is set up."""
    from core.jobs import LocalTrainer

    runs_dir = settings().runs_dir
    here: dict[Where, Trainer] = {"local": LocalTrainer(runs_dir)}
    return here | {"modal": _modal_trainer(runs_dir)} if modal_is_set_up() else here


def jobs() -> list[Job]:
    """Every training job, the latest first, looked at: dead ones are noticed, waiting ones start, remote ones asked."""
    from core.jobs import jobs_in

    for trainer in trainers().values():
        trainer.jobs()
    return jobs_in(settings().runs_dir)


def administration(guard: Guard) -> Administration:
    """What an admin can do, for whoever passes ``guard``."""
    from core.administration import Administration

    return Administration(guard, store(), trainers(), settings().runs_dir)


@st.cache_resource(max_entries=1_000, show_spinner=False)
def note_sign_in(who: str, issued: str, outcome: str) -> int:
    """Write down a sign-in at the identity provider, once: every visit brings it again. Raises ``StoreError``."""
    from app.auth import PROVIDER

    return store().begin_action(who, "sign in", PROVIDER, outcome=outcome)


def gate() -> Gate:
    """The one door for admin tokens of this server."""
    from core.admin import admin_token

    admin_token(settings())
    return _gate()


@st.cache_resource(max_entries=1, show_spinner=False)
def _gate() -> Gate:
    from core.admin import Gate, admin_token

    return Gate(lambda: admin_token(settings()))


def starting_model() -> Path:
    """What adapting goes on from."""
    from core.served import starting_point

    return starting_point(settings())


def adaptation_plan(base: Dataset) -> Plan:
    """Which own sounds could be learnt beside ``base``; made again when either has changed."""
    return _adaptation_plan(base.content_hash, settings().database, store().version(), _base=base)


@st.cache_resource(max_entries=2, show_spinner="Looking through the log…")
def _adaptation_plan(base: str, database: str, version: tuple[int, int], *, _base: Dataset) -> Plan:
    from core.adaptation import plan

    return plan(store(), _base, none_of_the_classes=NONE_OF_THE_CLASSES)


def manifest() -> Manifest:
    """The facts of the model that answers, without loading it. Raises ``ArtifactError``."""
    return _manifest_of(settings().artifact)


def _manifest_of(artifact: Path) -> Manifest:
    return _manifest(artifact, _stamp(artifact))


@st.cache_resource(max_entries=4, show_spinner=False)
def _manifest(artifact: Path, stamp: tuple[int, ...]) -> Manifest:
    from core.artifact import read_manifest

    return read_manifest(artifact)


def fingerprint() -> str:
    """Of the model that answers."""
    return manifest().fingerprint


def datasets() -> list[Path]:
    """Where datasets to train on are known to be: the configured one first."""
    from core.adaptation import DATASETS

    own = sorted(file.parent.parent for file in (settings().runs_dir / DATASETS).glob("[!.]*/meta/esc50.csv"))
    return [settings().data_dir, *own]


def layout(root: Path) -> Layout:
    """What the table of the dataset at ``root`` says; read again when it changes. Raises ``DatasetError``."""
    return _layout(root, _stamp(root / "meta"))


@st.cache_resource(max_entries=8, show_spinner=False)
def _layout(root: Path, stamp: tuple[int, ...]) -> Layout:
    from core.dataset import peek

    return peek(root)


def runs() -> list[RunFacts]:
    """Every training run here, what moved last first, then the one that the shipped model comes from."""
    from core.training.overview import run_facts, runs_in

    if settings().runs_dir.is_dir():
        jobs()
    shipped = replace(run_facts(SHIPPED_RUN), name=SHIPPED, fingerprint=_manifest_of(SHIPPED_ARTIFACT).fingerprint)
    return [*runs_in(settings().runs_dir), shipped]


def source_of(run: str) -> str:
    """Where the records of a run named as in ``runs`` are: one of ``record_sources``."""
    return SHIPPED if run == SHIPPED else RUN + run


def training_curves(folder: Path) -> DataFrame:
    """``member, epoch, metric, value``; read again when the run has written more."""
    from core.training.curves import stamp

    return _training_curves(folder, stamp(folder))


@st.cache_data(max_entries=16, show_spinner=False)
def _training_curves(folder: Path, stamp: tuple[tuple[str, int], ...]) -> DataFrame:
    from core.training.curves import read_curves

    return read_curves(folder)


def training_confusions(folder: Path) -> DataFrame:
    """``member, epoch, true, predicted, n``; read again when the run has written more."""
    from core.training.curves import stamp

    return _training_confusions(folder, stamp(folder))


@st.cache_data(max_entries=16, show_spinner=False)
def _training_confusions(folder: Path, stamp: tuple[tuple[str, int], ...]) -> DataFrame:
    from core.training.curves import read_confusions

    return read_confusions(folder)


def own_run() -> str:
    """The record source that holds the held-out clips of the model that answers; the shipped one for any other."""
    artifact = settings().artifact.resolve()
    own = RUN + artifact.parent.name
    is_ours = artifact.name == "artifact" and artifact.parent.parent == settings().runs_dir.resolve()
    return own if is_ours and own in record_sources() else SHIPPED


def drift(reference: RecordSet, current: RecordSet) -> DriftReport:
    """The comparison, the same for equal records."""
    return _drift(reference.digest, current.digest, _pair=(reference, current))


@st.cache_resource(max_entries=32, show_spinner="Comparing…")
def _drift(reference: str, current: str, *, _pair: tuple[RecordSet, RecordSet]) -> DriftReport:
    import numpy as np

    from core.diagnostics.drift import compare

    return compare(*_pair, rng=np.random.default_rng(0))


def drift_distributions(reference: RecordSet, current: RecordSet) -> DataFrame:
    """One row a descriptor, set and bin. Do not change it."""
    return _drift_distributions(reference.digest, current.digest, _pair=(reference, current))


@st.cache_resource(max_entries=16, show_spinner=False)
def _drift_distributions(reference: str, current: str, *, _pair: tuple[RecordSet, RecordSet]) -> DataFrame:
    from core.diagnostics.drift_tables import distribution_table

    return distribution_table(*_pair)


def drift_days(reference: RecordSet, current: RecordSet) -> DataFrame:
    """One row a day with its verdict. Do not change it."""
    return _drift_days(reference.digest, current.digest, _pair=(reference, current))


@st.cache_resource(max_entries=16, show_spinner="Comparing day by day…")
def _drift_days(reference: str, current: str, *, _pair: tuple[RecordSet, RecordSet]) -> DataFrame:
    import numpy as np

    from core.diagnostics.drift_tables import over_time

    return over_time(*_pair, rng=np.random.default_rng(0))


@st.cache_resource(max_entries=8, show_spinner=False)
def demo_records(condition: str) -> RecordSet:
    """Clips degraded on purpose, as the shipped model answered them. Raises ``RecordsError``."""
    from core.drift_demo import recorded_demo

    return recorded_demo(condition)


@st.cache_resource(max_entries=1, show_spinner=False)
def demo_reference() -> RecordSet:
    """All clips of the demo as recorded, answered by the same model."""
    from core.drift_demo import recorded_reference

    return recorded_reference()


@dataclass(frozen=True)
class HeardFiles:
    """Records of the files that are sounds, out of ``n_names``, and why the others are not, counted."""

    records: RecordSet
    n_names: int
    left_out: tuple[tuple[str, int], ...]


def heard_files(
    backend: Backend, files: Sequence[tuple[str, bytes]], digest: str, progress: Callable[[int, int], None]
) -> HeardFiles:
    """Answers to the sounds among ``files`` and in the zips among them; the same files are heard once.

    Raises ``RecordsError`` for a zip that cannot be opened, ``LimitError`` for too much.
    """
    from core.dropped import of_upload

    kept = _heard_files(backend.manifest.fingerprint, digest)
    if not kept:
        found = of_upload(files, max_bytes=settings().max_bytes)
        sounds = ((file.name, file.read()) for file in found.files)
        answers, refused = _hear(backend, sounds, len(found.files), progress)
        left_out = tuple((Counter(dict(found.left_out)) + refused).most_common())
        kept.append(HeardFiles(_as_records(answers, backend, f"{len(answers):,} sounds"), found.n_names, left_out))
    return kept[0]


@st.cache_resource(max_entries=4, show_spinner=False)
def _heard_files(fingerprint: str, digest: str) -> list[HeardFiles]:
    """A place for one result, filled outside: what draws progress cannot be cached."""
    return []


def degraded_records(
    backend: Backend, dataset: Dataset, degrading: Degrading, progress: Callable[[int, int], None]
) -> RecordSet:
    """The demo's clips, degraded now and answered by the model that answers here; the same are heard once."""
    from core.audio import decode
    from core.drift_demo import degraded_sound, demo_clips
    from core.recordset import TRAINED_ON

    def waveform_of(data: bytes) -> tuple[Any, int]:
        wave = decode(data, audio=backend.manifest.audio, limits=settings().limits)
        return wave.samples, wave.sample_rate_hz

    kept = _degraded_records(backend.manifest.fingerprint, dataset.content_hash, degrading)
    if not kept:
        clips = demo_clips(dataset)
        sounds = ((clip.filename, degraded_sound(clip, degrading, waveform_of)) for clip in clips)
        answers, _ = _hear(backend, sounds, len(clips), progress)
        heard = _as_records(answers, backend, "degraded clips")
        known = demo_reference()
        if known.fingerprint == heard.fingerprint:
            heard.table[TRAINED_ON] = heard.table["name"].isin(known.table["clip_id"])
        kept.append(heard)
    return kept[0]


@st.cache_resource(max_entries=8, show_spinner=False)
def _degraded_records(fingerprint: str, dataset_hash: str, degrading: Degrading) -> list[RecordSet]:
    """As above."""
    return []


def _as_records(answers: Sequence[tuple[str, Prediction]], backend: Backend, title: str) -> RecordSet:
    from core.sources import of_answers

    return of_answers(answers, backend.manifest, title=title)


def _hear(
    backend: Backend, sounds: Iterable[tuple[str, bytes]], total: int, progress: Callable[[int, int], None]
) -> tuple[list[tuple[str, Prediction]], Counter[str]]:
    """Answers in order, a few sounds at a time; what is no usable sound is counted by reason."""
    answers: list[tuple[str, Prediction]] = []
    refused: Counter[str] = Counter()
    for done, batch in enumerate(batched(sounds, AT_ONCE)):
        progress(done * AT_ONCE, total)
        for (name, _), answer in zip(batch, backend.classify([data for _, data in batch]), strict=True):
            if isinstance(answer, AudioError):
                refused[REFUSED.get(answer.code, f"sounds that cannot be heard ({answer.code})")] += 1
            else:
                answers.append((name, answer))
    progress(total, total)
    return answers, refused


def batched(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` in order, the last one shorter."""
    rest = iter(things)
    while batch := list(islice(rest, size)):
        yield batch


def under_noise(source: str) -> DataFrame | None:
    """Answers to the clips of a run under noise and other damage; ``None`` where they were not asked.

    Raises ``RecordsError``.
    """
    folder = run_folder(source)
    return None if folder is None else _under_noise(folder, _stamp(folder))


@st.cache_resource(max_entries=4, show_spinner=False)
def _under_noise(folder: Path, stamp: tuple[int, ...]) -> DataFrame | None:
    from core.sources import robustness_of

    return robustness_of(folder)


def trained_on(records: RecordSet) -> Path | None:
    """The artifact whose network answered all ``records``, if its training clips are here to be mapped with them."""
    if not records.fingerprint or records.embedding is None or not len(records) or (records.table["fold"] != 0).any():
        return None
    for artifact in dict.fromkeys((settings().artifact, SHIPPED_ARTIFACT)):
        try:
            known = _training_clips(artifact, _stamp(artifact))
        except ArtifactError:
            continue
        if known is not None and known[0] == records.fingerprint and known[2] == records.embedding.shape[1]:
            return artifact
    return None


@st.cache_resource(max_entries=4, show_spinner=False)
def _training_clips(artifact: Path, stamp: tuple[int, ...]) -> tuple[str, DataFrame, int] | None:
    """Fingerprint of the model, its training clips, and how many numbers an embedding has."""
    from core.artifact import read_manifest, read_reference

    reference = read_reference(artifact)
    if reference is None or not len(reference):
        return None
    return read_manifest(artifact).fingerprint, reference, len(reference["embedding"].iloc[0])


@st.cache_resource(max_entries=4, show_spinner=False)
def _ground(artifact: Path, stamp: tuple[int, ...], method: Method) -> Ground | None:
    """The map of the training clips; t-SNE as kept beside the run that made the model, else drawn now."""
    from core.atlas import kept_training
    from core.diagnostics import maps

    known = _training_clips(artifact, stamp)
    if known is None:
        return None
    run = SHIPPED_RUN if artifact == SHIPPED_ARTIFACT else artifact.parent
    kept = kept_training(run, known[1]) if method == "t-SNE" else None
    return maps.ground(known[1], method, drawn=kept)


def map_on_training(records: RecordSet, method: Method) -> SoundMap | None:
    """``records`` added to the map of the clips that their network was trained on; ``None`` where there is none."""
    artifact = trained_on(records)
    return (
        None
        if artifact is None
        else _map_on_training(records.digest, artifact, _stamp(artifact), method, _records=records)
    )


@st.cache_resource(max_entries=32, show_spinner=False)
def _map_on_training(
    digest: str, artifact: Path, stamp: tuple[int, ...], method: Method, *, _records: RecordSet
) -> SoundMap | None:
    from core.diagnostics import maps

    ground = _ground(artifact, stamp, method)
    return None if ground is None else maps.added_to(ground, _records, method)


def map_spaces(records: RecordSet) -> list[str]:
    """What can be drawn of ``records``: on the map of the training clips, else on maps of their own."""
    from core.diagnostics import maps

    return maps.spaces(records) if map_on_training(records, "PCA") is None else [maps.TRAINING, maps.ANSWERS]


def sound_map(records: RecordSet, source: str, space: str, method: Method) -> SoundMap:
    """The map of one space of ``records``; of a run the t-SNE maps that are kept with it."""
    from core.diagnostics import maps

    if space == maps.TRAINING and (added := map_on_training(records, method)) is not None:
        return added
    folder = run_folder(source) if method == "t-SNE" else None
    kept = None if folder is None else _kept_map(folder, _stamp(folder), space, records.digest, _records=records)
    return kept or computed(maps.sound_map, records, space, method)


@st.cache_resource(max_entries=32, show_spinner=False)
def _kept_map(folder: Path, stamp: tuple[int, ...], space: str, digest: str, *, _records: RecordSet) -> SoundMap | None:
    from core.atlas import kept_map

    return kept_map(folder, _records, space)


def noise_scan(backend: Backend, sound: Sound) -> NoiseScan:
    """At which SNR the answer to ``sound`` flips. Raises ``AudioError``."""
    return _noise_scan(backend.manifest.fingerprint, sound.digest, _backend=backend, _sound=sound)


@st.cache_resource(max_entries=64, show_spinner=False)
def _noise_scan(fingerprint: str, digest: str, *, _backend: Backend, _sound: Sound) -> NoiseScan:
    from core.diagnostics.noise import scan_noise

    wave = waveform(_backend, _sound)
    return scan_noise(_backend.classify, wave.samples, wave.sample_rate_hz)


def shared_sound(clip_a: str, clip_b: str) -> SharedSound | None:
    """Whether the waveforms of two clips share stretches; ``None`` where a sound is not here or cannot be read."""
    a, b = clip_sound(clip_a), clip_sound(clip_b)
    return None if a is None or b is None else _shared_sound(a.digest, b.digest, _a=a, _b=b)


@st.cache_resource(max_entries=1_000, show_spinner=False)
def _shared_sound(digest_a: str, digest_b: str, *, _a: Sound, _b: Sound) -> SharedSound | None:
    from core.audio import decode
    from core.config import AudioConfig
    from core.diagnostics.duplicates import shared_sound

    audio, limits = AudioConfig(), settings().limits
    try:
        one, other = (decode(sound.data, audio=audio, limits=limits) for sound in (_a, _b))
    except AudioError:
        return None
    return shared_sound(one.samples, other.samples, audio.sample_rate_hz)


def tableau_size(choice: TableauChoice) -> int:
    """How many answers an export would hold. Raises ``EarshotError``."""
    from core.artifact import read_manifest

    fingerprint = read_manifest(settings().artifact).fingerprint
    logged = store().count(fingerprint, since=choice.since) if choice.window is not None else 0
    return sum(len(records(name)) for name in choice.runs) + logged


@dataclass(frozen=True)
class TableauChoice:
    """What to export: names of runs as ``record_sources`` has them, a window of the log, and for whose Tableau.

    ``since`` is the start of the ``window``, to the full hour; ``logged`` is how far the log went when the page was
    drawn. So what is downloaded is what was shown.
    """

    runs: tuple[str, ...]
    window: str | None
    since: datetime | None
    version: str
    logged: tuple[int, int] | None


def tableau_choice(runs: tuple[str, ...], window: str | None, since: datetime | None, version: str) -> TableauChoice:
    """These runs and this window of the log as it stands now."""
    return TableauChoice(runs, window, since, version, store().version() if window is not None else None)


def tableau_export(choice: TableauChoice, *, progress: Callable[[float, str], None]) -> Exported:
    """The export of ``choice``, made again when what it is of changes. Its files: ``tableau_file``, ``tableau_head``.

    Raises ``EarshotError``.
    """
    return _tableau_exports().of(*_tableau_made(choice, progress))


def tableau_file(choice: TableauChoice, name: str) -> bytes:
    """One file of the export, which is made again if it is gone: only a few are kept. Raises ``EarshotError``."""
    return _tableau_exports().read(*_tableau_made(choice), lambda done: done.file(name).read_bytes())


def tableau_head(choice: TableauChoice, name: str, rows: int) -> DataFrame:
    """The first rows of a CSV file of the export, as they stand in it. Raises ``EarshotError``."""
    return _tableau_exports().read(*_tableau_made(choice), lambda done: csv_head(done.file(name), rows))


def _tableau_made(
    choice: TableauChoice, progress: Callable[[float, str], None] = lambda share, what: None
) -> tuple[Hashable, Callable[[Path], Exported]]:
    """What the export of ``choice`` is known by, and how it is made."""
    given = settings()
    folders = [folder for name in choice.runs if (folder := run_folder(name)) is not None]
    stamps = tuple(_stamp(folder) for folder in (*folders, given.artifact))

    def make(out: Path) -> Exported:
        from core.tableau import gold_tables, hyper, sources
        from core.tableau.export import FORMATS, export

        window = None if choice.window is None else (choice.since, None)
        return export(
            sources.parts(folders, window, given, store=store() if choice.window else None),
            out,
            formats=FORMATS if hyper.available() else ("csv",),
            hyper_version=choice.version,
            gold=gold_tables.served(given.artifact, given.data_dir),
            progress=progress,
        )

    return (choice, stamps, given.database), make


@st.cache_resource(max_entries=1, show_spinner=False, on_release=lambda exports: exports.close())
def _tableau_exports() -> KeptExports:
    from core.tableau.export import KeptExports

    return KeptExports()


def csv_head(path: Path, rows: int) -> DataFrame:
    """The first rows of a table that this app exported, as they stand in it: text that looks like a number is text."""
    return _csv_head(path, path.stat().st_mtime_ns, rows)


@st.cache_data(max_entries=32, show_spinner=False)
def _csv_head(path: Path, stamp: int, rows: int) -> DataFrame:
    import pandas as pd

    from core.tableau import schema

    text = {column.name: "str" for column in schema.BY_NAME[path.stem].columns if column.kind == "text"}
    return pd.read_csv(path, nrows=rows, keep_default_na=False, na_values=[""], dtype=text)
