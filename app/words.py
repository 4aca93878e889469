"""Numbers in plain words. Pure functions; every threshold says why it is where it is."""

from __future__ import annotations

import math

from core.records import Prediction

CLEAR_MARGIN = 0.5  # the first class then holds over half of all probability and no other can come near
CLOSE_MARGIN = 0.15  # below it a small change of the recording swaps the first two often enough to say so
ONE_ANSWER = 1.5  # effective number of classes (e^entropy): nearer to one than to two
FEW_ANSWERS = 3.5  # up to three real candidates can still be read off the bars

_SPACE = "\N{NO-BREAK SPACE}"  # a number never parts from its unit at a line's end


def plain(name: str) -> str:
    """``crying_baby`` → ``Crying baby``."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def percent(p: float) -> str:
    """A probability as a whole percentage; never a 0 % or 100 % that is not exactly so."""
    if 0 < p < 0.005:
        return f"<{_SPACE}1{_SPACE}%"
    if 0.995 <= p < 1:
        return f">{_SPACE}99{_SPACE}%"
    return f"{p * 100:.0f}{_SPACE}%"


def margin_in_words(prediction: Prediction) -> str:
    """How far the answer is ahead of the next one."""
    runner_up, p = list(prediction.probabilities.items())[1]
    rival = f"{plain(runner_up).lower()} ({percent(p)})"
    if prediction.margin >= CLEAR_MARGIN:
        return f"**Clear:** far ahead of the runner-up, {rival}."
    if prediction.margin >= CLOSE_MARGIN:
        return f"**Likely:** ahead of the runner-up, {rival}, but not by much."
    return f"**Close call:** the runner-up, {rival}, is nearly as probable."


def entropy_in_words(prediction: Prediction) -> str:
    """How many classes share the probability: e^entropy is 1 for certainty and K for a blind guess among K."""
    effective, classes = math.exp(prediction.entropy), len(prediction.probabilities)
    if effective < ONE_ANSWER:
        return "**Focused:** nearly all of the probability is on one class."
    if effective < FEW_ANSWERS:
        return f"**Divided:** as undecided as an even choice among {effective:.1f} of {classes} classes."
    return f"**Spread out:** as undecided as an even choice among {effective:.1f} of {classes} classes; hardly an answer."


def seconds(value: float) -> str:
    """``4.98 s``, and ``1:05 min`` from a minute on."""
    if value < 60:
        return f"{value:.2f}".rstrip("0").rstrip(".") + f"{_SPACE}s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes}:{rest:02d}{_SPACE}min"


def milliseconds(value: float) -> str:
    """``84 ms``, and ``1.2 s`` from a second on."""
    return f"{value:.0f}{_SPACE}ms" if value < 1000 else f"{value / 1000:.1f}{_SPACE}s"


def size(count: float) -> str:
    """Bytes in decimal megabytes, as download pages state them."""
    return f"{count / 1e6:.1f}{_SPACE}MB"
