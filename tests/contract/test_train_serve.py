"""Training evaluates and serving answers through one path: the logits are the same bits."""

from pathlib import Path

import numpy as np
import torch

from core.artifact import load_artifact
from core.classifier import Classifier
from core.config import SHIPPED_ARTIFACT, TrainConfig
from core.dataset import load_dataset
from core.inference import infer
from core.training.data import decode_clips
from core.training.loop import Classification


def test_validation_logits_equal_served_logits_bit_for_bit(esc10_dir: Path, tmp_path: Path) -> None:
    from core.artifact import Facts, save_artifact

    dataset = load_dataset(esc10_dir)
    clips = dataset.clips[::40]
    config = TrainConfig()
    module = Classification(config, len(dataset.class_names)).eval()
    trained = [infer(module.net, wave.samples, config.audio).logits for wave in decode_clips(clips, config.audio)]
    facts = Facts(
        audio=config.audio,
        features=config.features,
        model=config.model,
        class_names=dataset.class_names,
        metrics={},
        dataset=dataset.name,
        dataset_hash=dataset.content_hash,
        code_version="0",
        run_id="contract",
    )
    save_artifact(tmp_path / "artifact", module.net, facts)
    classifier = Classifier.from_artifact(tmp_path / "artifact")
    for clip, expected in zip(clips, trained, strict=True):
        served = classifier.predict(clip.path.read_bytes())
        assert np.array_equal(np.array(served.logits, dtype=np.float32), expected)


def test_the_forward_used_in_training_is_the_forward_used_in_serving() -> None:
    """``front_end`` then ``classify`` (training, with masks between) is ``forward`` (serving)."""
    net = load_artifact(SHIPPED_ARTIFACT).net
    sound = torch.randn(2, 32_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(net.classify(net.front_end(sound)).logits, net(sound).logits)


def test_the_shipped_artifact_recognises_the_clips_it_was_trained_on(esc10_dir: Path) -> None:
    """A sanity bound, not an accuracy: what it scores on unseen recordings is in its metrics."""
    classifier = Classifier.from_artifact(SHIPPED_ARTIFACT)
    clips = load_dataset(esc10_dir).clips[::8]
    right = sum(classifier.predict(clip.path.read_bytes()).label == clip.label for clip in clips)
    assert right >= 0.96 * len(clips)
