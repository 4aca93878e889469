"""What a model is and what may be expected of it, from its artifact alone. Each draws one section."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import streamlit as st

from app import words
from core.errors import RunError
from core.report import SCORE_NAMES

if TYPE_CHECKING:
    from core.artifact import Manifest

LIMITS = """
- It knows only its classes. What is unlike everything it learnt from is called none of them; a sound close to one of
  the classes may still pass for it.
- One answer for one window of sound: two sounds at once are not told apart.
- Confidence is calibrated on clips of its own dataset; on recordings unlike them it means less: see the Drift page.
- Few clips a class stand behind its numbers, which is why each has an interval.
- It is no safety device: do not let it alone decide that a baby is not crying.
"""
CITATION = """
K. J. Piczak, *ESC: Dataset for Environmental Sound Classification*, Proceedings of the 23rd ACM International
Conference on Multimedia, 2015, [doi:10.1145/2733373.2806390](https://doi.org/10.1145/2733373.2806390)
"""
BIBTEX = """@inproceedings{piczak2015esc,
  author    = {Karol J. Piczak},
  title     = {{ESC}: Dataset for Environmental Sound Classification},
  booktitle = {Proceedings of the 23rd ACM International Conference on Multimedia},
  year      = {2015},
  pages     = {1015--1018},
  doi       = {10.1145/2733373.2806390}
}"""


def identity(manifest: Manifest) -> None:
    """Which network, trained on what."""
    names = ", ".join(words.plain(name).lower() for name in manifest.class_names)
    st.markdown(
        f"A residual network on log-mel spectrograms that tells {len(manifest.class_names)} sounds apart: "
        f"{words.literal(names)}."
    )
    facts = {
        "Trained on": f"{words.literal(manifest.dataset)}, content {manifest.dataset_hash[:12] or 'not recorded'}",
        "Training run": f"{words.literal(manifest.run_id)}, {manifest.created_at:%Y-%m-%d %H:%M} UTC",
        "Fingerprint": f"`{manifest.fingerprint}`",
        "Weights": f"`{manifest.weights_sha256}` (sha256)",
        "Code version": words.literal(manifest.code_version),
    }
    st.markdown("\n".join(f"- **{name}:** {value}" for name, value in facts.items()))


def measured(manifest: Manifest) -> None:
    """Its numbers with intervals, and how they were measured."""
    from core.report import results_table

    st.subheader("What was measured", anchor=False)
    try:
        table = _as_sentences(results_table(manifest.metrics))
        with st.container(key="card_measured"):
            st.html("<style>.st-key-card_measured table {display: block; overflow-x: auto}</style>")
            st.markdown(table)  # on a phone the table scrolls and the page does not
    except RunError:
        st.markdown(
            "This model has not been evaluated by a cross-validation: there is no held-out accuracy to promise. "
            "`python -m core crossval` measures one."
        )
        return
    st.caption(
        "On clips that the answering network never heard; folds as published, the last epoch, whatever it scored. "
        "The recipe of the shipped model, and the score for unknown sounds in bold, were chosen on these same folds: "
        "expect a little less on others."
    )


def _as_sentences(table: str) -> str:
    """A Markdown table whose cells begin with capitals, as everything on a page does."""
    return re.sub(r"(?<=\| )(\**[a-z])(?=[a-z ])", lambda first: first.group().upper(), table)


def preprocessing(manifest: Manifest) -> None:
    """What every sound goes through, the same in training and in use."""
    audio, mel = manifest.audio, manifest.features
    st.subheader("What a sound goes through", anchor=False)
    unknown, quantile = manifest.unknown, manifest.conformal_quantile
    steps = [
        f"mono, {audio.sample_rate_hz / 1000:g} kHz; longer sounds in windows of {audio.window_s:g} s every "
        f"{audio.hop_s:g} s",
        f"{mel.n_mels} mel bands from {mel.f_min_hz:,g} to {mel.f_max_hz:,g} Hz, {mel.n_fft:,} samples a frame, a "
        f"frame every {mel.hop_samples}; {mel.top_db:g} dB below the loudest are kept",
        f"temperature {manifest.temperature:.3f} divides the logits",
        "no rule says what is none of the classes"
        if unknown is None
        else f"none of the classes where the unknown-sound score ({SCORE_NAMES[unknown.score]}) exceeds "
        f"{unknown.threshold:.3g}; "
        f"{words.percent(unknown.accepted)} of known clips stay under it",
        "no conformal quantile"
        if quantile is None
        else f"conformal quantile {quantile:.3f}, for sets that hold the truth at least nine times in ten",
    ]
    st.markdown("\n".join(f"- {step[:1].upper()}{step[1:]}." for step in steps))
    st.caption("These travel inside the artifact: nothing of it can be set, and so mistaken, when the model is used.")


def _shared_audio() -> str:
    """Which clips of ESC-10 are in part the same sound, and what that is worth."""
    from core.dataset import SHARED_AUDIO

    within = [pair for pair in SHARED_AUDIO if pair[0][0] == pair[1][0]]  # a file name begins with its fold
    across = [pair for pair in SHARED_AUDIO if pair not in within]
    return (
        f"- {len(SHARED_AUDIO)} pairs of ESC-10's clips share audio though their recordings have different names. In "
        f"one fold lie {_pairs(within)}: their errors count twice. Across folds lies {_pairs(across)}: each of these "
        "was answered by networks that did not learn from the other. The folds are kept as published, so that numbers "
        "compare.\n"
    )


def _pairs(pairs: list[tuple[str, str]]) -> str:
    return words.literal(", ".join(f"{a} with {b}" for a, b in pairs))


def limits_and_licence(manifest: Manifest) -> None:
    """What not to expect, what may be done with it, whom to cite."""
    st.subheader("Limits", anchor=False)
    st.markdown(LIMITS + (_shared_audio() if manifest.dataset in ("ESC-10", "ESC-50") else ""))
    st.subheader("Licence and citation", anchor=False)
    kind = {"ESC-10": "CC BY, CC0 and CC Sampling+", "ESC-50": "CC BY-NC: not for commercial use"}
    data = kind.get(manifest.dataset, "to be asked of whoever made it")
    st.markdown(
        f"The code is under the MIT licence. Licence of the training clips: {data}. The authors of ESC-10's clips are "
        f"named in `core/assets/attribution.csv`. Whoever uses ESC cites:\n{CITATION}"
    )
    st.code(BIBTEX, language="bibtex")
