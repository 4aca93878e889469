"""What the workbook shows, as data: sheets over the tables of the star schema, and six dashboards of them.

``core.tableau.workbook`` turns this into Tableau's XML. Parameters act over every data source: the run whose numbers
are shown, a true class and an answered class to narrow them to, the set whose drift is shown and its feature, the clip
in the sample inspector. So no sheet adds up or averages what does not belong together, and most marks are one row each.
What narrows a sheet can be seen on its dashboard: a control there, or a click that narrows other sheets or sets a
parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

How = Literal["none", "sum", "avg", "cnt", "usr"]
Mark = Literal["Bar", "Line", "Circle", "Square", "Text", "GanttBar", "Area"]
What = Literal["run", "class", "answer", "set", "feature", "clip"]


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

    ``keep`` and ``at_most`` are fixed; ``chosen`` names the parameters that pick its rows, one at least. ``path`` joins
    the marks of a second line in its order. ``label`` puts the ``text`` pills into words. ``tall``: as high as its rows
    need, to be scrolled.
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
    """Clicks on marks of ``source`` narrow other sheets of its dashboard to these marks' values."""

    source: str
    fields: tuple[tuple[str, str, str], ...]  # (field of the source, sheet that is filtered, its field)


@dataclass(frozen=True)
class Dashboard:
    """Sheets beside each other, under a head that says what they are for, with controls."""

    name: str
    says: str
    needs: str  # a table without whose rows it would be empty
    zones: tuple[Zone, ...]
    legends: tuple[Zone, ...] = ()  # of the colours of the sheets they name
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
    "answer": Parameter("Answered class", ("predicted_label",), everything="(all)"),
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
    ),
    Sheet(
        "Confidence histogram",
        "predictions",
        "Bar",
        "Answers by calibrated confidence, in 15 bins from 0 to 14; Null: the true class is not known.",
        rows=(Pill("prediction_id", "cnt"),),
        cols=(Pill("confidence_bin"),),
        color=Pill("correct"),
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
        "Clips that were answered wrongly, the surest first: confidence in wrong answers, mean over networks.",
        rows=(Pill("rank"), Pill("file_name"), Pill("true_label"), Pill("predicted_label")),
        cols=(avg("error_confidence"),),
        color=Pill("predicted_label"),
        detail=(
            avg("true_probability"),
            avg("confidence"),
            total("wrong"),
            total("networks"),
            Pill("audio_path"),
            Pill("thumbnail_path"),
        ),
        chosen=("run", "class", "answer"),
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
        chosen=("run", "class", "answer"),
        sort=("pair", total("answers"), "DESC"),
        tall=True,
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
        chosen=("class",),
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
        chosen=("class",),
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
        chosen=("class",),
    ),
    Sheet(
        "Mean spectrum",
        "mel_bands",
        "Square",
        "Mean level of each mel band: noise fills a row, tones stand out.",
        rows=(Pill("clip_name"),),
        cols=(Pill("band"),),
        color=avg("mean_db"),
        detail=(Pill("clip_id"), avg("frequency_hz")),
        chosen=("class",),
    ),
)

LABELLED = "risk_coverage"  # the table that has no rows where no true class is known
CLIP_BOARD = ("Level", "Brightness", "Bandwidth", "Mean spectrum")  # sheets of all eleven clips

DASHBOARDS = (
    Dashboard(
        "Performance",
        "How often the model is right, overall and per class. Click a class to see what it is taken for.",
        LABELLED,
        (Zone("Headline", 0, 0, 36, 45), Zone("Recall by class", 0, 45, 36, 55), Zone("Confusion", 36, 0, 55, 100)),
        legends=(Zone("Confusion", 91, 0, 9, 100),),
        parameters=("run", "class"),
        clicks=(Click("Recall by class", (("label", "Confusion", "true_label"),)),),
    ),
    Dashboard(
        "Calibration",
        "Whether a confidence means what it says, and what it costs to answer only when sure.",
        "predictions",
        (
            Zone("Reliability", 0, 0, 46, 100),
            Zone("Confidence histogram", 55, 0, 36, 50),
            Zone("Risk and coverage", 55, 50, 45, 50),
        ),
        legends=(Zone("Reliability", 46, 0, 9, 100), Zone("Confidence histogram", 91, 0, 9, 50)),
    ),
    Dashboard(
        "Failure modes",
        "Where it fails. Click a pair to see the sounds behind it.",
        LABELLED,
        (
            Zone("High-confidence errors", 0, 0, 51, 100),
            Zone("Confused pairs", 60, 0, 40, 55),
            Zone("Accuracy by true class", 60, 55, 40, 45),
        ),
        legends=(Zone("High-confidence errors", 51, 0, 9, 100),),
        parameters=("run", "class", "answer"),
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
        "Whether the sounds of today are those it was measured on. Click a feature to see its distribution. Your own "
        "sounds come with a log window; what is called a demonstration are sounds degraded on purpose.",
        "drift",
        (
            Zone("Drift verdict", 0, 0, 100, 18),
            Zone("Drift effects", 0, 18, 31, 82),
            Zone("Distributions", 40, 18, 51, 82),
        ),
        legends=(Zone("Drift effects", 31, 18, 9, 82), Zone("Distributions", 91, 18, 9, 82)),
        parameters=("set", "feature"),
    ),
    Dashboard(
        "Sample inspector",
        "One clip: what it looks like, what the model answers, second by second, and which channels respond.",
        "clip_features",
        (
            Zone("Answer", 0, 0, 100, 18),
            Zone("Spectrogram", 0, 18, 51, 44),
            Zone("Class probability over time", 0, 62, 51, 38),
            Zone("Strongest channels", 60, 18, 31, 82),
        ),
        legends=(
            Zone("Spectrogram", 51, 18, 9, 44),
            Zone("Class probability over time", 51, 62, 9, 38),
            Zone("Strongest channels", 91, 18, 9, 82),
        ),
        parameters=("clip",),
    ),
    Dashboard(
        "Eleven sounds",
        "What makes a clip hard: the hard pair is coloured. Click clips to see them alone; the sample inspector then "
        "opens with the one that was clicked alone last.",
        "clip_features",
        (
            Zone("Level", 0, 0, 30, 50),
            Zone("Brightness", 30, 0, 30, 50),
            Zone("Bandwidth", 60, 0, 31, 50),
            Zone("Mean spectrum", 0, 50, 91, 50),
        ),
        legends=(Zone("Level", 91, 0, 9, 50), Zone("Mean spectrum", 91, 50, 9, 50)),
        parameters=("class",),
        clicks=tuple(
            Click(source, tuple(("clip_id", target, "clip_id") for target in CLIP_BOARD if target != source))
            for source in CLIP_BOARD
        ),
    ),
)
# Sheet on which a click sets a parameter, to the field of the same meaning.
SETS: tuple[tuple[str, What], ...] = (
    ("Drift effects", "feature"),
    *((sheet, "clip") for sheet in CLIP_BOARD),
)
# Sheet whose menu opens these addresses, where thumbnails and sounds are served.
OPENS = ("High-confidence errors", "Answer")
LINKS = {"thumbnail_path": "Open the spectrogram", "audio_path": "Play the sound"}
BY_NAME = {sheet.name: sheet for sheet in SHEETS}
