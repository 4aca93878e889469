"""Tables of answers, whoever made them, checked and made records.

One row an answer, in these columns:

    clip_id       text     which sound
    fold          integer  fold that was held out; 0 in logs
    source_group  text     recording the clip was cut from (null or empty: the clip); clips of one are not independent
    label         text     true class; empty or null where nobody knows
    logits        list of float32, one a class, uncalibrated
    embedding     list of float32 (optional)
    seed          integer  (optional) which of several networks answered
    duration_s    float64  (optional) length of the sound
    quality       text     (optional) codes of the warnings of ``core.quality``, with spaces between
    created_at    time     (optional) when it was answered; text is read as ISO 8601, UTC unless it says otherwise
    latency_ms    float64  (optional) how long the answer took
    descriptors   float64  (optional) any of ``core.descriptors.NAMES``
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.descriptors import NAMES
from core.errors import RecordsError
from core.recordset import RecordSet, with_nested_temperatures

REQUIRED = ("clip_id", "fold", "source_group", "label", "logits")
VECTORS = ("logits", "embedding")


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
    check_columns([*table.columns, *([] if logits is None else ["logits"])])
    names = _checked_names(class_names)
    usable = _Usable(len(table))
    logits = _logits(table, logits, names, usable)
    usable.only(labels_of(table["clip_id"]).notna().to_numpy(), "without a clip_id")
    label = _true_classes(table["label"], names, usable, keep_others=keep_other_labels)
    if embedding is None and "embedding" in table:
        embedding = _embedding(table["embedding"], usable)
    if embedding is not None:
        usable.only(np.isfinite(embedding).all(axis=1) | ~usable.rows, "with an embedding that is not finite")
    whole = {name: _whole(table, name, usable) for name in ("fold", "seed")}
    table = _plain(table, usable)
    if len(table) and not usable.rows.any():
        why = "; ".join(usable.notes)
        raise RecordsError(f"None of the {len(table):,} records can be used: {why}.", code="no_records")
    clip, recording = table["clip_id"].astype("str"), table["source_group"].astype("str")
    plain = table.assign(label=label, clip_id=clip, source_group=recording.mask(recording == "").fillna(clip), **whole)
    if keep_other_labels:
        given = labels_of(table["label"])
        plain["other_label"] = given.where(~given.isin(names)).to_numpy()
    usable.notes += _repeated(plain.loc[usable.rows & label.isin(names).to_numpy(), ["clip_id", "seed"]])
    built = RecordSet(
        title=title,
        class_names=names,
        table=plain.reset_index(drop=True),
        logits=np.ascontiguousarray(logits, dtype=np.float32),
        embedding=embedding,
        temperatures=np.full(len(table), 1.0 if temperature is None else temperature),
        notes=tuple(usable.notes),
        **facts,
    )
    if not usable.rows.all():
        built = built.take(usable.rows)
    return built if temperature is not None else with_nested_temperatures(built)


class _Usable:
    """Which rows can be used so far, and in words why the others cannot."""

    def __init__(self, n: int) -> None:
        self.rows = np.ones(n, dtype=bool)
        self.notes: list[str] = []

    def only(self, fits: NDArray[np.bool_], otherwise: str) -> None:
        """Leave out the rows that do not fit; ``otherwise`` says how they are."""
        if left_out := int((~fits).sum()):
            self.notes.append(f"{left_out:,} of {len(fits):,} records left out {otherwise}")
        self.rows &= fits


def _repeated(labelled: pd.DataFrame) -> Iterator[str]:
    if again := int(labelled.duplicated().sum()):
        yield (
            f"{again:,} of {len(labelled):,} labelled records answer for a clip that the same network answered "
            "already: they count again, and the intervals are narrower than they should be"
        )


def check_columns(found: Sequence[str]) -> None:
    """Raise ``RecordsError`` that names what is missing of ``REQUIRED``."""
    missing = [column for column in REQUIRED if column not in found]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise RecordsError(
            f"Expected the columns {', '.join(REQUIRED)}, but {', '.join(missing)} {verb} missing. "
            f"Found: {', '.join(map(str, found)) or 'none'}.",
            code="missing_columns",
        )


def _checked_names(class_names: Sequence[str]) -> tuple[str, ...]:
    names = tuple(class_names)
    if len(set(names)) != len(names) or len(names) < 2 or not all(names):
        raise RecordsError(
            f"Expected at least two different class names, none of them empty, got {list(names)}.", code="bad_classes"
        )
    return names


def _logits(
    table: pd.DataFrame, logits: NDArray[np.float32] | None, names: tuple[str, ...], usable: _Usable
) -> NDArray[np.float32]:
    """(N, K), as given or from the column."""
    if logits is None:
        logits, fits = _stacked(table["logits"], len(names))
        usable.only(fits, f"whose logits are not {len(names)} numbers, one a class")
    elif logits.shape[1:] != (len(names),):
        raise RecordsError(
            f"Expected {len(names)} logits a record, one a class ({', '.join(names)}), got {logits.shape[1]}. "
            "Give the class names in the order of the logits.",
            code="class_count",
        )
    usable.only(np.isfinite(logits).all(axis=1) | ~usable.rows, "with logits that are not finite")
    return logits


def _true_classes(
    column: pd.Series[Any], names: tuple[str, ...], usable: _Usable, *, keep_others: bool
) -> pd.Series[Any]:
    """Labels, missing where nobody knows; with ``keep_others`` also where they are none of the classes."""
    label = labels_of(column)
    known = label.isna().to_numpy() | label.isin(names).to_numpy()
    if not keep_others:
        usable.only(known, "with a label that is no class")
        return label
    if others := int((~known).sum()):
        usable.notes.append(
            f"{others:,} of {len(label):,} records labelled as none of the classes: unknown sounds, which no accuracy "
            "counts"
        )
    return label.where(known)


def _embedding(column: pd.Series[Any], usable: _Usable) -> NDArray[np.float32] | None:
    """(N, D) of the commonest length, of equally common ones the shorter."""
    counts = lengths(column)
    if not counts:
        if column.notna().any():
            usable.notes.append("the column embedding holds no lists of numbers, and is left aside")
        return None
    embedding, fits = _stacked(column, max(counts, key=lambda n: (counts[n], -n)))
    usable.only(fits, "with an embedding of another length")
    return embedding


def _plain(table: pd.DataFrame, usable: _Usable) -> pd.DataFrame:
    """Without vectors and whatever else is no single value; numbers where numbers are meant, flags where flags are."""
    nested = [name for name in table if name not in VECTORS and _is_nested(table[name])]
    if nested:
        usable.notes.append(f"columns of lists or records are left aside: {', '.join(map(str, nested))}")
    plain = table.drop(columns=[*nested, *(name for name in VECTORS if name in table)])
    numbers = dict.fromkeys((*NAMES, "duration_s", "latency_ms"), partial(pd.to_numeric, errors="coerce"))
    meant: dict[str, Callable[[pd.Series[Any]], pd.Series[Any]]] = {
        **numbers,
        "unknown": _flags,
        "created_at": _moments,
    }
    for name, read in meant.items():
        if name in plain:
            column = read(plain[name])
            if lost := int((plain[name].notna() & column.isna()).sum()):
                usable.notes.append(
                    f"{lost:,} of {len(plain):,} values of {name} are not understood, and count as none"
                )
            plain[name] = column
    return plain


def _is_nested(column: pd.Series[Any]) -> bool:
    return column.dtype == object and any(isinstance(value, (list, tuple, dict, set, np.ndarray)) for value in column)


def _flags(column: pd.Series[Any]) -> pd.Series[Any]:
    """True and false, also as text or 1 and 0; missing for anything else."""
    if pd.api.types.is_bool_dtype(column):
        return column
    said = column.astype("str").str.lower().str.removesuffix(".0")
    return said.map({"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}).astype("boolean")


def _moments(column: pd.Series[Any]) -> pd.Series[Any]:
    """Times in UTC; missing for what is none, and for numbers, which do not say since when they count."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return pd.to_datetime(column, utc=True)
    if pd.api.types.is_numeric_dtype(column):
        return pd.Series(pd.NaT, index=column.index, dtype="datetime64[us, UTC]")
    dated = column.astype("str").str.strip().str[:1].str.isdigit()  # "now" would be a time, too: another one every time
    return pd.to_datetime(column.where(dated), utc=True, errors="coerce", format="ISO8601")


