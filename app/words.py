"""Numbers in plain words. Pure functions; every threshold says why it is where it is."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from core.records import Prediction, SourceFacts
from core.shares import SPACE
from core.shares import percent as to_a_tenth

if TYPE_CHECKING:
    from core.artifact import Manifest
    from core.diagnostics.classification import Comparison
    from core.diagnostics.intervals import Estimate
    from core.diagnostics.noise import NoiseScan
    from core.training.overview import RunFacts

CLEAR_MARGIN = 0.5  # the first class then holds over half of all probability and no other can come near
CLOSE_MARGIN = 0.15  # below it a small change of the recording can swap the first two
ONE_ANSWER = 1.5  # effective number of classes, e^entropy: nearer to one than to two
FEW_ANSWERS = 3.5  # up to three real candidates can still be read off the bars
LEADERS_NAMED = 5  # a longer list is not read

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#$~:|!^])")
_CHANNELS = {1: "mono", 2: "stereo"}


def plain(name: str) -> str:
    """``crying_baby`` → ``Crying baby``."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def literal(text: str) -> str:
    """Text from outside (a file's name, an error) escaped, so that Markdown shows it as it is."""
    return _MARKDOWN.sub(r"\\\1", text)


def percent(p: float) -> str:
    """A probability as a whole percentage; never a 0 % or 100 % that is not exactly so."""
    if 0 < p < 0.01:
        return f"<{SPACE}1{SPACE}%"
    if 0.99 < p < 1:
        return f">{SPACE}99{SPACE}%"
    return f"{p * 100:.0f}{SPACE}%"


def margin_in_words(prediction: Prediction) -> str:
    """How far the answer is ahead of the next one."""
    name, p = list(prediction.probabilities.items())[1]
    runner_up = f"{plain(name).lower()} ({percent(p)})"
    if prediction.margin >= CLEAR_MARGIN:
        return f"**Clear:** far ahead of the runner-up, {runner_up}."
    if prediction.margin >= CLOSE_MARGIN:
        return f"**Likely:** ahead of the runner-up, {runner_up}, which stays possible."
    return f"**Close call:** the runner-up, {runner_up}, is {_points(prediction.margin)} behind."


def _points(margin: float) -> str:
    """``only 7 points``; a lead is never told as nothing."""
    points = round(margin * 100)
    return "less than a point" if points == 0 else "only 1 point" if points == 1 else f"only {points} points"


def entropy_in_words(prediction: Prediction) -> str:
    """How many classes share the probability: e^entropy is 1 for certainty and K for a blind guess among K."""
    effective, classes = math.exp(prediction.entropy), len(prediction.probabilities)
    if effective < ONE_ANSWER:
        return "**Focused:** nearly all of the probability is on one class."
    undecided = f"as undecided as an even choice among {effective:.1f} of the {classes} classes"
    if effective < FEW_ANSWERS:
        return f"**Divided:** {undecided}."
    return f"**Spread out:** {undecided}."


def other_sounds(manifest: Manifest) -> str:
    """What becomes of a sound that is none of the classes."""
    if manifest.unknown is None:
        return "Any other sound gets the most similar of them."
    return (
        "A sound unlike all it learnt from is called none of them, and so is about one in "
        f"{round(1 / (1 - manifest.unknown.accepted))} of the sounds it knows."
    )


def strangeness_in_words(prediction: Prediction) -> str:
    """Why a sound is called none of the classes, and which come closest."""
    (first, p), (second, q) = list(prediction.probabilities.items())[:2]
    return (
        f"**Unlike the sounds it learnt.** The closest are {plain(first).lower()} ({percent(p)}) and "
        f"{plain(second).lower()} ({percent(q)}): what it would answer if it had to choose one of its classes."
    )


def unknown_stretches(prediction: Prediction) -> str | None:
    """How many stretches of a long sound are none of the classes; ``None`` where none is or there is one stretch."""
    strange = sum(window.unknown for window in prediction.windows)
    if strange == 0 or len(prediction.windows) == 1:
        return None
    return f"**{strange} of {len(prediction.windows)} stretches** are none of the classes: the open points below."


