"""Questions and answers on their way between machines: JSON text and bytes, never pickled classes of ours.

A question is ``{"ask": "classify", "sound": bytes}`` or ``{"ask": "explain", "sound": …, "options": {…}}``.
Both sides may run different releases of Python or of Earshot: what is not understood is an error, never a wrong answer.
Floating-point numbers arrive with the bits they left with.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from core.classifier import Classifier
from core.errors import AudioError, BackendError, EarshotError, LimitError
from core.explain import Explanation, Stage, explain
from core.occlusion import Occlusion
from core.records import Prediction, WindowPrediction

Packed = dict[str, Any]  # of str, bytes, numbers and None

_ERRORS: dict[str, type[EarshotError]] = {kind.__name__: kind for kind in (EarshotError, AudioError, LimitError)}


def ask_to_classify(sound: bytes) -> Packed:
    return {"ask": "classify", "sound": sound}


def ask_to_explain(sound: bytes, **options: str | int | bool | None) -> Packed:
    """``options``: what ``core.explain.explain`` takes by name."""
    return {"ask": "explain", "sound": sound, "options": options}


def answer_all(
    classifier: Classifier, questions: Sequence[Packed], *, backend: str, device: str, cold: bool
) -> list[Packed]:
    """One packed answer a question, in order: all that ask for a class as one batch of the network.

    Each says ``device`` and ``cold``, what ``Place`` says but for the way.
    """
    to_classify = [question["sound"] for question in questions if question["ask"] == "classify"]
    predictions = iter(classifier.predict_many(to_classify, backend=backend) if to_classify else [])
    packed = [
        pack_answer(next(predictions)) if question["ask"] == "classify" else _explained(classifier, question)
        for question in questions
    ]
    told = {"device": device, "cold": cold, "fingerprint": classifier.manifest.fingerprint}
    return [answer | told for answer in packed]


def _explained(classifier: Classifier, question: Packed) -> Packed:
    try:
        samples = classifier.decode(question["sound"]).samples
        return pack_explanation(explain(classifier, samples, **question["options"]))
    except EarshotError as exc:
        return pack_error(exc)


def pack_answer(answer: Prediction | AudioError) -> Packed:
    """A prediction, or why there is none."""
    return pack_error(answer) if isinstance(answer, AudioError) else {"prediction": answer.model_dump_json()}


def unpack_answer(packed: Packed) -> Prediction | AudioError:
    """Raises ``BackendError`` for what this release does not understand, and any error that is not of the audio."""
    if "error" in packed:
        error = unpack_error(packed)
        if isinstance(error, AudioError):
            return error
        raise error
    try:
        return Prediction.model_validate_json(packed["prediction"])
    except (KeyError, ValidationError) as exc:
        raise _foreign("a prediction", exc) from exc


def pack_error(error: EarshotError) -> Packed:
    """Its kind, its code and its sentence."""
    kind = next(cls.__name__ for cls in type(error).__mro__ if cls.__name__ in _ERRORS)
    return {"error": kind, "code": error.code, "message": str(error)}


def unpack_error(packed: Packed) -> EarshotError:
    return _ERRORS.get(packed["error"], EarshotError)(packed["message"], code=packed["code"])


def pack_explanation(why: Explanation) -> Packed:
    """Facts as JSON, every array in one compressed npz: feature maps are mostly zeros."""
    arrays: dict[str, NDArray[Any]] = {"log_mel": why.log_mel, "mel_hz": why.mel_hz}
    for number, stage in enumerate(why.stages):
        arrays |= {f"maps{number}": stage.maps, f"cam{number}": stage.cam}
    facts = {
        "label": why.label,
        "probability": why.probability,
        "start_s": why.start_s,
        "end_s": why.end_s,
        "hop_s": why.hop_s,
        "stages": [stage.name for stage in why.stages],
        "timeline": [window.model_dump() for window in why.timeline],
    }
    if why.occlusion is not None:
        occlusion = asdict(why.occlusion)
        arrays["evidence"] = occlusion.pop("evidence")
        facts["occlusion"] = occlusion
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return {"facts": json.dumps(facts), "arrays": buffer.getvalue()}


def unpack_explanation(packed: Packed) -> Explanation:
    """Raises the error that was packed instead of an explanation; ``BackendError`` for what is not understood."""
    if "error" in packed:
        raise unpack_error(packed)
    try:
        facts = json.loads(packed["facts"])
        names = facts.pop("stages")
        with np.load(io.BytesIO(packed["arrays"]), allow_pickle=False) as arrays:
            stages = tuple(Stage(name, arrays[f"maps{n}"], arrays[f"cam{n}"]) for n, name in enumerate(names))
            timeline = tuple(WindowPrediction.model_validate(window) for window in facts.pop("timeline", ()))
            occlusion = facts.pop("occlusion", None)
            return Explanation(
                log_mel=arrays["log_mel"],
                mel_hz=arrays["mel_hz"],
                stages=stages,
                timeline=timeline,
                occlusion=_occlusion(occlusion, arrays["evidence"]) if occlusion else None,
                **facts,
            )
    except (KeyError, TypeError, ValueError, OSError) as exc:
        raise _foreign("an explanation", exc) from exc


def _occlusion(facts: Packed, evidence: NDArray[np.float32]) -> Occlusion:
    spans = {name: tuple(facts[name]) for name in ("least_s", "least_rows")}
    return Occlusion(evidence=evidence, **(facts | spans))


def _foreign(what: str, exc: Exception) -> BackendError:
    return BackendError(
        f"Expected {what} from the other machine, got something this release of Earshot does not understand "
        f"({type(exc).__name__}). Deploy the same release there.",
        code="other_release",
    )
