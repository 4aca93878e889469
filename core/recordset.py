"""Many answers of one model, checked and ready for diagnostics: one type for held-out clips, logs and foreign files.

A records file is Parquet with these columns, one row an answer:

    clip_id       text     which sound
    fold          integer  fold that was held out; 0 in logs
    source_group  text     recording the clip was cut from (null or empty: the clip); clips of one are not independent
    label         text     true class; empty or null where nobody knows
    logits        list of float32, one a class, uncalibrated
    embedding     list of float32 (optional)
    seed          integer  (optional) which of several networks answered
    duration_s    float64  (optional) length of the sound
    quality       text     (optional) codes of the warnings of ``core.quality``, with spaces between
    descriptors   float64  (optional) any of ``core.descriptors.NAMES``

Class names, in the order of the logits, stand in the file's metadata under ``class_names`` as JSON, or are given by
the caller; without either they are the sorted labels, if there are as many as logits, or the shipped model's classes,
whichever the labels agree with more often. ``fingerprint`` in the metadata, where it stands, is that of the model that
answered: records of one model compare in more ways.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.calibration import nested_temperatures
from core.errors import RecordsError
from core.inference import softmax
from core.parquet import write_parquet
from core.unknown import UnknownRule

Floats = NDArray[np.float64]
REQUIRED = ("clip_id", "fold", "source_group", "label", "logits")
VECTORS = ("logits", "embedding")
CLASS_NAMES_KEY, FINGERPRINT_KEY = b"class_names", b"fingerprint"
TRAINED_ON = "trained_on"  # column: whether the answering network learnt from the very clip
UNLABELLED = -1
MOST_TO_FIT = 20_000  # records that a temperature is fitted on: its standard error is then under 1 %
# What diagnostics add to a record; ``frame`` has these columns, then descriptors and whatever else came with it.
FRAME_COLUMNS = (
    "clip_id",
    "fold",
    "seed",
    "source_group",
    "label",
    "predicted",
    "correct",
    "confidence",
    "raw_confidence",
    "true_probability",
    "entropy",
    "margin",
    "unknown",
    "unknown_score",
)


@dataclass(frozen=True)
class RecordSet:
    """N answers of one model over K classes.

    ``table`` has N rows, indexed 0 … N − 1, of everything but logits and embeddings; ``label`` is missing where nobody
    knows. ``logits`` (N, K) are raw; ``temperatures`` (N,) divide them, each fitted without the record's own fold.
    ``notes`` say in words what was left out while reading and why.
    """

    title: str
    class_names: tuple[str, ...]
    table: pd.DataFrame
    logits: NDArray[np.float32]
    embedding: NDArray[np.float32] | None
    temperatures: Floats
    unknown_rule: UnknownRule | None = None
    conformal_quantile: float | None = None
    fingerprint: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> RecordSet:
        """The records at ``chosen`` (a mask or positions), in that order; what was computed of them is kept."""
        taken = replace(
            self,
            table=self.table.loc[chosen].reset_index(drop=True)
            if chosen.dtype == bool
            else self.table.iloc[chosen].reset_index(drop=True),
            logits=self.logits[chosen],
            embedding=None if self.embedding is None else self.embedding[chosen],
            temperatures=self.temperatures[chosen],
        )
        for name in ("raw_probabilities", "probabilities", "targets"):
            if name in self.__dict__:
                taken.__dict__[name] = self.__dict__[name][chosen]
        return taken

    def labelled(self) -> RecordSet:
        """Only the records whose true class is known."""
        return self if self.is_labelled.all() else self.take(self.is_labelled)

    def by_seed(self) -> dict[int, RecordSet]:
        """One set for each network that answered; the same clips in each."""
        seeds = self.table["seed"].to_numpy()
        found = np.unique(seeds).tolist()
        return {int(found[0]): self} if len(found) == 1 else {int(seed): self.take(seeds == seed) for seed in found}

    @property
    def n_clips(self) -> int:
        """Different sounds; several seeds that answer for one clip are one piece of evidence."""
        return int(self.table["clip_id"].nunique()) if self.table["seed"].nunique() > 1 else len(self)

    @cached_property
    def digest(self) -> str:
        """Of everything that diagnostics read: equal records have equal digests. What caches know records by."""
        facts = hashlib.sha256(repr((self.title, self.class_names, self.fingerprint, self.conformal_quantile)).encode())
        facts.update(repr(tuple(self.table.columns)).encode())
        facts.update(pd.util.hash_pandas_object(self.table, index=False).to_numpy().tobytes())
        for array in (self.logits, self.embedding, self.temperatures):
            if array is not None:
                facts.update(np.ascontiguousarray(array).data)
        return facts.hexdigest()

    @cached_property
    def targets(self) -> NDArray[np.int64]:
        """True class indices (N,); ``UNLABELLED`` where nobody knows."""
        return np.asarray(pd.Categorical(self.table["label"], categories=list(self.class_names)).codes, dtype=np.int64)

    @cached_property
    def is_labelled(self) -> NDArray[np.bool_]:
        return self.targets != UNLABELLED

    @cached_property
    def is_scaled(self) -> bool:
        """Whether answers are given after a temperature."""
        return bool((self.temperatures != 1).any())

    @cached_property
    def raw_probabilities(self) -> Floats:
        """(N, K), before temperature."""
        return softmax(self.logits)

    @cached_property
    def probabilities(self) -> Floats:
        """(N, K), after temperature."""
        if not self.is_scaled:
            return self.raw_probabilities
        return softmax(np.asarray(self.logits / self.temperatures[:, None]))

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """Most probable class (N,)."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64) if len(self) else np.zeros(0, dtype=np.int64)

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """(N,); False where the true class is not known: ask ``labelled()`` first."""
        return np.asarray(self.predicted == self.targets)

    @cached_property
    def confidence(self) -> Floats:
        """Top probability after temperature, (N,)."""
        return self.probabilities.max(axis=1) if len(self) else np.zeros(0)

    @cached_property
    def raw_confidence(self) -> Floats:
        """Top probability before temperature, (N,)."""
        return self.raw_probabilities.max(axis=1) if len(self) else np.zeros(0)

    def frame(self) -> pd.DataFrame:
        """One row a record: ``FRAME_COLUMNS``, then descriptors and everything else of ``table``.

        ``entropy`` in nats; ``correct`` and ``true_probability`` are missing where the true class is not known.
        Computed once; what a caller changes is its own copy.
        """
        return self._frame.copy(deep=False)  # pandas copies on write

    @cached_property
    def _frame(self) -> pd.DataFrame:
        p = self.probabilities
        ordered = np.sort(p, axis=1)
        names = np.asarray(self.class_names, dtype=object)
        rows = np.arange(len(self))
        known = self.is_labelled
        added = pd.DataFrame(
            {
                "predicted": names[self.predicted],
                "correct": pd.arrays.BooleanArray(self.correct.copy(), ~known),
                "confidence": self.confidence,
                "raw_confidence": self.raw_confidence,
                "true_probability": np.where(known, p[rows, self.targets], np.nan),
                "entropy": -(p * np.log(p.clip(1e-300))).sum(axis=1),
                "margin": ordered[:, -1] - ordered[:, -2],
            }
        )
        table = self.table.drop(columns=[c for c in added if c in self.table])
        whole = pd.concat([table, added], axis=1)
        for column in FRAME_COLUMNS:
            if column not in whole:
                whole[column] = pd.NA
        rest = [column for column in whole if column not in FRAME_COLUMNS]
        return whole[[*FRAME_COLUMNS, *rest]]