def leaders(prediction: Prediction, class_names: Sequence[str]) -> list[str]:
    """The classes that lead in at least one stretch of a long sound, the longest lead first."""
    led = Counter(max(zip(window.probabilities, class_names, strict=True))[1] for window in prediction.windows)
    return [name for name, _ in led.most_common()]


def leaders_in_words(names: Sequence[str]) -> str | None:
    """Which classes take turns; ``None`` where one leads all along."""
    if len(names) < 2:
        return None
    *first, last = [plain(name).lower() for name in names[:LEADERS_NAMED]]
    if len(names) > LEADERS_NAMED:
        first, last = [*first, last], f"{len(names) - LEADERS_NAMED} more"
    return f"**Changes over time:** {', '.join(first)} and {last} each lead for a while; see the lines below."


def seconds(value: float) -> str:
    """``4.98 s``; from a minute on ``1:05 min`` or ``10 min``."""
    if value < 60:
        return f"{value:.2f}".rstrip("0").rstrip(".") + f"{SPACE}s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes}:{rest:02d}{SPACE}min" if rest else f"{minutes}{SPACE}min"


def span(start_s: float, end_s: float) -> str:
    """``2.5–7.5 s``, and ``0:57.5–1:02.5 min`` where it ends past a minute."""
    if end_s < 60:
        return f"{_tenths(start_s)}–{_tenths(end_s)}{SPACE}s"
    return f"{_clock(start_s)}–{_clock(end_s)}{SPACE}min"


def _clock(value_s: float) -> str:
    minutes, rest = divmod(round(value_s, 1), 60)
    return f"{minutes:.0f}:{_tenths(rest):0>{4 if rest % 1 else 2}}"


