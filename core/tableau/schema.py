"""The star schema as data: every table, its columns with type, unit and meaning, its key and what it refers to.

The tables, the data dictionary, the CSV, the ``.hyper`` and the fields of the workbook are all made from ``TABLES``;
nothing else names a column.

Text is made safe here, in one place and for every format (``safe_text``), so that keys still match over tables:

- a text that a spreadsheet would read as a formula (it begins with = + - @, or one of their full-width forms, even
  after spaces) gets an apostrophe in front: ``=cmd|'/C calc'!A0`` → ``'=cmd|'/C calc'!A0``; so does what follows a
  semicolon, which parts the cells where a comma is the decimal sign;
- control characters become their visible symbols (a newline ␊, a tab ␉), so that one record stays one line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from core import descriptors
from core.errors import RecordsError

Kind = Literal["text", "integer", "real", "boolean", "time"]
ARROW: dict[str, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "real": pa.float64(),
    "boolean": pa.bool_(),
    "time": pa.timestamp("us", "UTC"),
}
QUALITY = ("silent", "clipped", "band_limited", "short", "channels_cancel", "truncated")
FORMULA = r"(^|;)([\"\s\p{Z}\p{Cf}]*[=+\-@＝＋－＠])"  # behind quotes, spaces of any kind, and what is not seen
CONTROL = r"[\x00-\x1f\x7f-\x{9f}\x{2028}\x{2029}]"
PICTURES = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "␡", 0x2028: "␤", 0x2029: "␤"}
PICTURES |= dict.fromkeys(range(0x80, 0xA0), "\N{REPLACEMENT CHARACTER}")


@dataclass(frozen=True)
class Column:
    """One column; ``low`` and ``high`` bound its numbers. ``unit`` is empty for text and flags."""

    name: str
    kind: Kind
    unit: str
    meaning: str
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Reference:
    """``columns`` name, together and in the order of its key, one row of ``table``; none where one is missing."""

    table: str
    columns: tuple[str, ...]

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Each own column with the key's that it names; all of them relate, one of several would relate other rows."""
        return tuple(zip(self.columns, BY_NAME[self.table].key, strict=True))


