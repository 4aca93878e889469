import math

import pytest

from app import words
from core.diagnostics.intervals import Estimate
from core.records import Prediction, WindowPrediction

SPACE = words.SPACE


def prediction(*probabilities: float) -> Prediction:
    names = ("dog", "rooster", "rain", "sea_waves", "helicopter", "clock_tick")
    return Prediction.model_construct(
        probabilities=dict(zip(names, probabilities, strict=False)),
        margin=probabilities[0] - probabilities[1],
        entropy=-sum(p * math.log(p) for p in probabilities if p),
    )


def test_a_label_reads_as_a_phrase() -> None:
    assert words.plain("crying_baby") == "Crying baby"


@pytest.mark.parametrize(
    ("p", "expected"),
    [(0, "0 %"), (0.001, "< 1 %"), (0.0099, "< 1 %"), (0.01, "1 %"), (0.97, "97 %"), (0.9951, "> 99 %"), (1, "100 %")],
)
def test_a_percentage_never_claims_certainty_it_lacks(p: float, expected: str) -> None:
    assert words.percent(p) == expected.replace(" ", SPACE)


@pytest.mark.parametrize(
    ("probabilities", "verdict"),
    [((0.97, 0.03), "Clear"), ((0.75, 0.25), "Clear"), ((0.6, 0.4), "Likely"), ((0.55, 0.45), "Close call")],
)
def test_the_margin_has_three_words(probabilities: tuple[float, ...], verdict: str) -> None:
    assert words.margin_in_words(prediction(*probabilities)).startswith(f"**{verdict}")


@pytest.mark.parametrize(
    ("probabilities", "verdict"),
    [((1.0, 0.0), "Focused"), ((0.5, 0.5), "Divided"), ((0.25, 0.25, 0.25, 0.25), "Spread out")],
)
def test_the_entropy_has_three_words(probabilities: tuple[float, ...], verdict: str) -> None:
    assert words.entropy_in_words(prediction(*probabilities)).startswith(f"**{verdict}")


def test_who_leads_when_is_told_by_length() -> None:
    names = ("dog", "sea_waves", "rain")
    rows = [(0.9, 0.1, 0.0), (0.1, 0.6, 0.3), (0.2, 0.5, 0.3), (0.1, 0.2, 0.7)]
    long = Prediction.model_construct(
        windows=tuple(WindowPrediction(start_s=i, end_s=i + 5, probabilities=row) for i, row in enumerate(rows))
    )
    assert words.leaders(long, names) == ["sea_waves", "dog", "rain"]
    told = words.leaders_in_words(words.leaders(long, names))
    assert told == "**Changes over time:** sea waves, dog and rain each lead for a while; see the lines below."


def test_many_leaders_are_counted() -> None:
    told = words.leaders_in_words(["dog", "rain", "rooster", "chainsaw", "siren", "train", "wind"])
    assert told is not None
    assert "chainsaw, siren and 2 more each lead" in told


def test_one_leader_is_no_news() -> None:
    assert words.leaders_in_words(["dog"]) is None


def test_a_close_call_says_how_close() -> None:
    assert words.margin_in_words(prediction(0.29, 0.19)).endswith(f"rooster (19{SPACE}%), is only 10 points behind.")


@pytest.mark.parametrize(
    ("lead", "said"), [(0.016, "only 2 points"), (0.012, "only 1 point"), (0.001, "less than a point")]
)
def test_a_lead_of_a_point_or_less_is_told_in_the_singular(lead: float, said: str) -> None:
    assert words.margin_in_words(prediction(0.2 + lead, 0.2)).endswith(f", is {said} behind.")


def test_an_even_choice_is_counted_in_classes() -> None:
    assert "among 3.0 of the 3 classes" in words.entropy_in_words(prediction(1 / 3, 1 / 3, 1 / 3))


@pytest.mark.parametrize(("value", "expected"), [(5, "5 s"), (4.984, "4.98 s"), (600, "10 min"), (125.6, "2:06 min")])
def test_durations(value: float, expected: str) -> None:
    assert words.seconds(value) == expected.replace(" ", SPACE)


@pytest.mark.parametrize(("value", "expected"), [(83.6, "84 ms"), (1234, "1.2 s")])
def test_latencies(value: float, expected: str) -> None:
    assert words.milliseconds(value) == expected.replace(" ", SPACE)


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected"),
    [(0, 5, "0–5 s"), (2.5, 7.5, "2.5–7.5 s"), (55.012, 60.012, "0:55–1:00 min"), (57.5, 62.5, "0:57.5–1:02.5 min")],
)
def test_stretches(start_s: float, end_s: float, expected: str) -> None:
    assert words.span(start_s, end_s) == expected.replace(" ", SPACE)


def test_an_unknown_sound_is_told_with_the_two_closest_classes() -> None:
    told = words.strangeness_in_words(prediction(0.63, 0.2, 0.17))
    assert f"dog (63{SPACE}%) and rooster (20{SPACE}%)" in told


def test_unknown_stretches_are_counted_in_long_sounds_only() -> None:
    def sound(*strange: bool) -> Prediction:
        windows = [
            WindowPrediction(start_s=i, end_s=i + 5, probabilities=(1.0, 0.0), unknown=unknown)
            for i, unknown in enumerate(strange)
        ]
        return Prediction.model_construct(windows=tuple(windows))

    assert words.unknown_stretches(sound(True)) is None
    assert words.unknown_stretches(sound(False, False)) is None
    told = words.unknown_stretches(sound(True, False, True))
    assert told is not None
    assert told.startswith("**2 of 3 stretches**")


def test_a_number_is_told_with_its_interval_or_that_there_is_none() -> None:
    def plain(said: str) -> str:
        return said.replace(SPACE, " ")

    assert plain(words.spread(Estimate(0.952, 0.927, 0.969, 400))) == "95.2 % (92.7 to 96.9 %)"
    assert plain(words.spread(Estimate(1.0, math.nan, math.nan, 5))) == "100.0 % (no interval)"
    assert words.finely(Estimate(0.0042, 0.0011, 0.0093, 400)) == "0.0042 (0.0011 to 0.0093)"
    assert words.finely(Estimate(0.0, math.nan, math.nan, 5)) == "0.0000 (no interval)"
