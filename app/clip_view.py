"""All that is known about one answer: what it says, how it sounds, why, what is like it, and how it compares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from app import components, explained, links, logbook, services, sound_input, state, words
from app.components import NO_TOOLS
from app.explainer import Explainer, explainer_of
from app.services.sounds import Sound
from core.diagnostics.descriptors import against
from core.diagnostics.neighbours import nearest
from core.diagnostics.selection import is_right, true_labels
from core.records import NONE_OF_THE_CLASSES, none_of_the
from core.recordset import RecordSet

if TYPE_CHECKING:
    from core.explain import Explanation

TOP_K = 5
NEIGHBOURS = 4
CHANNELS = 6
FEWEST_OF_CLASS = 5


@dataclass(frozen=True)
class Answer:
    """One record, with what the pieces below ask of it. ``true``: what the sound is, ``None`` where nobody knows."""

    records: RecordSet
    position: int
    row: pd.Series
    true: str | None
    predicted: str
    right: bool | None

    @classmethod
    def of(cls, records: RecordSet, position: int) -> Answer:
        one = records.take(np.array([position]))
        true, right = true_labels(one).iloc[0], is_right(one).iloc[0]
        row = one.frame().iloc[0]
        return cls(
            records,
            position,
            row,
            None if pd.isna(true) else str(true),
            str(row["predicted"]),
            None if pd.isna(right) else bool(right),
        )

    @property
    def probabilities(self) -> dict[str, float]:
        p = self.records.probabilities[self.position]
        order = np.argsort(-p, kind="stable")
        return {self.records.class_names[k]: float(p[k]) for k in order}

    @property
    def logged(self) -> int | None:
        """Its id in the prediction log."""
        return int(self.row["id"]) if "id" in self.row.index else None

    @property
    def digest(self) -> str:
        """What choices about this answer are kept by."""
        return f"{self.row['clip_id']}_{self.row['seed']}"

    @property
    def unknown(self) -> bool:
        return bool(self.row["unknown"]) if pd.notna(self.row["unknown"]) else False


def answer_card(answer: Answer) -> None:
    """True and predicted class, confidence, the most probable classes; for the log: what a person says."""
    from core.figures.audio import confidence_figure

    st.caption(" · ".join(_facts(answer)))
    st.subheader(_verdict(answer), anchor=False)
    st.markdown("  \n".join(_remarks(answer)))
    st.plotly_chart(
        confidence_figure(answer.probabilities, top_k=TOP_K),
        key="inspector_bars",
        config=NO_TOOLS,
        alt=f"Bars of the most probable classes; {words.plain(answer.predicted)} leads.",
    )
    if answer.logged is not None:
        _say_what_it_is(answer, answer.logged)


def _facts(answer: Answer) -> Iterator[str]:
    row = answer.row
    if answer.logged is not None:
        yield words.literal(str(row["name"]))
        yield f"{row['created_at']:%Y-%m-%d %H:%M:%S} UTC"
        yield f"answer {answer.logged}"
        return
    yield words.literal(str(row["clip_id"]))
    yield f"held out with fold {row['fold']}"
    yield f"seed {row['seed']}"
    yield f"recording {words.literal(str(row['source_group']))}"


def _verdict(answer: Answer) -> str:
    called, names = words.plain(answer.predicted), answer.records.class_names
    icon = {True: ":material/check_circle:", False: ":material/cancel:", None: ":material/help:"}[answer.right]
    if answer.unknown:
        called = f"{none_of_the(len(names))} · closest: {called}"
        if answer.true is not None and answer.true not in names:
            what = "" if answer.true == NONE_OF_THE_CLASSES else f" {_true(answer)}"
            return f"{icon} {none_of_the(len(names))}, and it is{what}"
    if answer.true is None:
        return f"{icon} {called}, true class not known"
    if answer.true == answer.predicted:
        return f"{icon} {called}, and it is"
    return f"{icon} {called}, but it is {_true(answer)}"


def _true(answer: Answer) -> str:
    said = logbook.said(str(answer.true), answer.records.class_names)
    return words.literal(said[:1].lower() + said[1:])


def _remarks(answer: Answer) -> Iterator[str]:
    temperature = float(answer.records.temperatures[answer.position])
    scale = (
        "as answered, at temperature 1" if temperature == 1 else f"after temperature scaling (T = {temperature:.2f})"
    )
    yield f"**{words.percent(float(answer.row['confidence']))}** confidence, {scale}."
    ranked = list(answer.probabilities)
    if answer.true in ranked and answer.true != answer.predicted:
        yield (
            f"The true class got **{words.percent(answer.probabilities[answer.true])}**, rank "
            f"{ranked.index(answer.true) + 1} of {len(ranked)}."
        )
    if answer.unknown:
        yield "**Called unknown:** unlike the sounds that the network learnt."


def _say_what_it_is(answer: Answer, number: int) -> None:
    record = services.environment.store().get(number)
    with st.container(border=True):
        st.markdown("**Is that right?** What you say is stored, and counts in every diagnostic of the log.")
        logbook.confirm_or_correct(record, answer.records.class_names)


def sound_of(answer: Answer) -> Sound | None:
    """The clip's sound, or a line why there is none."""
    clip_id = str(answer.row["clip_id"])
    if answer.logged is not None:
        data = services.environment.store().sound(clip_id)
        if data is None:
            st.info(
                "Its sound was not kept, so there is nothing to hear or to explain. Sounds are kept from the moment "
                "that EARSHOT_KEEP_AUDIO=1 is set.",
                icon=":material/volume_off:",
            )
            return None
        return Sound.of(str(answer.row["name"]), data)
    sound = services.sounds.dataset_clip(clip_id)
    if sound is None:
        folder = services.environment.settings().data_dir
        st.info(
            f"The clip {words.literal(clip_id)} is not in `{folder}`, so there is nothing to hear or to explain. Set "
            "EARSHOT_DATA_DIR to the dataset that these records come from.",
            icon=":material/volume_off:",
        )
        if not (folder / "meta").is_dir():
            sound_input.offer_download()
    return sound


