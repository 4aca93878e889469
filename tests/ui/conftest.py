from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import streamlit as st
import torch
from streamlit.testing.v1 import AppTest

from core.artifact import Facts, save_artifact
from core.config import ROOT, AudioConfig, FeatureConfig, ModelConfig
from core.model import AudioResNet
from core.unknown import UnknownRule


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with random weights and four classes: the page does not care how good the answer is."""
    folder = tmp_path_factory.mktemp("ui") / "artifact"
    save_artifact(folder, *untrained())
    return folder


@pytest.fixture(scope="session")
def strict_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network with a rule by which every sound is unknown."""
    net, facts = untrained()
    strict = facts.model_copy(update={"unknown": UnknownRule(score="knn", threshold=-1.0)})
    rng = np.random.default_rng(0)
    clips = [f"clip-{i}" for i in range(8)]
    known = {"clip_id": clips, "fold": 1, "source_group": clips, "label": facts.class_names * 2}
    heard = {"embedding": list(rng.random((8, 16), np.float32)), "excerpts": list(rng.random((8, 48), np.float32))}
    reference = pd.DataFrame(known | heard)
    folder = tmp_path_factory.mktemp("ui") / "artifact"
    save_artifact(folder, net, strict, reference)
    return folder


def untrained() -> tuple[AudioResNet, Facts]:
    model = ModelConfig(stem_channels=8, stage_channels=(8, 16))
    names = ("crying_baby", "dog", "rain", "rooster")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = AudioResNet(len(names), AudioConfig(), FeatureConfig(), model).eval()
    return net, Facts(
        audio=AudioConfig(),
        features=FeatureConfig(),
        model=model,
        class_names=names,
        metrics={},
        dataset="toy",
        dataset_hash="",
        code_version="0",
        run_id="untrained",
    )


@pytest.fixture
def open_app(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """Start the app on an artifact, with no dataset unless one is named."""

    def start(**settings: object) -> AppTest:
        environment: dict[str, object] = {
            "ARTIFACT": artifact,
            "DATA_DIR": tmp_path / "none",
            "RUNS_DIR": tmp_path / "runs",
            "DATABASE_URL": f"sqlite:///{tmp_path / 'log.sqlite3'}",
        }
        environment |= settings
        for name, value in environment.items():
            monkeypatch.setenv(f"EARSHOT_{name}", str(value))
        st.cache_resource.clear()
        return AppTest.from_file(ROOT / "app" / "main.py", default_timeout=300).run()

    return start