def record_set(
    table: pd.DataFrame,
    *,
    title: str,
    class_names: Sequence[str],
    temperature: float | None = None,
    embedding: NDArray[np.float32] | None = None,
    logits: NDArray[np.float32] | None = None,
    keep_other_labels: bool = False,
    **facts: Any,
) -> RecordSet:
    """Check ``table`` and make records of it; rows that cannot be used are left out, counted and told in ``notes``.

    ``logits`` and ``embedding`` are columns of ``table`` unless given as arrays. ``temperature`` applies to every
    record; ``None`` fits one on the other folds for each fold (1 where there is a single fold or nothing to fit on).
    Records labelled as none of the classes are left out, or with ``keep_other_labels`` kept without a true class, and
    their label becomes the column ``other_label``.
    Raises ``RecordsError`` for missing columns or when nothing usable is left of a table that had rows.
    """
    _check_columns([*table.columns, *([] if logits is None else ["logits"])])
    names = tuple(class_names)
    if len(set(names)) != len(names) or len(names) < 2:
        raise RecordsError(f"Expected at least two different class names, got {list(names)}.", code="bad_classes")
    usable = np.ones(len(table), dtype=bool)
    notes: list[str] = []
    if logits is None:
        logits, fits = _stacked(table["logits"], len(names))
        usable &= _note(fits, f"whose logits are not {len(names)} numbers, one a class", notes)
    elif logits.shape[1:] != (len(names),):
        raise RecordsError(
            f"Expected {len(names)} logits a record, one a class ({', '.join(names)}), got {logits.shape[1]}. "
            "Give the class names in the order of the logits.",
            code="class_count",
        )
    usable &= _note(np.isfinite(logits).all(axis=1) | ~usable, "with logits that are not finite", notes)
    label = _labels(table["label"])
    known = label.isna().to_numpy() | label.isin(names).to_numpy()
    other = label.where(~known)
    if keep_other_labels:
        label = label.where(known)
        if others := int(other.notna().sum()):
            notes.append(
                f"{others:,} of {len(label):,} records labelled as none of the classes: unknown sounds, which no "
                "accuracy counts"
            )
    else:
        usable &= _note(known, "with a label that is no class", notes)
    if embedding is None and "embedding" in table:
        counts = _lengths(table["embedding"])
        width = max(counts, key=lambda n: (counts[n], -n), default=0)  # the commonest; of equally many, the shorter
        if width:
            embedding, fits = _stacked(table["embedding"], width)
            usable &= _note(fits, "with an embedding of another length", notes)
        elif table["embedding"].notna().any():
            notes.append("the column embedding holds no lists of numbers, and is left aside")
    whole = {}
    for column in ("fold", "seed"):
        given = table[column] if column in table else pd.Series(0, index=table.index)
        whole[column], fits = _whole(given)
        usable &= _note(fits, f"with a {column} that is no whole number", notes)
    if len(table) and not usable.any():
        raise RecordsError(f"None of the {len(table):,} records can be used: {'; '.join(notes)}.", code="no_records")
    recording = table["source_group"].astype("str")
    plain = table.drop(columns=[c for c in VECTORS if c in table]).assign(
        label=label,
        clip_id=table["clip_id"].astype("str"),
        source_group=recording.mask(recording == "").fillna(table["clip_id"].astype("str")),
        **whole,
    )
    if keep_other_labels:
        plain["other_label"] = other.to_numpy()
    built = RecordSet(
        title=title,
        class_names=names,
        table=plain.reset_index(drop=True),
        logits=np.ascontiguousarray(logits, dtype=np.float32),
        embedding=embedding,
        temperatures=np.full(len(table), 1.0 if temperature is None else temperature),
        notes=tuple(notes),
        **facts,
    )
    if not usable.all():
        built = built.take(usable)
    return built if temperature is not None else with_nested_temperatures(built)


