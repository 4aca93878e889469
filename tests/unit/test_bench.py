import json

import numpy as np
import pytest
import torch

from core.artifact import Artifact
from core.bench import bench
from core.cli import main


def test_every_step_is_timed_as_often_as_asked(untrained: Artifact) -> None:
    timings = bench(untrained, duration_s=1.0, repeats=3)
    assert [timing.step for timing in timings] == [
        "decode wav",
        "log-mel",
        "waveform to logits",
        "bytes to prediction",
        "explanation",
    ]
    for timing in timings:
        assert timing.n == 3
        assert 0 < timing.low_ms <= timing.median_ms <= timing.high_ms
        assert np.isfinite(timing.high_ms)


def test_the_number_of_threads_is_put_back(untrained: Artifact) -> None:
    before = torch.get_num_threads()
    bench(untrained, duration_s=1.0, repeats=1, threads=before + 1)
    assert torch.get_num_threads() == before


def test_the_command_names_the_processor(untrained_folder: object, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "--artifact", str(untrained_folder), "--seconds", "1", "--repeats", "2"]
    assert main(command) == 0
    assert "waveform to logits" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert "core" in facts["processor"]
    assert len(facts["timings"]) == 5
