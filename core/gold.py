"""What the shipped model answers for eleven clips, held: top-1, confidence and unknown flag.

    python -m core gold --data DIR            # what moved since it was recorded
    python -m core gold --data DIR --record   # `make gold`: hold what it answers now

``core.dataset.GOLD`` names the clips and why. A network that was retrained, a changed front end, another resampler:
each moves an answer here before anyone hears of it. The artifact was trained on these very clips, so nothing here says
how accurate it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from core.classifier import Classifier
from core.config import Frozen
from core.dataset import GOLD
from core.download import read_checksums
from core.errors import DatasetError

GOLD_FILE = Path(__file__).parent / "assets" / "gold.json"
TOLERANCE = 0.02  # of confidence
DIGITS = 4
SHOWN = 3  # names listed in an error before "…"


class GoldAnswer(Frozen):
    """The answer for one gold clip; ``confidence`` in [0, 1], rounded to ``DIGITS``."""

    clip: str
    label: str
    confidence: float
    unknown: bool


class GoldRecord(Frozen):
    """The answers for all gold clips, in the order of ``GOLD``, of the artifact with this ``fingerprint``."""

    fingerprint: str
    answers: tuple[GoldAnswer, ...]


def answers(classifier: Classifier, folder: Path) -> GoldRecord:
    """Classify the gold clips in ``folder/audio``. Raises ``DatasetError`` for one that is missing or another one."""
    return GoldRecord(
        fingerprint=classifier.manifest.fingerprint,
        answers=tuple(_answer(classifier, name, data) for name, data in gold_clips(folder).items()),
    )


def differences(expected: GoldRecord, got: GoldRecord) -> list[str]:
    """One line a clip whose answer moved: in class, in confidence by more than ``TOLERANCE``, or in unknown flag."""
    then, now = ({answer.clip: answer for answer in record.answers} for record in (expected, got))
    lines = []
    for clip in {**now, **then}:
        if clip not in then:
            lines.append(f"{clip}: not recorded → {_in_words(now[clip])}")
        elif clip not in now:
            lines.append(f"{clip}: {_in_words(then[clip])} → not asked")
        elif moved := ", ".join(_moved(then[clip], now[clip])):
            lines.append(f"{clip}: {_in_words(then[clip])} → {_in_words(now[clip])} ({moved})")
    return lines


def read_gold(*, missing_ok: bool = False) -> GoldRecord:
    """The answers held, or none at all if they are missing and ``missing_ok``. Raises ``DatasetError``."""
    if missing_ok and not GOLD_FILE.exists():
        return GoldRecord(fingerprint="", answers=())
    try:
        return GoldRecord.model_validate_json(GOLD_FILE.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as exc:
        raise DatasetError(
            f"Expected the recorded gold answers in {GOLD_FILE}, got {type(exc).__name__}. "
            "Restore the file, or remove it and record anew: make gold.",
            code="no_gold",
        ) from exc


def write_gold(record: GoldRecord) -> None:
    """Hold ``record`` from now on."""
    text = json.dumps(record.model_dump(), indent=2, ensure_ascii=False) + "\n"
    GOLD_FILE.write_text(text, encoding="utf-8")


def gold_clips(folder: Path) -> dict[str, bytes]:
    """Name → bytes, each as published: a clip that was encoded again would move an answer, too.

    Raises ``DatasetError`` for one that is missing or another one.
    """
    expected = {row["filename"]: row["sha256"] for row in read_checksums()}
    found, wrong = {}, []
    for clip in GOLD:
        path = folder / "audio" / clip.filename
        try:
            found[clip.filename] = path.read_bytes()
        except OSError as exc:
            wrong.append(f"{clip.filename} ({exc.strerror or exc})")
            continue
        if hashlib.sha256(found[clip.filename]).hexdigest() != expected[clip.filename]:
            wrong.append(f"{clip.filename} (another content)")
    if wrong:
        names = ", ".join(wrong[:SHOWN]) + (" …" if len(wrong) > SHOWN else "")
        raise DatasetError(
            f"Expected the {len(GOLD)} gold clips in {folder / 'audio'}, {len(wrong)} are not there as published: "
            f"{names}. Fetch them: python -m core download --dataset gold.",
            code="gold_clips",
        )
    return found


def _answer(classifier: Classifier, clip: str, data: bytes) -> GoldAnswer:
    prediction = classifier.predict(data)
    return GoldAnswer(
        clip=clip,
        label=prediction.label,
        confidence=round(prediction.confidence, DIGITS),
        unknown=prediction.unknown,
    )


def _moved(then: GoldAnswer, now: GoldAnswer) -> Iterator[str]:
    if now.label != then.label:
        yield "another class"
    elif round(abs(now.confidence - then.confidence), DIGITS) > TOLERANCE:
        yield f"confidence {now.confidence - then.confidence:+.{DIGITS}f}, ± {TOLERANCE} allowed"
    if now.unknown != then.unknown:
        yield "now unknown" if now.unknown else "no longer unknown"


def _in_words(answer: GoldAnswer) -> str:
    return f"{answer.label} {answer.confidence:.{DIGITS}f}{' (unknown)' if answer.unknown else ''}"
