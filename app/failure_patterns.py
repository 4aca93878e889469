"""What failing clips have in common: a map of all, slices, noise. Each draws one section of the Failure modes page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from app import components, links, services, state, words
from app.failures import CLIP, SHOWN, clip_player, clip_table, labelled, plain_classes, with_interval

if TYPE_CHECKING:
    import pandas as pd

    from core.diagnostics.maps import SoundMap
    from core.diagnostics.noise import NoiseScan
    from core.recordset import RecordSet

FIRST_COLOURS = ("label", "predicted", "correct", "confidence", "fold")
NO_COLOURS = {"clip_id", "id", "name"}
CLIPS_OFFERED = 300  # to put noise over; any other can be typed


def map_of_sounds(records: RecordSet) -> None:
    """Every clip a point, coloured by a column; a click opens it in the inspector."""
    from core.diagnostics.maps import METHODS, colouring
    from core.figures.failures import map_figure

    frame = records.frame()
    every = [column for column in frame if column not in NO_COLOURS and frame[column].notna().any()]
    columns = [*(name for name in FIRST_COLOURS if name in every), *(c for c in every if c not in FIRST_COLOURS)]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        space = st.selectbox(
            "Map of",
            services.maps.spaces(records),
            format_func=_space,
            key=state.MAP_SPACE.name,
            width=280,
            persist_state="page",
        )
        method = st.segmented_control(
            "Drawn by", METHODS, default=METHODS[0], required=True, key=state.MAP_METHOD.name, persist_state="page"
        )
        colour = st.selectbox(
            "Colour", columns, format_func=_column, key=state.MAP_COLOUR.name, width=240, persist_state="page"
        )
    with st.spinner("Drawing the map…"):
        drawn = services.maps.sound_map(records, state.RECORDS.get(), space, method)
    shown = frame.iloc[drawn.position].assign(wrong=(~records.correct & records.is_labelled)[drawn.position])
    shown["label"] = shown["label"].fillna("not known")
    event: Any = st.plotly_chart(
        map_figure(drawn, shown, colouring(shown[colour]), _column(colour)),
        key="failures_map",
        on_select="rerun",
        selection_mode="points",
        alt=f"Map of {len(drawn.xy):,} sounds by {drawn.method}, coloured by {_column(colour).lower()}.",
    )
    st.caption(" ".join(_how_to_read_map(records, drawn)))
    if points := [point for point in event["selection"]["points"] if point.get("customdata")]:
        row = records.table.iloc[int(points[0]["customdata"][0])]
        links.inspector(clip=str(row["clip_id"]), seed=int(row["seed"])).follow()


def _space(name: str) -> str:
    from core.diagnostics.maps import ANSWERS, TRAINING

    named = {ANSWERS: "Answers of all networks", TRAINING: "Sounds among training clips"}
    return named.get(name) or f"Embedding of {name}"


def _column(name: str) -> str:
    return {"label": "True class", "predicted": "Answer", "correct": "Right or wrong", "source_group": "Recording"}.get(
        name, words.plain(name)
    )


def _how_to_read_map(records: RecordSet, drawn: Any) -> list[str]:
    from core.diagnostics.maps import ANSWERS, TRAINING

    many = (
        f"{drawn.n:,} sounds."
        if len(drawn.xy) == drawn.n
        else (f"{len(drawn.xy):,} of {drawn.n:,} sounds: errors first, up to half of the map, then others at random.")
    )
    said = [
        many,
        "Near points were answered alike; crosses are wrong answers."
        if drawn.space == ANSWERS
        else "Near points sound alike to the network; crosses are wrong answers.",
    ]
    if drawn.ground is not None:
        said += on_training_in_words(drawn)
    elif drawn.method == "PCA":
        said.append(f"The two axes hold {words.percent(drawn.kept)} of the spread.")
    else:
        said.append("Only who is next to whom means something here, not how far apart groups lie.")
        if drawn.placed.any():
            said.append(f"{int(drawn.placed.sum()):,} points were placed among their nearest neighbours.")
    if drawn.space not in (ANSWERS, TRAINING) and services.records.run_folder(state.RECORDS.get()) is None:
        said.append(
            "A map of their own: these records do not say that the model answered them whose training clips are here "
            "(fingerprint), and embeddings of two networks have nothing in common."
        )
    if drawn.space == ANSWERS and records.embedding is not None and (records.table["fold"] > 0).any():
        said.append(
            "Embeddings of networks of different folds and seeds do not compare, so what they share is drawn: their "
            "calibrated answers. Choose one network to see its embedding."
        )
    return [*said, "Click a point to inspect it."]


def on_training_in_words(drawn: SoundMap) -> list[str]:
    """How points came onto the map of the training clips."""
    from core.diagnostics.maps import NEIGHBOURS

    assert drawn.ground is not None, "only maps with training clips are told so"
    behind = f"Grey: the {len(drawn.ground.table):,} clips that this network was trained on; they made the map."
    if drawn.method == "PCA":
        return [
            behind,
            f"The sounds are projected on the two axes of the training clips, which hold {words.percent(drawn.kept)} "
            "of these clips' spread.",
        ]
    return [
        behind,
        f"t-SNE was fitted on the training clips alone; each sound is put at the mean of the {NEIGHBOURS} training "
        "clips nearest to it by cosine, weighted by inverse distance, so that one unlike all of them still lies among "
        "some. Only who is next to whom means something, not how far apart groups lie.",
    ]


def weak_slices(records: RecordSet) -> None:
    """Groups of clips by accuracy, whether chance explains it, and the clips of one of them."""
    from core.diagnostics import slices
    from core.figures.failures import slices_figure

    if not labelled(records):
        return
    table = services.records.computed(slices.slice_table, records)
    average = float(records.labelled().correct.mean())
    st.markdown(_slices_in_words(table, average))
    st.plotly_chart(
        slices_figure(table, average),
        key="failures_slices_chart",
        config=components.NO_TOOLS,
        alt="Accuracy of the weakest slices with intervals, beside the average.",
    )
    st.caption(
        "A point is the accuracy of one group of clips, its line the 95 % interval (Wilson). Left of the dashed line "
        f"a slice is under {words.percent(slices.WEAK_RATIO)} of the average. Slices overlap."
    )
    if table.empty:
        return
    named = {f"{row.family}/{row.slice}": row for row in table.itertuples()}
    chosen = st.selectbox(
        "Clips of the slice",
        list(named),
        format_func=lambda key: f"{words.plain(named[key].family)}: {named[key].slice} ({named[key].rule})",
        key=state.FAILURES_SLICE.name,
        persist_state="page",
    )
    row = named[chosen]
    _slice_clips(services.records.computed(slices.members, records, row.family, row.slice))
    with st.expander(f"All {len(table)} slices"):
        _slice_table(table)
    _recordings(services.records.computed(slices.recordings, records))


def _slices_in_words(table: pd.DataFrame, average: float) -> str:
    from core.diagnostics.slices import BELOW, LEAST_SHARE, MAYBE, WEAK, WEAK_RATIO

    rule = (
        f"at least {words.percent(LEAST_SHARE)} of the clips and less than {words.percent(WEAK_RATIO)} of the average "
        f"accuracy, {words.tenth(average)}"
    )
    found = {verdict: table.loc[table["verdict"] == verdict, "slice"].tolist() for verdict in (WEAK, MAYBE, BELOW)}
    tested = f"after correction for {len(table)} slices (Fisher's exact test, Holm)"
    if found[WEAK]:
        said = f"**Weak, beyond chance:** {_listed(found[WEAK])}; {rule}, {tested}."
    elif found[MAYBE]:
        said = f"**Weak, perhaps by chance:** {_listed(found[MAYBE])}; {rule}, but not significant {tested}."
    else:
        said = f"**No slice is weak:** none of {len(table)} has {rule}."
    if found[BELOW]:
        said += f" **Below average**, though not that far, but beyond chance {tested}: {_listed(found[BELOW])}."
    return said


def _listed(names: list[str]) -> str:
    return words.literal(", ".join(names))


def _slice_clips(members: pd.DataFrame) -> None:
    clip_table(
        members.head(SHOWN),
        key="failures_members",
        columns={
            "clip_id": CLIP,
            "label": st.column_config.TextColumn("True class"),
            "predicted": st.column_config.TextColumn("Predicted"),
            "confidence": components.share_bar("Confidence"),
            "wrong": st.column_config.NumberColumn("Networks wrong"),
            "fold": st.column_config.NumberColumn("Fold"),
        },
        alt="Clips of the chosen slice, wrong ones first.",
    )
    st.caption(f"{len(members):,} clips, wrong ones first. Click a row to inspect it.")


def _slice_table(table: pd.DataFrame) -> None:
    components.table(
        with_interval(table),
        hide_index=True,
        column_order=["family", "slice", "rule", "n", "accuracy", "interval", "p_adjusted", "verdict"],
        column_config={
            "family": st.column_config.TextColumn("By"),
            "slice": st.column_config.TextColumn("Slice"),
            "rule": st.column_config.TextColumn("Clips with", width="medium"),
            "n": st.column_config.NumberColumn("n"),
            "accuracy": components.share_bar("Accuracy"),
            "interval": st.column_config.TextColumn("95 % interval"),
            "p_adjusted": st.column_config.NumberColumn("p (Holm)", format="%.3f"),
            "verdict": st.column_config.TextColumn("Verdict"),
        },
        alt="Every slice with accuracy, interval and verdict, the weakest first.",
    )


def _recordings(table: pd.DataFrame) -> None:
    if table.empty:
        return
    with st.expander(f"{len(table):,} source recordings with errors"):
        components.table(
            plain_classes(with_interval(table.head(SHOWN))),
            hide_index=True,
            column_order=["source_group", "label", "n", "wrong", "accuracy", "interval"],
            column_config={
                "source_group": st.column_config.TextColumn("Recording"),
                "label": st.column_config.TextColumn("Class"),
                "n": st.column_config.NumberColumn("Clips"),
                "wrong": st.column_config.NumberColumn("Wrong", format="%.4g"),
                "accuracy": components.share_bar("Accuracy"),
                "interval": st.column_config.TextColumn("95 % interval"),
            },
            alt="Source recordings by wrong clips.",
        )
        st.caption("Clips of one recording tend to fail together; one recording is seldom 5 % of the data.")


def noise(records: RecordSet) -> None:
    """Accuracy against noise and other damage, and how much noise one clip's answer survives."""
    answers = services.records.under_noise(state.RECORDS.get())
    if answers is None:
        st.subheader("All clips under noise", anchor=False)
        components.empty_state("These records were not asked again under noise. A cross-validation does that.")
    else:
        _noise_curve(records, answers)
    st.subheader("One clip under noise", anchor=False)
    _clip_under_noise(records, answers)