def with_nested_temperatures(records: RecordSet) -> RecordSet:
    """Each record scaled by the temperature of the *other* folds; unchanged where there is a single fold."""
    folds = records.table["fold"].to_numpy()
    known = records.labelled()
    if len(np.unique(known.table["fold"])) < 2:
        return records
    if len(known) > MOST_TO_FIT:
        known = known.take(np.random.default_rng(0).choice(len(known), MOST_TO_FIT, replace=False))
    by_fold = nested_temperatures(known.logits, known.targets, known.table["fold"].to_numpy())
    found, inverse = np.unique(folds, return_inverse=True)
    return replace(records, temperatures=np.array([by_fold.get(int(fold), 1.0) for fold in found])[inverse])


def temperature_scaled(records: RecordSet) -> RecordSet:
    """As answered where that is with a temperature; else each fold scaled by one fitted on the others."""
    return records if records.is_scaled else with_nested_temperatures(records)


def unscaled(records: RecordSet) -> RecordSet:
    """The same at temperature 1, without the conformal quantile, which was fitted on another scale."""
    if not records.is_scaled:
        return records
    return replace(records, temperatures=np.ones(len(records)), conformal_quantile=None)


def scale_in_words(records: RecordSet) -> str:
    """On which scale the confidence of these records is."""
    if not records.is_scaled:
        return "as answered, at temperature 1"
    found = np.unique(records.temperatures)
    if len(found) == 1:
        return f"after the temperature {found[0]:.2f}"
    return f"after temperature, each fold's fitted on the other folds ({found[0]:.2f} to {found[-1]:.2f})"


