import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from core.artifact import MANIFEST, WEIGHTS, Facts, fingerprint_of, load_artifact, save_artifact
from core.config import AudioConfig, FeatureConfig, ModelConfig
from core.errors import ArtifactError
from core.model import AudioResNet
from core.unknown import UnknownRule

CONFIG = ModelConfig(stem_channels=8, stage_channels=(8, 16))


def untrained(seed: int = 0) -> AudioResNet:
    torch.manual_seed(seed)
    net = AudioResNet(3, AudioConfig(), FeatureConfig(), CONFIG).eval()
    with torch.no_grad():
        net.head.weight.mul_(20)  # as decided as a trained network: logits of several units
    return net


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    facts = Facts(
        audio=AudioConfig(),
        features=FeatureConfig(),
        model=CONFIG,
        class_names=("dog", "rain", "rooster"),
        metrics={"accuracy": 0.5, "n": 8},
        dataset="toy",
        dataset_hash="0" * 64,
        code_version="0.1.0",
        run_id="a-run",
    )
    save_artifact(tmp_path / "artifact", untrained(), facts)
    return tmp_path / "artifact"


def edit(folder: Path, *, keep_fingerprint: bool = False, **changes: object) -> None:
    content = json.loads((folder / MANIFEST).read_text()) | changes
    if not keep_fingerprint:
        content["fingerprint"] = fingerprint_of(content)
    (folder / MANIFEST).write_text(json.dumps(content))


def test_what_is_loaded_answers_exactly_like_what_was_saved(folder: Path) -> None:
    sound = torch.randn(1, 32_000)
    loaded = load_artifact(folder)
    with torch.no_grad():
        assert torch.equal(loaded.net(sound).logits, untrained()(sound).logits)
    assert loaded.manifest.class_names == ("dog", "rain", "rooster")
    assert not loaded.net.training


def test_the_folder_holds_two_files_and_no_pickle(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, WEIGHTS]
    assert (folder / WEIGHTS).read_bytes()[8:9] == b"{"  # safetensors: eight bytes of length, then JSON


def test_saving_again_replaces_the_artifact_whole(folder: Path) -> None:
    first = load_artifact(folder).manifest
    save_artifact(folder, untrained(seed=1), Facts.model_validate(first.model_dump(include=set(Facts.model_fields))))
    assert load_artifact(folder).manifest.weights_sha256 != first.weights_sha256
    assert [path.name for path in folder.parent.iterdir()] == ["artifact"]


def test_the_probe_is_the_same_sound_every_time_and_uses_the_whole_band(folder: Path) -> None:
    probe = load_artifact(folder).manifest.probe
    sound = probe.waveform(32_000)
    np.testing.assert_array_equal(sound, probe.waveform(32_000))
    assert sound.dtype == np.float32
    assert float(np.abs(sound).max()) <= 1
    with torch.no_grad():
        log_mel = untrained().log_mel(torch.from_numpy(sound)[None])[0, 0]
    assert bool((log_mel.amax(dim=1) > -60).all())


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS])
def test_a_missing_file_says_what_was_expected_and_what_to_set(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(
        ArtifactError, match=rf"Expected a model folder .*{name} cannot be read.*EARSHOT_ARTIFACT"
    ) as caught:
        load_artifact(folder)
    assert caught.value.code == "missing"


def test_a_missing_folder_is_told_the_same_way(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="Expected a model folder"):
        load_artifact(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS])
@pytest.mark.parametrize("seed", range(8))
def test_one_changed_byte_anywhere_refuses_to_load(folder: Path, name: str, seed: int) -> None:
    data = bytearray((folder / name).read_bytes())
    solid = [i for i, byte in enumerate(data) if not chr(byte).isspace()]
    data[solid[np.random.default_rng(seed).integers(len(solid))]] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ArtifactError):
        load_artifact(folder)


def test_a_class_renamed_by_hand_is_noticed(folder: Path) -> None:
    edit(folder, keep_fingerprint=True, class_names=["cat", "rain", "rooster"])
    with pytest.raises(ArtifactError, match="sha256 differs") as caught:
        load_artifact(folder)
    assert caught.value.code == "altered"


def test_a_network_that_answers_the_probe_differently_is_refused(folder: Path) -> None:
    probe = json.loads((folder / MANIFEST).read_text())["probe"]
    probe["logits"][0] += 0.1
    edit(folder, probe=probe)
    with pytest.raises(ArtifactError, match=r"logits differ by 0\.1, at most 0\.005") as caught:
        load_artifact(folder)
    assert caught.value.code == "probe_mismatch"


def test_another_front_end_than_the_one_trained_with_is_refused_by_the_probe(folder: Path) -> None:
    features = json.loads((folder / MANIFEST).read_text())["features"] | {"f_max_hz": 8_000.0}
    edit(folder, features=features)
    with pytest.raises(ArtifactError) as caught:
        load_artifact(folder)
    assert caught.value.code in {"probe_mismatch", "unfit"}


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    edit(folder, class_names=["dog", "rain"])
    with pytest.raises(ArtifactError, match="do not fit") as caught:
        load_artifact(folder)
    assert caught.value.code == "unfit"


@pytest.mark.parametrize("text", ["", "not json", "[]", "\x00", '{"schema_version": 1}'])
def test_a_manifest_that_is_something_else_is_refused(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError):
        load_artifact(folder)


def test_a_manifest_of_another_schema_names_the_field(folder: Path) -> None:
    edit(folder, schema_version=99)
    with pytest.raises(ArtifactError, match=r"schema_version.*Another version of Earshot"):
        load_artifact(folder)


def test_a_rule_for_unknown_sounds_needs_all_that_it_compares_with(folder: Path) -> None:
    facts = load_artifact(folder).manifest.model_copy(update={"unknown": UnknownRule(score="combined", threshold=0.5)})
    clips = pd.DataFrame(columns=["clip_id", "fold", "source_group", "label", "embedding"])
    for reference, said in ((None, "has no reference.parquet"), (clips, "reference.parquet without excerpts")):
        with pytest.raises(ArtifactError, match=said) as caught:
            save_artifact(folder, untrained(), facts, reference)
        assert caught.value.code == "unfit"
    assert load_artifact(folder).manifest.unknown is None