def _noise_curve(records: RecordSet, answers: pd.DataFrame) -> None:
    from core.diagnostics.noise import condition_table, snr_curve
    from core.figures.failures import conditions_figure, snr_figure

    name = st.selectbox(
        "Clips of",
        ["", *sorted(set(records.table["label"].dropna()))],
        format_func=lambda label: words.plain(label) or "Any class",
        key=state.NOISE_CLASS.name,
        width=240,
        persist_state="page",
    )
    if name:
        answers = answers[answers["clip_id"].isin(set(records.table.loc[records.table["label"] == name, "clip_id"]))]
    curve, every = snr_curve(answers), condition_table(answers)
    left, right = st.columns(2)
    with left:
        st.subheader("White noise", anchor=False)
        st.plotly_chart(snr_figure(curve), key="failures_snr", config=components.NO_TOOLS, alt="Accuracy against SNR.")
        st.caption(
            f"Accuracy of n = {answers['clip_id'].nunique():,} clips as white noise rises to the right; lines are 95 % "
            "intervals (Wilson). Each clip was answered by networks that never heard it."
        )
    with right:
        st.subheader("Every kind of damage", anchor=False)
        st.plotly_chart(
            conditions_figure(every), key="failures_damage", config=components.NO_TOOLS, alt="Accuracy by condition."
        )
        st.caption("The same clips and networks. The line is the accuracy as recorded; intervals are 95 % (Wilson).")


