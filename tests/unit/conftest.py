from pathlib import Path

import pytest
import torch

from core.artifact import Artifact, Facts, load_artifact, save_artifact
from core.config import AudioConfig, FeatureConfig, ModelConfig
from core.model import AudioResNet


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small networks lose more at thread barriers than they gain, badly so on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def untrained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of a small network with random weights and three classes."""
    model = ModelConfig(stem_channels=8, stage_channels=(8, 16))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = AudioResNet(3, AudioConfig(), FeatureConfig(), model).eval()
    facts = Facts(
        audio=AudioConfig(),
        features=FeatureConfig(),
        model=model,
        class_names=("dog", "rain", "rooster"),
        metrics={},
        dataset="toy",
        dataset_hash="",
        code_version="0",
        run_id="untrained",
    )
    folder = tmp_path_factory.mktemp("untrained") / "artifact"
    save_artifact(folder, net, facts)
    return folder


@pytest.fixture(scope="session")
def untrained(untrained_folder: Path) -> Artifact:
    return load_artifact(untrained_folder)