def read_records(
    file: Path | bytes,
    *,
    class_names: Sequence[str] | None = None,
    fallback_names: Sequence[str] = (),
    with_embedding: bool = True,
    title: str | None = None,
    **facts: Any,
) -> RecordSet:
    """Records of a Parquet file with the columns above, or of its bytes. Raises ``RecordsError``.

    ``fallback_names`` are tried before the sorted labels where neither the caller nor the file names the classes.
    """
    try:
        schema = pq.read_schema(_readable(file))
        if len(set(schema.names)) != len(schema.names):
            raise RecordsError("Expected columns with different names, got some twice.", code="missing_columns")
        wanted = [name for name in schema.names if with_embedding or name != "embedding"]
        columns = pq.read_table(_readable(file), columns=wanted)
    except (OSError, pa.ArrowException) as exc:
        raise RecordsError(
            f"Expected a Parquet file of records{f' at {file}' if isinstance(file, Path) else ''}, it cannot be read "
            f"({exc}). Give a run folder or a file with the columns {', '.join(REQUIRED)}.",
            code="unreadable_records",
        ) from exc
    vectors = {name: _matrix(columns[name]) for name in VECTORS if name in columns.column_names}
    even = {name: matrix for name, matrix in vectors.items() if matrix is not None}
    table = columns.drop_columns(list(even)).to_pandas()
    _check_columns([*table.columns, *even])
    names = class_names or _names_in(schema) or _guess(table, even.get("logits"), fallback_names)
    stored = (schema.metadata or {}).get(FINGERPRINT_KEY, b"").decode(errors="replace")
    facts = {"fingerprint": stored} | facts
    return record_set(
        table,
        title=title or (file.name if isinstance(file, Path) else "records"),
        class_names=names,
        logits=even.get("logits"),
        embedding=even.get("embedding"),
        **facts,
    )


def write_records(
    file: Path | io.BytesIO, table: pd.DataFrame, class_names: Sequence[str], *, fingerprint: str = ""
) -> None:
    """Write records with their class names and their model's fingerprint; ``table`` has the columns above."""
    columns = pa.Table.from_pandas(table, preserve_index=False)
    metadata = (columns.schema.metadata or {}) | {CLASS_NAMES_KEY: json.dumps(list(class_names)).encode()}
    if fingerprint:
        metadata[FINGERPRINT_KEY] = fingerprint.encode()
    write_parquet(file, columns.replace_schema_metadata(metadata))


def _check_columns(found: Sequence[str]) -> None:
    missing = [column for column in REQUIRED if column not in found]
    if missing:
        raise RecordsError(
            f"Expected the columns {', '.join(REQUIRED)}, but {', '.join(missing)} {_is_are(missing)} missing. "
            f"Found: {', '.join(map(str, found)) or 'none'}.",
            code="missing_columns",
        )


def _readable(file: Path | bytes) -> Path | io.BytesIO:
    return io.BytesIO(file) if isinstance(file, bytes) else file


def _names_in(schema: pa.Schema) -> tuple[str, ...] | None:
    stored = (schema.metadata or {}).get(CLASS_NAMES_KEY)
    if not stored:
        return None
    try:
        names = json.loads(stored)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RecordsError(
            f"Expected a JSON list of names in the file's metadata under class_names, got {stored[:80]!r}. "
            "Correct it or give --classes.",
            code="bad_classes",
        )
    return tuple(names)


def _lengths(lists: pd.Series[Any]) -> Counter[int]:
    """How many records have how many numbers in a column of lists; those without any do not count."""
    return Counter(len(row) for row in lists if _is_row(row) and len(row))


def _several(table: pd.DataFrame) -> str:
    counts = _lengths(table["logits"]) if "logits" in table else Counter[int]()
    told = " and ".join(f"{length} in {records:,} records" for length, records in counts.most_common(3))
    return f" and logits of several lengths, {told}" if len(counts) > 1 else ""


