import pandas as pd
import pytest

from core.figures.curves import confusion_by_epoch_figure, curve_figure


def curves(members: int = 1, epochs: int = 3) -> pd.DataFrame:
    rows = [
        (f"fold-{member}", epoch, metric, value + member / 10)
        for member in range(members)
        for epoch in range(1, epochs + 1)
        for metric, value in (("train/loss", 1.0), ("val/loss", 2.0), ("train/accuracy", 0.5), ("learning_rate", 1e-3))
    ]
    return pd.DataFrame(rows, columns=["member", "epoch", "metric", "value"])


def test_one_network_is_a_solid_line_for_training_and_a_dashed_one_for_held_out_clips() -> None:
    figure = curve_figure(curves(), "Loss (nats)")
    assert [(trace.name, trace.line.dash) for trace in figure.data] == [("training", "solid"), ("held out", "dash")]
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("Epoch", "Loss (nats)")


def test_several_networks_are_their_mean_in_a_band_from_lowest_to_highest() -> None:
    line, _, band, _ = curve_figure(curves(members=3), "Loss (nats)").data
    assert list(line.y) == pytest.approx([1.1] * 3)
    assert (min(band.y), max(band.y)) == (1.0, 1.2)


def test_a_run_without_held_out_clips_has_only_its_training_curve() -> None:
    assert [trace.name for trace in curve_figure(curves(), "Accuracy").data] == ["training"]


def test_nothing_recorded_is_said() -> None:
    for figure in (curve_figure(curves().iloc[:0], "Accuracy"), confusion_by_epoch_figure(pd.DataFrame(), ("a", "b"))):
        assert not figure.data
        assert figure.layout.annotations[0].text.startswith("No ")


def test_confusion_counts_stand_at_true_and_predicted_summed_over_networks() -> None:
    counts = pd.DataFrame({"true": [0, 1, 1], "predicted": [0, 0, 0], "n": [2, 3, 4]})
    (heat,) = confusion_by_epoch_figure(counts, ("dog", "sea_waves")).data
    assert heat.z.tolist() == [[2, 0], [7, 0]]
    assert list(heat.y) == ["Dog", "Sea waves"]


def test_many_classes_are_counted_on_hover_only() -> None:
    counts = pd.DataFrame({"true": [0], "predicted": [0], "n": [2]})
    (heat,) = confusion_by_epoch_figure(counts, [f"class {k}" for k in range(50)]).data
    assert heat.texttemplate is None
