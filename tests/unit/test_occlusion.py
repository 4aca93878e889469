import numpy as np
import pytest
import torch
from captum.attr import Occlusion as Oracle

from core.artifact import Artifact
from core.classifier import Classifier
from core.config import Limits
from core.explain import explain
from core.model import AudioResNet
from core.occlusion import log_odds, occlude, patch_size

RATE, COLUMN_S, TEMPERATURE = 32_000, 0.01, 0.7


@pytest.fixture
def net(untrained: Artifact) -> AudioResNet:
    return untrained.net


def features(net: AudioResNet, samples: int) -> torch.Tensor:
    noise = np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)
    return net.front_end(torch.from_numpy(noise)[None])


@pytest.mark.parametrize("samples", [RATE, RATE // 4, RATE + 5_000])
def test_the_map_is_captums(net: AudioResNet, samples: int) -> None:
    given = features(net, samples)
    high, wide = patch_size(given.shape[2], given.shape[3], COLUMN_S)
    oracle = Oracle(lambda x: log_odds(net.classify(x).logits, 1, TEMPERATURE).float())
    expected = oracle.attribute(
        given, sliding_window_shapes=(1, high, wide), strides=(1, high // 2, wide // 2), baselines=0.0
    )
    ours = occlude(net, given, 1, temperature=TEMPERATURE, column_s=COLUMN_S)
    np.testing.assert_allclose(ours.evidence, expected[0, 0].numpy(), atol=1e-5)


def test_log_odds_are_those_of_the_softmax() -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    p = torch.softmax(logits.double() / 0.5, dim=1)[:, 2]
    torch.testing.assert_close(log_odds(logits, 2, 0.5), torch.log(p / (1 - p)))
    assert torch.isfinite(log_odds(torch.tensor([[900.0, 0.0]]), 0, 1.0)).all()


def test_the_most_telling_patch_is_where_its_probability_says(net: AudioResNet) -> None:
    given = features(net, RATE)
    found = occlude(net, given, 0, temperature=1.0, column_s=COLUMN_S)
    masked = given.clone()
    times = slice(*(round(edge / COLUMN_S) for edge in found.least_s))
    masked[..., slice(*found.least_rows), times] = 0
    with torch.no_grad():
        again = torch.softmax(net.classify(masked).logits, dim=1)[0, 0]
        whole = torch.softmax(net.classify(given).logits, dim=1)[0, 0]
    assert found.least == pytest.approx(float(again), abs=1e-5)
    assert found.probability == pytest.approx(float(whole), abs=1e-5)


def test_the_patch_is_told_in_the_time_of_the_sound(net: AudioResNet) -> None:
    given = features(net, RATE)
    first = occlude(net, given, 0, temperature=1.0, column_s=COLUMN_S).least_s
    later = occlude(net, given, 0, temperature=1.0, column_s=COLUMN_S, span_s=(15.0, 15.0 + first[1] - 0.01)).least_s
    assert later == pytest.approx((15.0 + first[0], 15.0 + first[1] - 0.01))  # the last column may pass the end


def test_patches_grow_with_the_sound_so_that_their_number_stays() -> None:
    assert patch_size(64, 501, 0.01) == (16, 50)
    assert patch_size(64, 1_001, 0.01) == (16, 100)
    assert patch_size(64, 26, 0.01) == (16, 26)
    assert patch_size(5, 1, 0.01) == (4, 2)


def test_an_explanation_carries_it_where_asked(untrained: Artifact) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    explained = explain(Classifier(untrained, Limits()), noise, label="rain", occlusion=True)
    assert explained.occlusion is not None
    assert explained.occlusion.evidence.shape == explained.log_mel.shape
    assert explained.occlusion.probability == pytest.approx(explained.probability, abs=1e-5)
    assert 0 <= explained.occlusion.map.min() <= explained.occlusion.map.max() <= 1