def _whole(table: pd.DataFrame, name: str, usable: _Usable) -> NDArray[np.int64]:
    """Whole numbers of a column, 0 where they are missing."""
    column = table[name] if name in table else pd.Series(0, index=table.index)
    numbers = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    fits = column.isna().to_numpy() | (np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) < 1e9))
    usable.only(fits, f"with a {name} that is no whole number")
    return np.where(fits & np.isfinite(numbers), numbers, 0).astype(np.int64)


def _stacked(column: pd.Series[Any], width: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Rows of ``width`` numbers as (N, width), and which rows were that; the others are nan."""
    fits = np.array([_is_row(row) and len(row) == width for row in column], dtype=bool)
    stacked = np.full((len(column), width), np.nan, dtype=np.float32)
    if fits.any():
        with np.errstate(over="ignore"):  # a number too large for float32 is infinite, and told as that
            stacked[fits] = np.array(column[fits].to_list(), dtype=np.float64)
    return stacked, fits


def lengths(lists: pd.Series[Any]) -> Counter[int]:
    """How many records have how many numbers in a column of lists; those without any do not count."""
    return Counter(len(row) for row in lists if _is_row(row) and len(row))


def _is_row(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray)) and np.asarray(value).dtype.kind in "fiu"


def labels_of(column: pd.Series[Any]) -> pd.Series[Any]:
    """Text, missing where empty."""
    text = column.astype("str")
    return text.mask(column.isna() | (text.str.strip() == ""))
