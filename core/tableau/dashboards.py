"""What the workbook shows, as data: sheets over the tables of the star schema, and six dashboards of them.

``core.tableau.workbook`` turns this into Tableau's XML. Parameters act over every data source: the run whose numbers
are shown, a true class to narrow them to, the set whose drift is shown and its feature, the clip in the sample
inspector. So no sheet adds up or averages what does not belong together, and most marks are one row each. A click
narrows other sheets by an action, or sets a parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

How = Literal["none", "sum", "avg", "cnt", "usr"]
Mark = Literal["Bar", "Line", "Circle", "Square", "Text", "GanttBar", "Area"]
What = Literal["run", "class", "set", "feature", "clip"]


@dataclass(frozen=True)
class Pill:
    """A column on a shelf: a dimension (``none``, discrete or, where ``continuous``, an axis) or an aggregate."""

    column: str
    how: How = "none"
    continuous: bool = False


@dataclass(frozen=True)
class Calculation:
    """A field computed by Tableau; ``unit`` as in the schema, for its format."""

    name: str
    caption: str
    formula: str
    datatype: Literal["real", "boolean"]
    unit: str = ""


@dataclass(frozen=True)
class Parameter:
    """One value that people choose: rows are those whose column, the first of ``columns`` that a table has, is it.

    ``everything`` is the value that picks all rows.
    """

    caption: str
    columns: tuple[str, ...]
    everything: str = ""


@dataclass(frozen=True)
class Keep:
    """Only rows whose ``column`` is one of ``values``."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class AtMost:
    """Only rows whose number in ``column`` is ``most`` or less."""

    column: str
    most: int


@dataclass(frozen=True)
class Sheet:
    """One worksheet over one table. ``over``: a second mark on the same axis as the last of ``cols`` or ``rows``.

    ``filters`` are for people to change; ``keep`` and ``at_most`` are fixed; ``chosen`` names the parameters that pick
    its rows. ``path`` joins the marks of a second line in its order. ``label`` puts the ``text`` pills into words.
    ``tall``: as high as its rows need, to be scrolled.
    """

    name: str
    table: str
    mark: Mark
    read: str
    rows: tuple[Pill, ...] = ()
    cols: tuple[Pill, ...] = ()
    color: Pill | None = None
    size: Pill | None = None
    text: tuple[Pill, ...] = ()
    label: str = ""
    detail: tuple[Pill, ...] = ()
    over: tuple[Mark, Pill | None] | None = None
    path: Pill | None = None
    filters: tuple[str, ...] = ()
    keep: tuple[Keep, ...] = ()
    at_most: tuple[AtMost, ...] = ()
    chosen: tuple[What, ...] = ("run",)
    sort: tuple[str, Pill, Literal["ASC", "DESC"]] | None = None
    tall: bool = False


@dataclass(frozen=True)
class Zone:
    """A sheet's place: left, top, width, height in per cent of the dashboard below its head."""

    sheet: str
    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True)
class Click:
    """A click on a mark of ``source`` filters every sheet of its dashboard that has the target fields."""

    source: str
    fields: tuple[tuple[str, str, str], ...]  # (field of the source, sheet that is filtered, its field)


@dataclass(frozen=True)
class Dashboard:
    name: str
    says: str
    zones: tuple[Zone, ...]
    cards: tuple[tuple[str, str], ...] = ()  # (sheet, field) of filters with a card
    parameters: tuple[What, ...] = ("run",)
    clicks: tuple[Click, ...] = ()


def avg(column: str) -> Pill:
    return Pill(column, "avg")


def total(column: str) -> Pill:
    return Pill(column, "sum")


def axis(column: str) -> Pill:
    return Pill(column, continuous=True)