def _clip_under_noise(records: RecordSet, answers: pd.DataFrame | None) -> None:
    from core.diagnostics.failures import ranked_errors

    failed = services.records.computed(ranked_errors, records)["clip_id"].tolist() if records.is_labelled.any() else []
    offered = list(dict.fromkeys([*failed, *records.table["clip_id"].head(CLIPS_OFFERED)]))[:CLIPS_OFFERED]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        clip = st.selectbox(
            "Clip; errors come first",
            offered,
            index=None,
            placeholder="Choose one, or type its name",
            accept_new_options=True,
            key=state.NOISE_CLIP.name,
            width=360,
            persist_state="page",
        )
    if clip is None:
        components.empty_state("Choose a clip: white noise is added to it until the answer flips.")
        return
    sound = services.sounds.clip_sound(clip)
    if sound is None:
        clip_player(clip)
        return
    st.audio(sound.data, alt=f"Player of {clip}", width=360)
    with components.errors_shown():
        with st.spinner("Adding noise until the answer flips…", show_time=True):
            scan = services.sounds.noise_scan(services.answering.backend(), sound)
        _scan(scan)
        if answers is not None and (said := _held_out(answers, clip)):
            st.caption(said)


def _scan(scan: NoiseScan) -> None:
    from core.figures.failures import scan_figure

    st.markdown(words.flip_in_words(scan))
    st.plotly_chart(
        scan_figure(scan),
        key="failures_scan",
        config=components.NO_TOOLS,
        alt=f"Probability of {words.plain(scan.label).lower()} against the signal-to-noise ratio.",
    )
    st.caption(
        f"Noise rises to the right. Each line is one seeded draw of white noise over the first {scan.scanned_s:.3g} s; "
        "open points have lost the answer. The served model may have learnt from this very clip, which helps it."
    )


def _held_out(answers: pd.DataFrame, clip: str) -> str | None:
    """What the networks that never heard the clip made of it under noise."""
    from core.diagnostics.noise import snr_curve

    of_clip = answers[answers["clip_id"] == clip]
    if of_clip.empty:
        return None
    networks = of_clip["seed"].nunique()
    curve = snr_curve(of_clip)
    parts = [
        f"{row.condition.removeprefix('white noise, ')}: {round(row.accuracy * networks)}" for row in curve.itertuples()
    ]
    return f"Networks that never heard this clip and got it right, of {networks}: {'; '.join(parts)}."