def explainer(answer: Answer) -> Explainer:
    """The network that explains this answer."""
    return explainer_of(answer.records, state.RECORDS.get(), fold=int(answer.row["fold"]), seed=int(answer.row["seed"]))


@st.fragment
def heard(answer: Answer, sound: Sound, by: Explainer) -> None:
    """Player, waveform, mel spectrogram and class probabilities under one cursor; where the network looked."""
    st.subheader("What it heard, and why", anchor=False)
    with components.errors_shown():
        prediction = services.sounds.classify(by.backend, sound)
        said = [by.in_words()]
        if by.kin != "same":
            said.append(f"It answers {words.plain(prediction.label).lower()} ({words.percent(prediction.confidence)}).")
        first = [name for name in (answer.predicted, answer.true, prediction.label) if name is not None]
        why = explained.player(
            by.backend, sound, prediction, key="inspector_player", digest=answer.digest, first=first, said=said
        )
        components.quality_warnings(prediction)
        _layers(why)


def _layers(why: Explanation) -> None:
    from core.figures.inspector import thumbnails_figure

    with st.expander("What the layers responded to", icon=":material/layers:", expanded=True):
        st.plotly_chart(
            thumbnails_figure(why.stages, channels=CHANNELS, span_s=(why.start_s, why.end_s)),
            key="inspector_layers",
            config=NO_TOOLS,
            alt=f"Feature maps of {len(why.stages)} stages: the mean and the {CHANNELS} strongest channels of each.",
        )
        st.caption(
            "A row is a stage of the network, from the first to the last (channels × frequency × time): the mean over "
            "its channels, then its strongest ones. The more a colour stands out, the stronger the response."
        )


def alike(answer: Answer, sound: Sound | None, by: Explainer) -> None:
    """The nearest known clips in the embedding, with players."""
    st.subheader("Most alike", anchor=False)
    found = _nearest(answer, sound, by)
    if found is None:
        st.caption("These records have no embeddings, so nothing can be said to be near.")
        return
    among, table = found
    if table.empty:
        st.caption(f"There is no other clip among the {among}.")
        return
    for column, neighbour in zip(st.columns(NEIGHBOURS), table.itertuples(index=False), strict=False):
        with column:
            _neighbour(answer, neighbour)
    st.caption(
        f"The nearest of the {among}, by the angle between embeddings: 0 is the same sound to the network, 1 has "
        "nothing in common. Clips of the same recording are no independent evidence."
    )


def _neighbour(answer: Answer, neighbour: object) -> None:
    clip_id, label, distance = (getattr(neighbour, name) for name in ("clip_id", "label", "distance"))
    named = words.plain(str(label)) if pd.notna(label) else "Not labelled"
    same = ", same recording" if getattr(neighbour, "same_recording", False) else ""
    st.markdown(f"**{words.literal(named)}**")
    st.caption(f"{words.literal(str(clip_id))}  \ndistance {distance:.2f}{same}")
    data = services.environment.store().sound(str(clip_id)) if answer.logged is not None else None
    sound = services.sounds.dataset_clip(str(clip_id)) if data is None else Sound.of(str(clip_id), data)
    if sound is not None:
        st.audio(sound.data, alt=f"Player of {clip_id}")
    if answer.logged is None:
        links.inspector(clip=str(clip_id)).show("Inspect", icon=":material/manage_search:")