def _tenths(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def milliseconds(value: float) -> str:
    """``84 ms``, and ``1.2 s`` from a second on."""
    return f"{value:.0f}{SPACE}ms" if value < 1000 else f"{value / 1000:.1f}{SPACE}s"


def place(prediction: Prediction) -> str:
    """``on this machine's CPU in 35 ms``; ``on Modal (NVIDIA A10, already warm) in 310 ms, 22 ms of them work``."""
    work = milliseconds(prediction.latency_ms)
    if prediction.place is None:
        return f"on this machine's CPU in {work}"
    state = "cold: a container was started for it" if prediction.place.cold else "already warm"
    waited = milliseconds(prediction.place.round_trip_ms)
    where = f"{plain(prediction.backend)} ({literal(prediction.place.device)}, {state})"
    return f"on {where} in {waited}, {work} of them work"


def megabytes(count: float) -> str:
    """Bytes in decimal megabytes, as download pages state them."""
    return f"{count / 1e6:.1f}{SPACE}MB"


def source(facts: SourceFacts) -> str:
    """What the file was: ``44.1 kHz mono, ogg (vorbis)``."""
    channels = _CHANNELS.get(facts.channels, f"{facts.channels} channels")
    return f"{facts.sample_rate_hz / 1000:g}{SPACE}kHz {channels}, {facts.container} ({facts.codec})"


def accuracy(run: RunFacts) -> str:
    """``95.2 % (92.7 % to 96.9 %, n = 400)``; empty where no clip was held out."""
    if run.accuracy is None or run.low is None or run.high is None:
        return ""
    return f"{tenth(run.accuracy)} ({tenth(run.low)} to {tenth(run.high)}, n{SPACE}={SPACE}{run.n:,})"


def between(low: float, high: float) -> str:
    """``92.7 to 96.9 %``: an interval in a table."""
    return f"{low * 100:.1f} to {f'100{SPACE}%' if high == 1 else tenth(high)}"


def decimals(found: Estimate) -> str:
    """The 95 % interval of a value that is no share."""
    if math.isnan(found.low):
        return "No interval: too few recordings"
    return f"95 % interval {found.low:.3f} to {found.high:.3f}"


def spread(found: Estimate) -> str:
    """``95.2 % (92.7 to 96.9 %)``: a share with its interval."""
    bounds = "no interval" if math.isnan(found.low) else between(found.low, found.high)
    return f"{tenth(found.value)} ({bounds})"


def finely(found: Estimate) -> str:
    """``0.0042 (0.0011 to 0.0093)``: an area with its interval."""
    bounds = "no interval" if math.isnan(found.low) else f"{found.low:.4f} to {found.high:.4f}"
    return f"{found.value:.4f} ({bounds})"


def tenth(share: float) -> str:
    """``95.2 %``; ``100.0 %`` and ``0.0 %`` only for all and for none."""
    return to_a_tenth(share)


def run_in_words(run: RunFacts) -> str:
    """State, data, protocol and result of a training run, in one line."""
    parts = [plain(run.state), literal(run.dataset), run.protocol, f"{run.epochs} epochs", literal(run.message)]
    if run.accuracy is not None:
        parts.append(f"held-out accuracy {accuracy(run)}")
    return " · ".join(part for part in parts if part)


def remaining(value_s: float | None) -> str:
    """How long something will still take, no finer than anyone can know: ``about 4 min``."""
    if value_s is None:
        return "time left not known yet"
    if value_s < 90:
        return f"about {max(1, round(value_s))}{SPACE}s left"
    minutes = round(value_s / 60)
    if minutes < 90:
        return f"about {minutes}{SPACE}min left"
    return f"about {value_s / 3600:.1f}{SPACE}h left"


def comparison(name: str, other: str, found: Comparison) -> str:
    """Whether one run answers the same clips better than another, and how sure that is."""
    points, low, high = (100 * value for value in (found.difference.value, found.difference.low, found.difference.high))
    told = "better" if points > 0 else "worse"
    verdict = f"**{literal(name)} is {told}**" if found.p < 0.05 else "**Not told apart from chance**"
    return (
        f"{verdict}: {tenth(found.b.value)} against {tenth(found.a.value)} of {literal(other)} on the {found.n:,} "
        f"held-out clips that both answered; {points:+.1f} points ({low:+.1f} to {high:+.1f}), "
        f"p{SPACE}={SPACE}{found.p:.2g}."
    )


def epoch_in_words(metrics: Mapping[str, float]) -> str:
    """The last epoch's numbers of a training: ``loss 0.532, held out 0.488 · accuracy 81 % …``."""
    parts = []
    for called, kind, shown in (("loss", "loss", "{:.3f}".format), ("accuracy", "accuracy", percent)):
        values = [(name, metrics.get(f"{name}/{kind}")) for name in ("train", "val")]
        told = [
            shown(value) if name == "train" else f"held out {shown(value)}"
            for name, value in values
            if value is not None
        ]
        if told:
            parts.append(f"{called} {', '.join(told)}")
    if "learning_rate" in metrics:
        parts.append(f"learning rate {metrics['learning_rate']:.1e}")
    return " · ".join(parts)


def flip_in_words(scan: NoiseScan) -> str:
    """At which signal-to-noise ratio the answer to a clip is lost."""
    answer, draws = plain(scan.label).lower(), len(scan.flips_db)
    if not scan.flipped:
        return f"**Never flips:** it stays {answer} down to {_db(scan.lowest_db)} SNR, in {draws} draws of noise."
    first, last = scan.flipped[0], scan.flipped[-1]
    said = f"**Flips at {_db(first)} SNR:** above it the answer is {answer}"
    if stays := draws - len(scan.flipped):
        return f"{said}. In {stays} of {draws} draws of noise it never flips, down to {_db(scan.lowest_db)}."
    return f"{said}. Over {draws} draws of noise it flips between {_db(first)} and {_db(last)}."


def _db(value: float) -> str:
    return f"{value:.0f}{SPACE}dB".replace("-", "−")