def _guess(table: pd.DataFrame, logits: NDArray[np.float32] | None, fallback_names: Sequence[str]) -> tuple[str, ...]:
    labels = _in_order(set(_labels(table["label"]).dropna())) if "label" in table else []
    if logits is not None:
        width = logits.shape[1]
    elif "logits" in table and len(table):
        counts = _lengths(table["logits"])  # the commonest; of equally many, what has names
        width = (
            max(counts, key=lambda n: (counts[n], n in (len(fallback_names), len(labels)))) if counts else len(labels)
        )
    else:
        width = len(labels)
    if not len(table) and fallback_names:
        return tuple(fallback_names)  # nothing says otherwise
    orders = [tuple(fallback_names)] if len(fallback_names) == width and set(labels) <= set(fallback_names) else []
    orders += [tuple(labels)] if len(labels) == width else []
    if not orders and len(fallback_names) == width and _named(table, fallback_names) > 0.5:
        return tuple(fallback_names)  # the others are labels of no class, left out and counted
    if orders:  # where both fit, the order in which the answers agree with the labels more often
        return orders[0] if len(orders) == 1 or logits is None else max(orders, key=partial(_agreement, table, logits))
    raise RecordsError(
        f"Expected the names of {width} classes in the order of the logits, and the records have {len(labels)} "
        f"different labels{_several(table)}. Give --classes, or store them as JSON in the file's metadata under "
        "class_names.",
        code="no_class_names",
    )


def _named(table: pd.DataFrame, names: Sequence[str]) -> float:
    """Share of the labelled records whose label is among ``names``."""
    labels = _labels(table["label"]).dropna()
    return float(labels.isin(names).mean()) if len(labels) else 0.0


def _agreement(table: pd.DataFrame, logits: NDArray[np.float32], names: tuple[str, ...]) -> float:
    """Share of records whose largest logit is their label's, if ``names`` are in the order of the logits."""
    return float((np.asarray(names, dtype=object)[logits.argmax(axis=1)] == _labels(table["label"])).mean())


def _in_order(labels: set[str]) -> list[str]:
    """Sorted as numbers where all are numbers, else as text."""
    try:
        return sorted(labels, key=float)
    except ValueError:
        return sorted(labels)


def _matrix(column: pa.ChunkedArray) -> NDArray[np.float32] | None:
    """A list column as (N, K), without a Python object a row; ``None`` where rows differ in length or are missing."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    if not (
        pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type)
    ):
        return None
    if array.null_count or len(array) == 0 or not _is_number(array.type.value_type):
        return None
    lengths = np.asarray(array.value_lengths())
    flat = array.flatten()
    if lengths.min() != lengths.max() or flat.null_count:
        return None
    with np.errstate(over="ignore"):
        return flat.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(array), int(lengths[0]))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _stacked(column: pd.Series[Any], width: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Rows of ``width`` numbers as (N, width), and which rows were that; the others are nan."""
    fits = np.array([_is_row(row) and len(row) == width for row in column], dtype=bool)
    stacked = np.full((len(column), width), np.nan, dtype=np.float32)
    if fits.any():
        with np.errstate(over="ignore"):  # a number too large for float32 is infinite, and told as that
            stacked[fits] = np.array(column[fits].to_list(), dtype=np.float64)
    return stacked, fits


def _is_row(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray)) and np.asarray(value).dtype.kind in "fiu"


def _whole(column: pd.Series[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Whole numbers, 0 where missing, and which rows were either."""
    numbers = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    fits = column.isna().to_numpy() | (np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) < 1e9))
    return np.where(fits & np.isfinite(numbers), numbers, 0).astype(np.int64), fits


def _labels(column: pd.Series[Any]) -> pd.Series[Any]:
    """Text, missing where empty."""
    text = column.astype("str")
    return text.mask(column.isna() | (text.str.strip() == ""))


def _note(fits: NDArray[np.bool_], what: str, notes: list[str]) -> NDArray[np.bool_]:
    left_out = int((~fits).sum())
    if left_out:
        notes.append(f"{left_out:,} of {len(fits):,} records left out {what}")
    return fits


def _is_are(things: Sequence[str]) -> str:
    return "is" if len(things) == 1 else "are"