CALCULATIONS: dict[str, tuple[Calculation, ...]] = {
    "class_metrics": (
        Calculation(
            "recall_interval", "Width of the interval", "AVG([recall_high]) - AVG([recall_low])", "real", "0–1"
        ),
    ),
    "predictions": (Calculation("accuracy", "Accuracy", "AVG(IIF([correct], 1.0, 0.0))", "real", "0–1"),),
}
PARAMETERS: dict[What, Parameter] = {
    "run": Parameter("Run", ("run_id",)),
    "class": Parameter("True class", ("true_label", "label"), everything="(all)"),
    "set": Parameter("Compared set", ("run_id",)),
    "feature": Parameter("Feature", ("feature",)),
    "clip": Parameter("Clip", ("clip_id",)),
}

SHEETS = (
    Sheet(
        "Headline",
        "headline",
        "Text",
        "The app's headline numbers, each with its 95 % interval and n.",
        rows=(Pill("metric"),),
        text=(avg("value"), avg("low"), avg("high"), avg("n")),
        label="{value}   ({low} to {high}, n = {n})",
    ),
    Sheet(
        "Recall by class",
        "class_metrics",
        "Bar",
        "Share of each class's clips that were recognised; the thin bar is the Wilson 95 % interval at its n.",
        rows=(Pill("label"),),
        cols=(avg("recall"), avg("recall_low")),
        over=("GanttBar", Pill("recall_interval", "usr")),
        detail=(total("n"), avg("precision"), avg("f1")),
        chosen=("run", "class"),
        sort=("label", avg("recall"), "ASC"),
    ),
    Sheet(
        "Confusion",
        "confusion",
        "Square",
        "Rows are true classes, columns the answers; right answers lie on the diagonal.",
        rows=(Pill("true_label"),),
        cols=(Pill("predicted_label"),),
        color=avg("share_of_true"),
        text=(total("answers"),),
        chosen=("run", "class"),
    ),
    Sheet(
        "Reliability",
        "reliability",
        "Circle",
        "Calibrated confidence lies on the line: of the answers at 90 %, 90 % are right.",
        rows=(avg("accuracy"), avg("confidence")),
        cols=(avg("confidence"),),
        over=("Line", None),
        color=Pill("stage"),
        size=total("n"),
        detail=(Pill("bin"), avg("accuracy_low"), avg("accuracy_high")),
        path=Pill("bin"),
        filters=("stage",),
    ),
    Sheet(
        "Confidence histogram",
        "predictions",
        "Bar",
        "Answers by calibrated confidence, in 15 bins from 0 to 14; Null: the true class is not known.",
        rows=(Pill("prediction_id", "cnt"),),
        cols=(Pill("confidence_bin"),),
        color=Pill("correct"),
        chosen=("run", "class"),
    ),
    Sheet(
        "Risk and coverage",
        "risk_coverage",
        "Line",
        "The error among the answers accepted, as ever less sure ones are accepted.",
        rows=(avg("risk"),),
        cols=(axis("coverage"),),
        detail=(avg("threshold"), avg("low"), avg("high"), total("n")),
    ),
    Sheet(
        "High-confidence errors",
        "errors",
        "Bar",
        "Clips that were answered wrongly, the surest first; the bar is the confidence of the wrong answer.",
        rows=(Pill("rank"), Pill("file_name"), Pill("true_label"), Pill("predicted_label")),
        cols=(avg("confidence"),),
        color=Pill("predicted_label"),
        detail=(
            avg("true_probability"),
            avg("error_confidence"),
            total("wrong"),
            total("networks"),
            Pill("audio_path"),
            Pill("thumbnail_path"),
        ),
        filters=("predicted_label",),
        chosen=("run", "class"),
        tall=True,
    ),
    Sheet(
        "Confused pairs",
        "confused_pairs",
        "Bar",
        "Which class is taken for which, the most frequent first.",
        rows=(Pill("pair"),),
        cols=(total("answers"),),
        detail=(Pill("true_label"), Pill("predicted_label"), avg("share_of_true")),
        chosen=("run", "class"),
        at_most=(AtMost("rank", 20),),
        sort=("pair", total("answers"), "DESC"),
    ),
    Sheet(
        "Accuracy by true class",
        "predictions",
        "Bar",
        "Recomputed by Tableau, answer by answer, where the true class is known.",
        rows=(Pill("true_label"),),
        cols=(Pill("accuracy", "usr"),),
        detail=(Pill("prediction_id", "cnt"),),
        keep=(Keep("correct", ("true", "false")),),
        chosen=("run", "class"),
    ),
    Sheet(
        "Drift verdict",
        "drift",
        "Text",
        "In words; under 50 sounds there is none. A demonstration is of sounds degraded on purpose.",
        rows=(Pill("run_id"),),
        text=(Pill("verdict"),),
        keep=(Keep("statistic", ("verdict",)),),
        chosen=("set",),
    ),
    Sheet(
        "Distributions",
        "drift_distribution",
        "Line",
        "One feature: the reference, which the model was measured on, beside the current sounds.",
        rows=(avg("share"),),
        cols=(axis("bin_low"),),
        color=Pill("data_set"),
        detail=(total("n"), Pill("unit")),
        chosen=("set", "feature"),
    ),
    Sheet(
        "Drift effects",
        "drift",
        "Bar",
        "How far each feature moved, in standard deviations of the reference; under 0.2 is harmless.",
        rows=(Pill("feature"),),
        cols=(avg("value"),),
        color=Pill("verdict"),
        keep=(Keep("statistic", ("effect",)),),
        chosen=("set",),
        sort=("feature", avg("value"), "DESC"),
    ),
    Sheet(
        "Spectrogram",
        "mel_bands",
        "Square",
        "Level of each mel band, low to high, along time.",
        rows=(Pill("band"),),
        cols=(Pill("time_s"),),
        color=avg("mean_db"),
        detail=(avg("frequency_hz"),),
        chosen=("clip",),
        sort=("band", avg("frequency_hz"), "DESC"),
    ),
    Sheet(
        "Class probability over time",
        "windows",
        "Line",
        "Each second heard by itself.",
        rows=(avg("probability"),),
        cols=(axis("start_s"),),
        color=Pill("label"),
        chosen=("clip",),
    ),
    Sheet(
        "Answer",
        "clip_features",
        "Text",
        "The model was trained on these clips: this says how, not how well.",
        rows=(Pill("clip_name"), Pill("true_label"), Pill("predicted_label"), Pill("thumbnail_path")),
        text=(avg("confidence"), Pill("why")),
        detail=(Pill("audio_path"),),
        label="{confidence} confidence.  {why}",
        chosen=("clip",),
    ),
    Sheet(
        "Strongest channels",
        "feature_maps",
        "Bar",
        "Mean activation of the five strongest channels of each stage.",
        rows=(Pill("stage"), Pill("channel")),
        cols=(avg("strength"),),
        color=Pill("stage"),
        at_most=(AtMost("rank", 5),),
        chosen=("clip",),
    ),
    Sheet(
        "Level",
        "clip_features",
        "Bar",
        "RMS of the whole clip; a full-scale square wave is 0 dBFS.",
        rows=(Pill("clip_name"),),
        cols=(avg("rms_dbfs"),),
        color=Pill("hard"),
        detail=(Pill("clip_id"), avg("rms_spread_db")),
        chosen=(),
    ),
    Sheet(
        "Brightness",
        "clip_features",
        "Bar",
        "Spectral centroid, and in the tooltip how much it moves.",
        rows=(Pill("clip_name"),),
        cols=(avg("spectral_centroid_hz"),),
        color=Pill("hard"),
        detail=(Pill("clip_id"), avg("centroid_spread_hz")),
        chosen=(),
    ),
    Sheet(
        "Bandwidth",
        "clip_features",
        "Bar",
        "Spread of the spectrum around its centroid.",
        rows=(Pill("clip_name"),),
        cols=(avg("spectral_bandwidth_hz"),),
        color=Pill("hard"),
        detail=(Pill("clip_id"), avg("spectral_flatness")),
        chosen=(),
    ),
    Sheet(
        "Mean spectrum",
        "mel_bands",
        "Square",
        "Mean level of each mel band: noise fills a row, tones stand out.",
        rows=(Pill("clip_id"),),
        cols=(Pill("band"),),
        color=avg("mean_db"),
        detail=(avg("frequency_hz"),),
        filters=("clip_id",),
        chosen=(),
    ),
)

