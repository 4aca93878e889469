"""Every key of ``st.session_state`` with its type and default. Per-user choices live here and nowhere else.

Widgets write the keys; code reads them through ``get``. A choice that belongs to one sound carries the sound's digest
in its key, so that the next sound starts from the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import streamlit as st

if TYPE_CHECKING:
    from app.inspected import Place
    from app.services.records import Upload
    from core.admin import Ticket
    from core.drift_demo import Degrading
    from core.errors import EarshotError, StoreError
    from core.jobs import Augmentation, Evaluation, Where

T = TypeVar("T")


@dataclass(frozen=True)
class Key(Generic[T]):
    """One place in the session: its name, and what it holds before anyone chose."""

    name: str
    default: T

    def get(self) -> T:
        value: T = st.session_state.get(self.name, self.default)
        return value

    def start_with(self, value: T) -> None:
        """Hold ``value`` unless someone chose already. For widgets that code may set later: they take no default."""
        st.session_state.setdefault(self.name, value)

    def set(self, value: T) -> None:
        st.session_state[self.name] = value

    def of(self, digest: str) -> Key[T]:
        """The same choice, for one sound only."""
        return Key(f"{self.name}_{digest[:12]}", self.default)


BACKEND: Key[Where | None] = Key("backend", None)  # where sounds are answered; None: as the settings say
ASK_AGAIN: Key[bool] = Key("backend_again", False)
ANSWER_HERE: Key[bool] = Key("backend_here", False)

SOURCE: Key[str | None] = Key("classify_source", None)  # label of the open tab
UPLOAD: Key[None] = Key("classify_upload", None)  # st.file_uploader's own
RECORDING: Key[None] = Key("classify_recording", None)  # st.audio_input's own
SAMPLE_CLASS: Key[str | None] = Key("classify_sample_class", None)
SAMPLE_TAKE: Key[int] = Key("classify_sample_take", 0)  # which of the class's sample clips, from 0
DOWNLOAD: Key[bool] = Key("classify_download", False)

TOP_K: Key[int] = Key("classify_top_k", 5)
WINDOW: Key[int] = Key("explained_window", 0)  # analysis window explained, from 0
EXPLAINED: Key[str | None] = Key("explained_class", None)  # empty: the window's own answer
OVERLAY: Key[str] = Key("explained_overlay", "cam")  # over the spectrogram
STAGE: Key[str | None] = Key("classify_stage", None)  # None: the last stage
CHANNELS: Key[tuple[int, ...]] = Key("classify_channels", ())  # empty: the strongest

LOGGED: Key[dict[tuple[str, str, str], int]] = Key("logged", {})  # (database, sound, model) → id in the log
CONFIRM: Key[bool] = Key("label_confirm", False)  # one for each logged answer
CORRECTION: Key[str | None] = Key("label_correction", None)  # one for each logged answer
CORRECTION_ERROR: Key[StoreError | None] = Key("label_error", None)  # of the last one, until it was told

RECORDS: Key[str] = Key("records", "shipped")  # what every diagnostics page reads; the URL says it too
RECORDS_PICKED: Key[str] = Key("records_picked", "shipped")  # the chooser on the page
RECORDS_UPLOAD: Key[None] = Key("records_upload", None)  # st.file_uploader's own
RECORDS_FILE: Key[Upload | None] = Key("records_file", None)  # what came by it, kept over pages
RECORDS_CLASSES: Key[str] = Key("records_classes", "")  # names for a file that has none

CONFUSION_SHOWN: Key[str] = Key("performance_shown", "counts")
CONFUSION_CLASSES: Key[list[str]] = Key("performance_classes", [])  # one for each set of records
COMPARED_WITH: Key[str | None] = Key("performance_compared", None)
CALIBRATION_SIDE: Key[str] = Key("calibration_side", "after")  # of answers that come with a temperature
CALIBRATION_GIVEN: Key[str] = Key("calibration_given", "before")  # of answers that come without
THRESHOLD: Key[float] = Key("calibration_threshold", 0.7)

TRAINING_RUN: Key[str] = Key("run", "")  # on the Training page; the URL says it too
CURVES_MEMBER: Key[str] = Key("curves_member", "")  # which network of a cross-validation, a page
CURVES_EPOCH: Key[int] = Key("curves_epoch", 0)

DRIFT_SOURCE: Key[str] = Key("drift", "demo")  # what is compared; the URL says it too
DRIFT_REFERENCE: Key[str] = Key("drift_reference", "shipped")  # what it is held against
DRIFT_DAYS: Key[None] = Key("drift_days", None)  # one for each span of the log
DRIFT_FOLDER: Key[str] = Key("drift_folder", "Files or zips")
DRIFT_UPLOAD: Key[None] = Key("drift_upload", None)  # st.file_uploader's own, one for each kind
DRIFT_DEMO: Key[str | None] = Key("drift_demo", None)  # what happens to the demo's sounds; the URL says it too
DRIFT_OWN: Key[None] = Key("drift_own", None)  # form
DRIFT_DEGRADING: Key[Degrading | None] = Key("drift_degrading", None)  # what the form last asked for
DRIFT_FEATURES: Key[tuple[str, ...]] = Key("drift_features", ())  # distributions shown, for one pair of records
DRIFT_MAP: Key[str | None] = Key("drift_map_method", None)
DRIFT_JSON: Key[bool] = Key("drift_json", False)

INSPECTOR_TRUE: Key[list[str]] = Key("inspector_true", [])
INSPECTOR_PREDICTED: Key[list[str]] = Key("inspector_predicted", [])
INSPECTOR_OUTCOME: Key[str] = Key("inspector_outcome", "any")
INSPECTOR_CONFIDENCE: Key[tuple[float, float]] = Key("inspector_confidence", (0.0, 1.0))
INSPECTOR_FOLDS: Key[list[int]] = Key("inspector_folds", [])
INSPECTOR_UNKNOWN: Key[str] = Key("inspector_unknown", "any")
INSPECTOR_SOURCE: Key[str | None] = Key("inspector_source", None)
INSPECTOR_SEED: Key[int | None] = Key("inspector_seed", None)
INSPECTOR_ORDER: Key[str] = Key("inspector_order", "given")
INSPECTOR_PLACE: Key[Place | None] = Key("inspector_place", None)  # the answer shown; None: the first
INSPECTOR_URL: Key[dict[str, list[str]] | None] = Key("inspector_url", None)  # as the page left it
INSPECTOR_COMPARED: Key[str | None] = Key("inspector_compared", None)  # class whose descriptors stand beside the clip's

TICKET: Key[Ticket | None] = Key("admin_ticket", None)  # proof of this session's sign-in
TOKEN: Key[str] = Key("admin_token", "")  # emptied as soon as it is read
SIGN_IN_ERROR: Key[EarshotError | None] = Key("admin_sign_in_error", None)
LAUNCH_DATASET: Key[str] = Key("launch_dataset", "")
LAUNCH_PROTOCOL: Key[Evaluation] = Key("launch_protocol", "fold")
LAUNCH_WHERE: Key[Where] = Key("launch_where", "local")
LAUNCH_FOLD: Key[int | None] = Key("launch_fold", 1)
LAUNCH_SEED: Key[int] = Key("launch_seed", 0)
LAUNCH_SEEDS: Key[int] = Key("launch_seeds", 1)
LAUNCH_EPOCHS: Key[int] = Key("launch_epochs", 0)
LAUNCH_RATE: Key[float] = Key("launch_rate", 0.0)
LAUNCH_AUGMENTATION: Key[Augmentation] = Key("launch_augmentation", "full")
ADAPT_EPOCHS: Key[int] = Key("adapt_epochs", 0)
ADAPT_RATE: Key[float] = Key("adapt_rate", 0.0)
ADAPT_WHERE: Key[Where] = Key("adapt_where", "local")
ADMIN_OTHER: Key[str | None] = Key("admin_other", None)  # run that it is compared with
ADMIN_RUN: Key[str] = Key("admin_run", "")  # of the Models tab

FAILURES_SECTION: Key[str | None] = Key("section", None)  # label of the open tab; the URL says it too
FAILURES_TRUE: Key[str] = Key("failures_true", "")  # empty: any class
FAILURES_ANSWER: Key[str] = Key("failures_answer", "")
FAILURES_PAIR: Key[str | None] = Key("failures_pair", None)  # the confusion to hear
FAILURES_TAKE: Key[int] = Key("failures_take", 0)  # which of its wrong clips, from 0
FAILURES_SLICE: Key[str | None] = Key("failures_slice", None)  # whose clips are listed
FAILURES_TWO: Key[int] = Key("failures_two", 0)  # which pair of near-duplicates is heard
FAILURES_SEARCHED: Key[bool] = Key("failures_searched", False)  # a large set for copies
FAILURES_COMPARED: Key[bool] = Key("failures_compared", False)  # waveforms of near-duplicates were asked for
MAP_SPACE: Key[str | None] = Key("failures_map_space", None)
MAP_METHOD: Key[str | None] = Key("failures_map_method", None)
MAP_COLOUR: Key[str | None] = Key("failures_map_colour", None)
NOISE_CLASS: Key[str] = Key("failures_noise_class", "")
NOISE_CLIP: Key[str | None] = Key("failures_noise_clip", None)
TABLEAU_RUNS: Key[tuple[str, ...]] = Key("tableau_runs", ())
TABLEAU_WINDOW: Key[str | None] = Key("tableau_window", None)  # of the log; None: left out
TABLEAU_VERSION: Key[str | None] = Key("tableau_version", None)
TABLEAU_TABLE: Key[str | None] = Key("tableau_table", None)  # looked at