@dataclass(frozen=True)
class Table:
    """One table. ``key``: the columns that tell its rows apart, never missing; ``refers``: rows that its rows name."""

    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    refers: tuple[Reference, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def arrow(self) -> pa.Schema:
        return pa.schema([(column.name, ARROW[column.kind]) for column in self.columns])

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


def text(name: str, meaning: str) -> Column:
    return Column(name, "text", "", meaning)


def flag(name: str, meaning: str) -> Column:
    return Column(name, "boolean", "", meaning)


def count(name: str, meaning: str, unit: str = "answers") -> Column:
    return Column(name, "integer", unit, meaning, low=0)


def number(name: str, unit: str, meaning: str, low: float = -math.inf, high: float = math.inf) -> Column:
    return Column(name, "real", unit, meaning, low, high)


def share(name: str, meaning: str) -> Column:
    return Column(name, "real", "0–1", meaning, 0, 1)


RUN = text("run_id", "run, log window or file that the answers are from; names a row of about")
CLIP = text("clip_id", "gold clip; names a row of clip_features")
OF_ABOUT = Reference("about", ("run_id",))
OF_CLASSES = (Reference("classes", ("true_label",)), Reference("classes", ("predicted_label",)))
OF_CLIP = Reference("clip_features", ("clip_id",))
FINGERPRINT = text(
    "fingerprint",
    "sha256 of the model that answered; in a cross-validation of the one it made; empty where none is known",
)
DESCRIPTORS = tuple(
    share(d.name, d.meaning)
    if d.unit == "0–1"
    else number(d.name, d.unit, d.meaning, 0 if d.unit == "Hz" else -math.inf)
    for d in descriptors.DESCRIPTORS
)

PREDICTIONS = Table(
    "predictions",
    "the fact table: one row an answer, of a run for a held-out clip, or of the log",
    (
        text("prediction_id", "run, seed and clip, or the number in the log"),
        RUN,
        text("clip_id", "which sound: its file in the dataset, or in logs the first 16 hex digits of its sha256"),
        text("file_name", "name under which the sound came"),
        text("source_group", "recording the clip was cut from; clips of one recording are not independent"),
        Column("fold", "integer", "", "fold that was held out; 0 in logs", low=0),
        Column("seed", "integer", "", "which of several networks of a run answered", low=0),
        text("true_label", "true class, in logs as a person corrected it; empty where nobody knows"),
        text("predicted_label", "most probable class"),
        text("other_label", "what a person called the sound where that is no class; it counts in no accuracy"),
        flag("correct", "whether both are the same; empty where the true class is not known"),
        share("confidence", "probability of the predicted class, calibrated"),
        share("raw_confidence", "the same before temperature scaling"),
        share("true_probability", "calibrated probability of the true class"),
        number("entropy_nats", "nats", "entropy of the calibrated probabilities: 0 certain, ln K a blind guess", 0),
        share("margin", "calibrated probability of the first class less that of the second"),
        Column("confidence_bin", "integer", "", "bin of confidence, 0 to 14, right-closed; as in reliability", 0, 14),
        Column("raw_confidence_bin", "integer", "", "the same of raw_confidence", 0, 14),
        flag("unknown", "whether the sound is probably none of the classes"),
        number("unknown_score", "", "how unlike the training clips it is; above the model's threshold it is unknown"),
        Column("conformal_set_size", "integer", "classes", "classes in the conformal set of the model", low=0),
        *DESCRIPTORS,
        *(flag(f"quality_{code}", f"recording warned of as {code}; empty where not assessed") for code in QUALITY),
        number("duration_s", "s", "length of the sound", 0),
        number("latency_ms", "ms", "time the answer took, in logs, and in files that say so", 0),
        text("origin", "app, api or cli in logs; held-out in runs; in files what they say"),
        text("backend", "where inference ran, in logs, and in files that say so"),
        Column("created_at", "time", "UTC", "when it was answered, to the second; empty where not known"),
        FINGERPRINT,
        text("thumbnail_path", "relative path or URL of its spectrogram, where exported"),
        text("audio_path", "relative path or URL of its sound, where exported"),
    ),
    ("prediction_id",),
    (
        OF_ABOUT,
        *OF_CLASSES,
        Reference("class_metrics", ("run_id", "true_label")),
        Reference("confusion", ("run_id", "true_label", "predicted_label")),
    ),
)
CLASSES = Table(
    "classes",
    "the classes, in the order of the model's outputs",
    (
        text("label", "name of the class"),
        text("class_name", "the same for people"),
        Column("class_index", "integer", "", "position among the model's outputs, from 0", low=0),
    ),
    ("label",),
)
HEADLINE = Table(
    "headline",
    "what a run or log comes to, in single numbers with their intervals: the app's headline",
    (
        RUN,
        text(
            "metric",
            "accuracy; macro_f1; baseline: always the commonest class; balanced_accuracy; ece, mce, adaptive_ece, "
            "classwise_ece: calibration errors; ece_by_chance_95: what a perfect model's ece stays under 95 times in "
            "100; brier; nll: negative log-likelihood; aurc: mean risk over all coverages, aurc_best and aurc_random "
            "its bounds; augrc: mean share of all clips that are accepted and wrong; cov_at_risk: coverage at 5 % "
            "risk; risk_at_cov: risk at 80 % coverage; …_raw: before temperature scaling",
        ),
        text("unit", "0–1, 0–2 or nats"),
        number("value", "see unit", "mean over seeds; empty where undefined (n = 0)"),
        number("low", "see unit", "95 % interval, lower end; empty where there is none"),
        number("high", "see unit", "95 % interval, upper end; empty where there is none"),
        count("n", "clips whose true class is known; a sound that came again in a log or a file counts again", "clips"),
    ),
    ("run_id", "metric"),
    (OF_ABOUT,),
)
CLASS_METRICS = Table(
    "class_metrics",
    "per class: recall, precision and F1 with 95 % intervals",
    (
        RUN,
        text("label", "class"),
        count("n", "clips of the class", "clips"),
        number("n_predicted", "answers", "answers that name the class; mean over seeds", 0),
        share("recall", "share of its clips that were recognised; mean over seeds; empty for n = 0"),
        share("recall_low", "Wilson 95 % interval at n, lower end"),
        share("recall_high", "Wilson 95 % interval at n, upper end"),
        share("precision", "share of the answers naming it that were right; empty where none named it"),
        share("precision_low", "Wilson 95 % interval, lower end"),
        share("precision_high", "Wilson 95 % interval, upper end"),
        share("f1", "2 × right over (clips of it + answers naming it); mean over seeds; empty where there are neither"),
        share("f1_low", "95 % interval from resampled source recordings, lower end"),
        share("f1_high", "95 % interval, upper end"),
    ),
    ("run_id", "label"),
    (OF_ABOUT, Reference("classes", ("label",))),
)
CONFUSION = Table(
    "confusion",
    "true by predicted class, long, zero cells included",
    (
        RUN,
        text("true_label", "true class"),
        text("predicted_label", "answered class"),
        count("answers", "answers in this cell, over all seeds"),
        share("share_of_true", "of the answers for this true class; empty where it has none"),
    ),
    ("run_id", "true_label", "predicted_label"),
    (OF_ABOUT, *OF_CLASSES, Reference("class_metrics", ("run_id", "true_label"))),
)
CONFUSED_PAIRS = Table(
    "confused_pairs",
    "wrong cells of the confusion that are not zero, the most frequent first",
    (
        RUN,
        text("true_label", "true class"),
        text("predicted_label", "class taken for it"),
        text("pair", "both, as true → predicted"),
        count("answers", "how many times, over all seeds"),
        share("share_of_true", "of the answers for this true class"),
        share("low", "Wilson 95 % interval of the share, lower end"),
        share("high", "Wilson 95 % interval of the share, upper end"),
        count("back", "answers of the opposite error: predicted taken for true"),
        share("confidence", "mean calibrated confidence of these wrong answers"),
        count("rank", "1 is the most frequent pair of its run", ""),
    ),
    ("run_id", "true_label", "predicted_label"),
    (OF_ABOUT, *OF_CLASSES, Reference("confusion", ("run_id", "true_label", "predicted_label"))),
)
ERRORS = Table(
    "errors",
    "clips that were answered wrongly, the surest first; one row a clip however many networks answered",
    (
        RUN,
        count("rank", "1 is the most confident error of its run", ""),
        text("prediction_id", "the answer shown: the most confident wrong one"),
        text("clip_id", "which sound"),
        text("file_name", "name under which the sound came"),
        text("true_label", "true class"),
        text("predicted_label", "class taken for it"),
        share("confidence", "calibrated confidence of the answer shown"),
        share("true_probability", "calibrated probability that it left to the true class"),
        count("wrong", "networks that were wrong about the clip", "networks"),
        count("networks", "networks that answered for the clip", "networks"),
        share("error_confidence", "mean over networks of the confidence in wrong answers, right ones as 0: the order"),
        text("thumbnail_path", "relative path or URL of its spectrogram, where exported"),
        text("audio_path", "relative path or URL of its sound, where exported"),
    ),
    ("run_id", "rank"),
    (OF_ABOUT, Reference("predictions", ("prediction_id",)), *OF_CLASSES),
)
RELIABILITY = Table(
    "reliability",
    "confidence against accuracy in 15 equal, right-closed bins, before and after temperature scaling; seeds pooled",
    (
        RUN,
        text("stage", "raw or calibrated"),
        Column("bin", "integer", "", "0 to 14; the same as confidence_bin of predictions", 0, 14),
        share("bin_low", "lower edge, exclusive but for 0"),
        share("bin_high", "upper edge, inclusive"),
        count("n", "answers in the bin, over all seeds; intervals are at the number of clips"),
        share("confidence", "mean confidence in the bin; empty for n = 0"),
        share("accuracy", "share of them that is right; empty for n = 0"),
        share("accuracy_low", "exact 95 % interval, lower end"),
        share("accuracy_high", "exact 95 % interval, upper end"),
    ),
    ("run_id", "stage", "bin"),
    (OF_ABOUT,),
)
RISK_COVERAGE = Table(
    "risk_coverage",
    "error among the most confident answers, as ever more of them are accepted",
    (
        RUN,
        Column("step", "integer", "", "order along the curve, from 0", low=0),
        share("threshold", "least confidence accepted"),
        share("coverage", "share of labelled answers accepted"),
        count("n", "answers accepted; those of several seeds are pooled"),
        share("risk", "share of the accepted that is wrong"),
        share("low", "Wilson 95 % interval of the risk at the number of clips, lower end"),
        share("high", "Wilson 95 % interval, upper end"),
    ),
    ("run_id", "step"),
    (OF_ABOUT,),
)
DRIFT = Table(
    "drift",
    "how far a log, a file or a demonstration is from the clips that the model was measured on, per feature",
    (
        RUN,
        text("feature", "acoustic descriptor, confidence, or all features"),
        text(
            "statistic",
            "of a feature: statistic (Kolmogorov–Smirnov distance), p, p_adjusted (Holm), effect (Wasserstein distance "
            "over the reference's standard deviation), psi (population stability index), null_95 and psi_null_95 (what "
            "chance keeps effect and psi under 95 times in 100), median_reference, median_current, median_shift; of "
            "all: n_reference, n_current, verdict, cause_1, cause_2, …",
        ),
        text("unit", "of the value"),
        number("value", "see unit", "empty where undefined"),
        text(
            "verdict", "drift, no_drift or not_enough_data; in words for the statistics verdict and cause_1, cause_2, …"
        ),
    ),
    ("run_id", "feature", "statistic"),
    (OF_ABOUT,),
)
DRIFT_DISTRIBUTION = Table(
    "drift_distribution",
    "histograms of each feature, reference beside the current set, over shared bins",
    (
        RUN,
        text("feature", "acoustic descriptor"),
        text("unit", "of the bins"),
        text("data_set", "reference (clips the model was measured on) or current (log, file or demonstration)"),
        Column("bin", "integer", "", "from 0, low to high", low=0),
        number("bin_low", "see unit", "lower edge"),
        number("bin_high", "see unit", "upper edge"),
        count("n", "sounds in the bin; the outer bins hold what lies beyond", "sounds"),
        share("share", "of the set's sounds; empty where it has none"),
    ),
    ("run_id", "feature", "data_set", "bin"),
    (OF_ABOUT,),
)
CLIP_FEATURES = Table(
    "clip_features",
    "the eleven gold clips: what they are, what the model answers, what they sound like in numbers",
    (
        text("clip_id", "file in ESC-10"),
        text("clip_name", "true class and clip, for people"),
        text("true_label", "true class"),
        text("predicted_label", "what the model answers; it was trained on these clips"),
        share("confidence", "probability of that answer, calibrated"),
        flag("unknown", "whether the model calls it none of the classes"),
        flag("hard", "one of the pair that was chosen for being hard"),
        text("why", "why this clip"),
        *DESCRIPTORS,
        number("centroid_spread_hz", "Hz", "standard deviation of the spectral centroid over time", 0),
        number("rms_spread_db", "dB", "standard deviation of the level over time, among frames that carry sound", 0),
        FINGERPRINT,
        text("thumbnail_path", "relative path or URL of its spectrogram, where exported"),
        text("audio_path", "relative path or URL of its sound, where exported"),
    ),
    ("clip_id",),
    OF_CLASSES,
)
MEL_BANDS = Table(
    "mel_bands",
    "log-mel spectrograms of the gold clips; AVG(mean_db) by clip and band is the mean spectrum",
    (
        CLIP,
        text("clip_name", "true class and clip, for people"),
        text("true_label", "true class"),
        Column("band", "integer", "", "mel band, from 0, low to high", low=0),
        number("frequency_hz", "Hz", "centre of the band", 0),
        number("time_s", "s", "start of the time step", 0),
        number(
            "mean_db",
            "dB",
            "mean over the step of 10 log10 of the mel power of samples within ±1; −100 is its floor, 0 no bound",
        ),
    ),
    ("clip_id", "band", "time_s"),
    (OF_CLIP, Reference("classes", ("true_label",))),
)
WINDOWS = Table(
    "windows",
    "class probabilities along the gold clips, each of a second heard by itself",
    (
        CLIP,
        number("start_s", "s", "start of the stretch", 0),
        number("end_s", "s", "end of the stretch", 0),
        text("label", "class"),
        share("probability", "of the class, calibrated, if only this stretch is heard"),
    ),
    ("clip_id", "start_s", "label"),
    (OF_CLIP, Reference("classes", ("label",))),
)
FEATURE_MAPS = Table(
    "feature_maps",
    "how strongly each channel of each stage of the network responds to the gold clips",
    (
        CLIP,
        text("stage", "stage of the network, first to last"),
        Column("channel", "integer", "", "channel of the stage, from 0", low=0),
        number("strength", "", "mean activation after ReLU", 0),
        count("rank", "1 is the strongest channel of the stage for this clip", ""),
    ),
    ("clip_id", "stage", "channel"),
    (OF_CLIP,),
)
TRAINING_CURVES = Table(
    "training_curves",
    "loss, accuracy and learning rate over the epochs of each training that a run consists of",
    (
        RUN,
        text("member", "one training of the run: its fold and seed"),
        Column("epoch", "integer", "epochs", "finished epochs", low=0),
        text("metric", "as logged in training"),
        number("value", "", "of the metric"),
    ),
    ("run_id", "member", "epoch", "metric"),
    (OF_ABOUT,),
)
DATA_DICTIONARY = Table(
    "data_dictionary",
    "every column of every table",
    (
        text("table_name", "table"),
        text("column_name", "column"),
        text("type", "text, integer, real, boolean, or time (ISO 8601, UTC)"),
        text("unit", "unit of the numbers, UTC of times; empty for text and flags"),
        text("meaning", "what it says"),
        text(
            "refers_to",
            "tables it helps to relate, parted by semicolons, each with every pair needed (own column = its column): "
            "one of several pairs relates other rows; tables that name each other nowhere belong in data sources apart",
        ),
    ),
    ("table_name", "column_name"),
)
ABOUT = Table(
    "about",
    "one row a run or log window: what the numbers are of",
    (
        text("run_id", "name of the run, log window or file"),
        text("kind", "cross-validation, run, log, file, or demonstration, which stands in the drift tables alone"),
        text("protocol", "how the answers came about"),
        text("dataset", "what the clips are from"),
        FINGERPRINT,
        count("n_answers", "rows in predictions; a demonstration has none"),
        count("n_labelled", "of them with a known true class"),
        count("n_clips", "different sounds among the labelled", "clips"),
        count("n_classes", "classes of the model", "classes"),
        count("n_seeds", "networks that answered for the same clips", "networks"),
        number("temperature", "", "that logits were divided by; the mean over folds for runs", 0),
        Column(
            "created_at",
            "time",
            "UTC",
            "end of the run, or the last answer of the log window or file; empty where no time is known",
        ),
        text("notes", "what was left out and why"),
        text("earshot_version", "version of the code that made this export"),
    ),
    ("run_id",),
)

TABLES = (
    PREDICTIONS,
    CLASSES,
    HEADLINE,
    CLASS_METRICS,
    CONFUSION,
    CONFUSED_PAIRS,
    ERRORS,
    RELIABILITY,
    RISK_COVERAGE,
    DRIFT,
    DRIFT_DISTRIBUTION,
    CLIP_FEATURES,
    MEL_BANDS,
    WINDOWS,
    FEATURE_MAPS,
    TRAINING_CURVES,
    DATA_DICTIONARY,
    ABOUT,
)
BY_NAME = {table.name: table for table in TABLES}
OF_RUN = ("kind", "protocol", "dataset", "n_clips", "temperature")  # columns of about that the wide table has, too
WIDE = Table(
    "earshot_predictions",
    "predictions with what they refer to, for those who want one file; a CSV alone",
    (
        *PREDICTIONS.columns,
        *(replace(ABOUT.column(name), name=f"run_{name}") for name in OF_RUN),
        text("true_class_name", "true class for people"),
        text("predicted_class_name", "most probable class for people"),
    ),
    PREDICTIONS.key,
    PREDICTIONS.refers,
)


def dictionary() -> pa.Table:
    """Every column of every table, and of the wide CSV, as rows of ``data_dictionary``."""
    rows = [
        {
            "table_name": table.name,
            "column_name": column.name,
            "type": column.kind,
            "unit": column.unit,
            "meaning": column.meaning,
            "refers_to": relations(table, column.name),
        }
        for table in (*TABLES, WIDE)
        for column in table.columns
    ]
    return conform(DATA_DICTIONARY, pd.DataFrame(rows))


def relations(table: Table, column: str) -> str:
    """What ``column`` helps to refer to, each other table with every pair that relates it: own column = its column."""
    return "; ".join(
        f"{reference.table}: " + ", ".join(f"{own} = {key}" for own, key in reference.pairs)
        for reference in table.refers
        if column in reference.columns
    )


def conform(table: Table, frame: pd.DataFrame) -> pa.Table:
    """``frame`` with exactly the columns of ``table``, in their types; text made safe, nan and infinities missing.

    A column that ``frame`` lacks is a mistake of ours and raises ``RecordsError``.
    """
    missing = [name for name in table.names if name not in frame]
    if missing:
        raise RecordsError(
            f"Expected {', '.join(table.names)} for the table {table.name}; {', '.join(missing)} missing.",
            code="missing_columns",
        )
    columns = [_arrow(frame[column.name], column.kind) for column in table.columns]
    return pa.Table.from_arrays(columns, schema=table.arrow)


def empty(table: Table) -> pa.Table:
    return table.arrow.empty_table()


def _arrow(values: pd.Series[Any], kind: Kind) -> pa.Array:
    if kind == "text":
        return safe_text(_strings(values))
    if kind == "time":
        moments = pd.to_datetime(values, utc=True)
        return _one(pa.array(moments.dt.floor("s").astype("datetime64[us, UTC]"), ARROW[kind], from_pandas=True))
    if kind == "real":
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        return pa.array(numbers, ARROW[kind], mask=~np.isfinite(numbers))
    absent = values.isna().to_numpy()
    filled = np.where(absent, 0, values.to_numpy(dtype=object)) if absent.any() else values.to_numpy()
    plain = filled.astype(np.bool_ if kind == "boolean" else np.int64)
    return pa.array(plain, ARROW[kind], mask=absent)


def _strings(values: pd.Series[Any]) -> pa.Array:
    try:
        return _one(pa.array(values, from_pandas=True)).cast(pa.string())
    except (UnicodeEncodeError, pa.ArrowException):  # half a character of a file name, or no text at all
        texts = [None if pd.isna(value) else str(value).encode("utf-8", "replace").decode() for value in values]
        return pa.array(texts, pa.string())


def _one(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def safe_text(values: pa.Array) -> pa.Array:
    """Text that no spreadsheet takes for a formula and no reader for two lines; empty text is missing."""
    if pc.any(pc.match_substring_regex(values, CONTROL)).as_py():
        values = pa.array([None if v is None else v.translate(PICTURES) for v in values.to_pylist()], pa.string())
    values = pc.replace_substring_regex(values, FORMULA, r"\1'\2")
    return pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)