def _nearest(answer: Answer, sound: Sound | None, by: Explainer) -> tuple[str, pd.DataFrame] | None:
    """Among which clips, and the nearest of them; ``None`` where there are no embeddings."""
    clip_id, group = str(answer.row["clip_id"]), str(answer.row["source_group"])
    reference = services.answering.reference(by.artifact)
    if reference is not None:
        embedding = _embedding(answer, sound, by, reference)
        if embedding is not None:
            known = np.stack(reference["embedding"].to_list()).astype(np.float32)
            among = f"{len(reference):,} clips that the explaining network was trained on"
            return among, nearest(embedding, reference, known, k=NEIGHBOURS, clip_id=clip_id, source_group=group)
    records = answer.records
    if records.embedding is None:
        return None
    row = answer.row
    peers = np.flatnonzero(((records.table["fold"] == row["fold"]) & (records.table["seed"] == row["seed"])).to_numpy())
    among = f"{peers.size:,} sounds that the same network answered without having heard them"
    some = records.take(peers)
    known = some.table.assign(label=true_labels(some))
    assert some.embedding is not None
    mine = records.embedding[answer.position]
    return among, nearest(mine, known, some.embedding, k=NEIGHBOURS, clip_id=clip_id, source_group=group)


def _embedding(
    answer: Answer, sound: Sound | None, by: Explainer, reference: pd.DataFrame
) -> NDArray[np.float32] | None:
    """The clip as the explaining network hears it."""
    if by.kin == "same" and answer.records.embedding is not None:
        return np.asarray(answer.records.embedding[answer.position])
    own = reference.loc[reference["clip_id"] == answer.row["clip_id"], "embedding"]
    if len(own):
        return np.asarray(own.iloc[0], dtype=np.float32)
    if sound is None:
        return None
    return np.asarray(services.sounds.classify(by.backend, sound).embedding, dtype=np.float32)


@st.fragment
def acoustics(answer: Answer, by: Explainer) -> None:
    """The clip's descriptors in their distribution over a class."""
    from core.figures.inspector import standing_figure

    st.subheader("How it compares", anchor=False)
    classes = [name for name in dict.fromkeys([answer.true, answer.predicted]) if name in answer.records.class_names]
    name = st.segmented_control(
        "Beside the clips of",
        classes,
        default=classes[0],
        format_func=words.plain,
        required=True,
        key=state.INSPECTOR_COMPARED.of(answer.digest).name,
    )
    whose, others = _of_class(answer, by, str(name))
    if len(others) < FEWEST_OF_CLASS:
        st.caption(
            f"{len(others)} {whose} are too few to compare with: {FEWEST_OF_CLASS} at the least, with descriptors."
        )
        return
    table = against({column: answer.row[column] for column in others if column in answer.row.index}, others)
    called = words.plain(str(name)).lower()
    st.plotly_chart(
        standing_figure(table, sound="this sound", others=f"{called} (n = {len(others):,})"),
        key="inspector_standing",
        config=NO_TOOLS,
        alt=f"Each descriptor of this sound in the distribution of {len(others)} {whose}.",
    )
    st.caption(
        f"Each row is a descriptor; bars are the {len(others):,} {whose}, the diamond is this sound. A diamond off the "
        f"thin bar is unusual for {called}; hover for values with units."
    )


def _of_class(answer: Answer, by: Explainer, name: str) -> tuple[str, pd.DataFrame]:
    """Whose descriptors stand for class ``name``, and these: its labelled clips in the records, else in training."""
    records, row = answer.records, answer.row
    others = ((records.table["clip_id"] != row["clip_id"]) & (records.table["seed"] == row["seed"])).to_numpy()
    known = records.table[others & (records.targets == records.class_names.index(name))]
    plain = words.plain(name).lower()
    if len(known) >= FEWEST_OF_CLASS or answer.logged is None:
        return f"other clips of {plain}", known
    reference = services.answering.reference(by.artifact)
    if reference is None:
        return f"labelled sounds of {plain}", known
    return f"training clips of {plain}", reference[reference["label"] == name]