DASHBOARDS = (
    Dashboard(
        "Performance",
        "How often the model is right, overall and per class. Click a class to see what it is taken for.",
        (Zone("Headline", 0, 0, 36, 45), Zone("Recall by class", 0, 45, 36, 55), Zone("Confusion", 36, 0, 64, 100)),
        parameters=("run", "class"),
        clicks=(Click("Recall by class", (("label", "Confusion", "true_label"),)),),
    ),
    Dashboard(
        "Calibration",
        "Whether a confidence means what it says, and what it costs to answer only when sure. A true class narrows the "
        "histogram.",
        (
            Zone("Reliability", 0, 0, 55, 100),
            Zone("Confidence histogram", 55, 0, 45, 50),
            Zone("Risk and coverage", 55, 50, 45, 50),
        ),
        cards=(("Reliability", "stage"),),
        parameters=("run", "class"),
    ),
    Dashboard(
        "Failure modes",
        "Where it fails. Click a pair to see the sounds behind it.",
        (
            Zone("High-confidence errors", 0, 0, 60, 100),
            Zone("Confused pairs", 60, 0, 40, 55),
            Zone("Accuracy by true class", 60, 55, 40, 45),
        ),
        cards=(("High-confidence errors", "predicted_label"),),
        parameters=("run", "class"),
        clicks=(
            Click(
                "Confused pairs",
                (
                    ("true_label", "High-confidence errors", "true_label"),
                    ("predicted_label", "High-confidence errors", "predicted_label"),
                ),
            ),
        ),
    ),
    Dashboard(
        "Drift",
        "Whether the sounds of today are those it was measured on. Click a feature to see its distribution. Until a "
        "log window is exported, a demonstration with the shipped model stands here: sounds degraded on purpose.",
        (
            Zone("Drift verdict", 0, 0, 100, 18),
            Zone("Drift effects", 0, 18, 40, 82),
            Zone("Distributions", 40, 18, 60, 82),
        ),
        parameters=("set", "feature"),
    ),
    Dashboard(
        "Sample inspector",
        "One clip: what it looks like, what the model answers, second by second, and which channels respond.",
        (
            Zone("Answer", 0, 0, 100, 18),
            Zone("Spectrogram", 0, 18, 60, 44),
            Zone("Class probability over time", 0, 62, 60, 38),
            Zone("Strongest channels", 60, 18, 40, 82),
        ),
        parameters=("clip",),
    ),
    Dashboard(
        "Eleven sounds",
        "What makes a clip hard: the hard pair is coloured. Click a clip to open it in the sample inspector.",
        (
            Zone("Level", 0, 0, 34, 50),
            Zone("Brightness", 34, 0, 33, 50),
            Zone("Bandwidth", 67, 0, 33, 50),
            Zone("Mean spectrum", 0, 50, 100, 50),
        ),
        parameters=(),
        cards=(("Mean spectrum", "clip_id"),),
        clicks=(Click("Level", (("clip_id", "Mean spectrum", "clip_id"),)),),
    ),
)
# Sheet on which a click sets a parameter, to the field of the same meaning.
SETS: tuple[tuple[str, What], ...] = (
    ("Drift effects", "feature"),
    ("Level", "clip"),
    ("Brightness", "clip"),
    ("Bandwidth", "clip"),
    ("Mean spectrum", "clip"),
)
# Sheet whose menu opens these addresses, where thumbnails and sounds are served.
OPENS = ("High-confidence errors", "Answer")
LINKS = {"thumbnail_path": "Open the spectrogram", "audio_path": "Play the sound"}
BY_NAME = {sheet.name: sheet for sheet in SHEETS}
