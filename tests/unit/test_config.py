from pathlib import Path

import pytest
from pydantic import ValidationError

from core.config import SHIPPED_ARTIFACT, AudioConfig, Settings, TrainConfig
from core.errors import SettingsError


def test_defaults_need_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"EARSHOT_{name.upper()}", raising=False)
    settings = Settings.load()
    assert settings.artifact == SHIPPED_ARTIFACT
    assert settings.limits.max_bytes == 25 * 2**20


def test_the_environment_sets_every_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARSHOT_ARTIFACT", "~/model")
    monkeypatch.setenv("EARSHOT_MAX_DURATION_S", "30")
    settings = Settings.load()
    assert settings.artifact == Path.home() / "model"
    assert settings.limits.max_duration_s == 30


@pytest.mark.parametrize(("name", "value"), [("MAX_BYTES", "lots"), ("MAX_BYTES", "0"), ("MAX_DURATION_S", "-3")])
def test_a_bad_value_names_its_variable_and_what_came(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"EARSHOT_{name}", value)
    with pytest.raises(SettingsError, match=rf"EARSHOT_{name}: .*{value}.*Correct or unset"):
        Settings.load()


def test_configurations_refuse_unknown_fields_and_changes() -> None:
    with pytest.raises(ValidationError):
        AudioConfig(sample_rate=44_100)  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        AudioConfig().sample_rate_hz = 1  # type: ignore[misc]


def test_a_training_configuration_survives_its_own_json() -> None:
    config = TrainConfig(epochs=3)
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
