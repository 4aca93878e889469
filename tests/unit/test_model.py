import pytest
import torch

from core.config import AudioConfig, FeatureConfig, ModelConfig
from core.model import AudioResNet, ResidualBlock, SqueezeExcite

AUDIO, FEATURES = AudioConfig(), FeatureConfig()


@pytest.fixture(scope="module")
def net() -> AudioResNet:
    torch.manual_seed(0)
    return AudioResNet(10, AUDIO, FEATURES, ModelConfig()).eval()


@pytest.mark.parametrize("duration_s", [0.25, 1.0, 5.0, 10.0])
def test_any_length_gives_one_answer(net: AudioResNet, duration_s: float) -> None:
    output = net(torch.randn(2, round(duration_s * AUDIO.sample_rate_hz)))
    assert output.logits.shape == (2, 10)
    assert output.embedding.shape == (2, 256)


def test_the_head_reads_the_embedding_it_reports(net: AudioResNet) -> None:
    output = net(torch.randn(2, 32_000))
    torch.testing.assert_close(net.head(output.embedding), output.logits)


def test_stages_are_named_in_order_and_halve_both_axes(net: AudioResNet) -> None:
    outputs = net.activations(net.front_end(torch.randn(1, 5 * AUDIO.sample_rate_hz)))
    assert tuple(outputs) == net.stage_names == ("stem", "stage1", "stage2", "stage3", "stage4")
    assert [tuple(output.shape[1:]) for output in outputs.values()] == [
        (16, 32, 157),
        (16, 32, 157),
        (48, 16, 79),
        (128, 8, 40),
        (256, 4, 20),
    ]
    assert all(bool((output >= 0).all()) for output in outputs.values())


def test_a_clip_and_the_same_clip_20_db_quieter_get_the_same_logits(net: AudioResNet) -> None:
    sound = torch.randn(1, 64_000) * 0.1
    torch.testing.assert_close(net(sound / 10).logits, net(sound).logits, atol=1e-3, rtol=0)


def test_a_block_of_unchanged_shape_adds_its_input_unprojected() -> None:
    block = ResidualBlock(8, 8, stride=1).eval()
    torch.nn.init.zeros_(block.norm2.weight)
    x = torch.rand(1, 8, 5, 7)
    torch.testing.assert_close(block(x), x)


def test_every_convolution_is_followed_by_batch_norm_and_has_no_bias(net: AudioResNet) -> None:
    convolutions = [module for module in net.modules() if isinstance(module, torch.nn.Conv2d)]
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(convolutions) == len(norms) > 8
    assert all(module.bias is None for module in convolutions)


def test_blocks_per_stage_and_widths_come_from_the_config() -> None:
    config = ModelConfig(stem_channels=8, stage_channels=(8, 16), blocks_per_stage=2)
    small = AudioResNet(3, AUDIO, FEATURES, config).eval()
    assert small.stage_names == ("stem", "stage1", "stage2")
    assert small(torch.randn(1, 32_000)).embedding.shape == (1, 16)
    assert len(small.stages["stage1"]) == 2


def test_the_front_end_takes_part_in_gradients(net: AudioResNet) -> None:
    sound = torch.randn(1, 32_000, requires_grad=True)
    net(sound).logits.sum().backward()
    assert sound.grad is not None
    assert float(sound.grad.abs().sum()) > 0


def test_squeeze_and_excitation_gates_channels_and_keeps_shapes() -> None:
    config = ModelConfig(stem_channels=8, stage_channels=(8, 16), squeeze_excite=True)
    gated = AudioResNet(3, AUDIO, FEATURES, config).eval()
    assert gated(torch.randn(2, 32_000)).embedding.shape == (2, 16)
    gate = SqueezeExcite(8)
    x = torch.rand(2, 8, 5, 7)
    ratio = gate(x) / x
    torch.testing.assert_close(ratio, ratio[:, :, :1, :1].expand_as(ratio))
    assert bool(((ratio > 0) & (ratio < 1)).all())


def test_attention_weighs_moments_to_a_mean_within_their_range() -> None:
    config = ModelConfig(stem_channels=8, stage_channels=(8, 16), attention_pool=True)
    attentive = AudioResNet(3, AUDIO, FEATURES, config).eval()
    last = torch.rand(2, 16, 4, 9)
    moments = last.mean(dim=2)
    embedding = attentive.head_of(last).embedding
    assert bool((embedding <= moments.amax(dim=2)).all() and (embedding >= moments.amin(dim=2)).all())
