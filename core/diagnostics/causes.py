"""Why a drift verdict says drift, in words a person can act on: "14 dB quieter", "nothing above 8 kHz"."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import librosa
import numpy as np

from core.config import AudioConfig
from core.descriptors import DESCRIPTORS, MEL_BANDS
from core.diagnostics.drift_report import ClassDrift, ClassShare, EmbeddingDrift, FeatureDrift, RateDrift

Features = Mapping[str, FeatureDrift]
LEVELS = ("loudness_lufs", "rms_dbfs", "peak_dbfs")  # the first that moved names the change of level
BANDS = tuple(f"mel_band_{band}_db" for band in range(1, MEL_BANDS + 1))
HEARD_DB = 1.5  # a smaller change of level is not worth a word
GONE_DB, FAINT_DB = 20.0, 8.0  # beyond the change of level: a band holds nothing, or little
LOUDER_BAND_DB = 6.0  # beyond the change of level
NOISY_RATIO = 2.0  # of median spectral flatness
CLASSES_NAMED = 3
PLAIN = {
    "crest_factor_db": "peaks over the mean level",
    "spectral_centroid_hz": "spectral centre",
    "spectral_bandwidth_hz": "spectral spread",
    "spectral_rolloff_hz": "rolloff",
    "spectral_flatness": "spectral flatness",
    "zero_crossing_rate": "zero-crossing rate",
    "active_fraction": "share of time with sound",
    "loudness_lufs": "loudness",
    "rms_dbfs": "level",
    "peak_dbfs": "peak level",
    "confidence": "confidence",
}


def causes_in_words(
    features: Sequence[FeatureDrift],
    confidence: FeatureDrift | None,
    classes: ClassDrift,
    embedding: EmbeddingDrift,
    unknown: RateDrift,
    silent: RateDrift,
) -> tuple[str, ...]:
    """What moved, the most telling first. Empty where nothing is flagged."""
    every = {feature.name: feature for feature in features}
    flagged = {name: feature for name, feature in every.items() if feature.flag}
    sound = list(_sound(every, flagged))
    answers = list(_answers(confidence, classes, unknown))
    if embedding.flag:
        alone = "" if sound else ", and no descriptor says how: listen to some of them"
        answers.append(f"what the network makes of the sounds lies elsewhere (embedding MMD){alone}")
    if silent.flag:
        now, before = _percent(silent.current), _percent(silent.reference)
        sound.insert(0, f"{now} of the sounds are digital silence (reference {before})")
    return tuple(sound + answers)


def _sound(every: Features, flagged: Features) -> Iterator[str]:
    explained: set[str] = set()
    shift_db = _level_shift(flagged)
    if shift_db is not None:
        yield f"{abs(shift_db):.0f} dB {'louder' if shift_db > 0 else 'quieter'}"
        explained |= {*LEVELS, *(band for band in BANDS if _follows(every.get(band), shift_db))}
    if (limit := _band_limit(every, flagged, shift_db or 0.0)) is not None:
        yield limit
        explained |= {*BANDS, "spectral_centroid_hz", "spectral_bandwidth_hz", "spectral_rolloff_hz"}
        explained |= {"zero_crossing_rate", "spectral_flatness"}
    elif (noise := _noise(flagged)) is not None:
        yield noise
        explained |= {*BANDS, "spectral_flatness", "crest_factor_db", "active_fraction", "zero_crossing_rate"}
        explained |= {"spectral_centroid_hz", "spectral_bandwidth_hz", "spectral_rolloff_hz"}
    rest = [feature for name, feature in flagged.items() if name not in explained]
    bands = [feature for feature in rest if feature.name in BANDS]
    if bands:
        yield _bands_in_words(bands)
    for feature in sorted(rest, key=lambda feature: -feature.effect):
        if feature.name not in BANDS:
            yield _plainly(feature)


def _level_shift(flagged: Features) -> float | None:
    """Change of level in dB, ``None`` where no level moved audibly."""
    moved = [flagged[name].median_shift for name in LEVELS if name in flagged]
    return next((shift for shift in moved if abs(shift) >= HEARD_DB), None)


def _follows(band: FeatureDrift | None, shift_db: float) -> bool:
    """Whether a band moved as the level did: nothing else need be said of it."""
    return band is not None and abs(band.median_shift - shift_db) < LOUDER_BAND_DB


def _band_limit(every: Features, flagged: Features, shift_db: float) -> str | None:
    """``nothing above 8 kHz`` where the highest bands lost far more than the level."""
    lost = [shift_db - every[name].median_shift if name in every else math.nan for name in BANDS]
    first = MEL_BANDS
    while first > 0 and lost[first - 1] >= FAINT_DB and BANDS[first - 1] in flagged:
        first -= 1
    if first in (0, MEL_BANDS):
        return None
    how = "nothing" if lost[-1] >= GONE_DB else "little"
    edges_hz = _band_edges_hz()
    edge_hz = edges_hz[first]
    if first > 0 and lost[first - 1] > 0.5:  # the share of the next band that is left, were its spectrum flat
        share = 10 ** (-lost[first - 1] / 10)
        edge_hz = edges_hz[first - 1] + share * (edges_hz[first] - edges_hz[first - 1])
    elif lost[first] < GONE_DB:  # so is some of the first band that fell
        edge_hz = edges_hz[first] + 10 ** (-lost[first] / 10) * (edges_hz[first + 1] - edges_hz[first])
    return f"{how} above {_kilohertz(edge_hz)}"


def _band_edges_hz() -> list[float]:
    return [float(hz) for hz in librosa.mel_frequencies(MEL_BANDS + 1, fmin=0, fmax=AudioConfig().sample_rate_hz / 2)]


def _kilohertz(hz: float) -> str:
    """To the next half kilohertz: the bands are broad."""
    return f"{max(0.5, round(hz / 500) / 2):g} kHz"


def _noise(flagged: Features) -> str | None:
    flatness = flagged.get("spectral_flatness")
    if flatness is None or flatness.median_reference <= 0:
        return None
    ratio = flatness.median_current / flatness.median_reference
    highest = flagged.get(BANDS[-1])
    if ratio >= NOISY_RATIO and highest is not None and highest.median_shift > 0:
        return (
            f"noise over the sounds: the spectrum is {_times(ratio)} flatter, {highest.median_shift:.0f} dB more treble"
        )
    return None


def _times(ratio: float) -> str:
    return f"{ratio:.0f} times" if ratio < 100 else "over 100 times"


def _bands_in_words(bands: Sequence[FeatureDrift]) -> str:
    edges = _band_edges_hz()
    numbers = sorted(BANDS.index(band.name) for band in bands)
    low, high = edges[numbers[0]], edges[numbers[-1] + 1]
    shift = float(np.median([band.median_shift for band in bands]))
    span = f"between {low / 1000:.1f} and {high / 1000:.1f} kHz"
    if abs(shift) < 0.5:
        return f"levels {span} are spread differently"
    return f"{abs(shift):.0f} dB {'more' if shift > 0 else 'less'} {span}"


def _plainly(feature: FeatureDrift) -> str:
    name = PLAIN.get(feature.name, feature.name.replace("_", " "))
    shift = feature.median_shift
    if abs(shift) < 0.1 * abs(feature.median_reference) and abs(shift) < 0.5:
        return f"{name} is spread differently (median {_amount(feature.median_current, feature.unit)})"
    direction = "higher" if shift > 0 else "lower"
    return f"{name} {_amount(abs(shift), feature.unit)} {direction}"


def _amount(value: float, unit: str) -> str:
    if unit == "Hz":
        return f"{value / 1000:.1f} kHz" if value >= 1000 else f"{value:.0f} Hz"
    if unit == "0–1":
        return f"{value:.2g}"
    return f"{value:.1f} {unit.replace('dBFS', 'dB').replace('LUFS', 'dB')}"


def _answers(confidence: FeatureDrift | None, classes: ClassDrift, unknown: RateDrift) -> Iterator[str]:
    if unknown.flag:
        more = "more" if unknown.current > unknown.reference else "fewer"
        yield f"{more} unknown sounds: {_percent(unknown.current)}, {_percent(unknown.reference)} in the reference"
    if classes.flag:
        moved = sorted(classes.shares, key=lambda share: -abs(share.current - share.reference))
        gate = abs(moved[0].current - moved[0].reference) / 2
        told = [share for share in moved[:CLASSES_NAMED] if abs(share.current - share.reference) >= gate]
        yield "; ".join(_share(share) for share in told)
    if confidence is not None and confidence.flag:
        yield _of_confidence(confidence.median_current, confidence.median_reference)


def _of_confidence(current: float, reference: float) -> str:
    """Medians with as many digits as tell them apart."""
    for digits in (0, 1, 2):
        now, before = _percent(current, digits), _percent(reference, digits)
        if now != before:
            direction = "less" if current < reference else "more"
            return f"{direction} confident answers: median {now}, {before} in the reference"
    return f"confidence of the answers is spread differently; its median is {now} on both sides"


def _share(share: ClassShare) -> str:
    name = share.name.replace("_", " ")
    more = "more" if share.current > share.reference else "less"
    return f"{more} {name}: {_percent(share.current)} of answers, {_percent(share.reference)} in the reference"


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


UNITS = {descriptor.name: descriptor.unit for descriptor in DESCRIPTORS} | {"confidence": "0–1"}
