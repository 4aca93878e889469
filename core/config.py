"""Every configuration type, in one place: what the artifact freezes and what the environment sets.

``AudioConfig``, ``FeatureConfig`` and ``ModelConfig`` travel inside the artifact; no preprocessing parameter can be
given at serving time. ``Settings`` reads ``EARSHOT_*`` environment variables and nothing else.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.errors import SettingsError

ROOT = Path(__file__).resolve().parents[1]
SHIPPED_ARTIFACT = ROOT / "core" / "assets" / "artifact"
SHIPPED_RUN = ROOT / "core" / "assets" / "run"
SERVED = Path("served")  # under the runs folder: promoted models, see core.served
SERVED_POINTER = SERVED / "current.json"

Positive = Annotated[int, Field(gt=0)]


class Frozen(BaseModel):
    """Immutable, and unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AudioConfig(Frozen):
    """What every sound becomes before the network hears it: mono float32 at one rate."""

    sample_rate_hz: Positive = 32_000
    window_s: float = Field(5.0, gt=0, description="length of one analysis window over long audio")
    hop_s: float = Field(2.5, gt=0, description="distance between window starts")
    min_duration_s: float = Field(0.25, gt=0)

    @property
    def window_samples(self) -> int:
        return round(self.window_s * self.sample_rate_hz)

    @property
    def hop_samples(self) -> int:
        return round(self.hop_s * self.sample_rate_hz)


class FeatureConfig(Frozen):
    """Log-mel spectrogram: Slaney mel scale and area normalisation, Hann window, power in dB."""

    n_fft: Positive = 1024
    hop_samples: Positive = 512
    n_mels: Positive = 64
    f_min_hz: float = Field(40.0, ge=0)
    f_max_hz: float = Field(15_000.0, gt=0)
    top_db: float = Field(80.0, gt=0, description="dynamic range kept below the clip's loudest mel bin")


class ModelConfig(Frozen):
    """Residual network over (B, 1, F, T); the number of classes comes from the data."""

    stem_channels: Positive = 16
    stage_channels: tuple[Positive, ...] = (16, 48, 128, 256)
    blocks_per_stage: Positive = 1
    squeeze_excite: bool = Field(False, description="channel gates in every block (Hu et al. 2018)")
    attention_pool: bool = Field(False, description="weigh moments by a learned attention in place of mean + max")
    dropout: float = Field(0.2, ge=0, lt=1)


class Limits(Frozen):
    """Bounds that are checked before a full decode."""

    max_bytes: Positive = 25 * 2**20
    max_duration_s: float = Field(600.0, gt=0)
    max_channels: Positive = 32
    min_sample_rate_hz: Positive = 1_000
    max_sample_rate_hz: Positive = 768_000


class AugmentConfig(Frozen):
    """Training-only randomness. Each ``*_p`` is the probability that a clip gets the transform."""

    crop_s: float = Field(1.6, gt=0)
    crop_spread: float = Field(3.0, ge=1, description="each batch's crops are crop_s · [1/x, x] long, log-uniformly")
    stretch: float = Field(1.25, ge=1, description="speed factor drawn log-uniformly in [1/x, x]; EnvNet-v2")
    gain_db: float = Field(6.0, ge=0)
    mix_p: float = Field(1.0, ge=0, le=1, description="probability that a clip is mixed with one of another class")
    level_aware: bool = Field(True, description="labels follow perceived levels (BC learning); off: plain mixup")
    timemix_p: float = Field(0.0, ge=0, le=1, description="share of mixtures that are one sound after the other")
    freqmix_p: float = Field(0.0, ge=0, le=1, description="share of mixtures that are one sound above the other")
    outlier_p: float = Field(0.1, ge=0, lt=1, description="share of clips replaced by a sound of no class")
    tilt_p: float = Field(0.5, ge=0, le=1)
    tilt_db_per_octave: float = Field(3.0, ge=0)
    low_pass_p: float = Field(0.4, ge=0, le=1)
    low_pass_hz: tuple[float, float] = (2_500.0, 15_000.0)
    high_pass_p: float = Field(0.3, ge=0, le=1)
    high_pass_hz: tuple[float, float] = (40.0, 400.0)
    noise_p: float = Field(0.5, ge=0, le=1)
    noise_snr_db: tuple[float, float] = (0.0, 35.0)
    reverb_p: float = Field(0.2, ge=0, le=1)
    reverb_s: tuple[float, float] = Field((0.1, 1.0), description="time in which the tail falls by 60 dB")
    overdrive_p: float = Field(0.15, ge=0, le=1)
    overdrive_db: float = Field(24.0, ge=0, description="drawn in [0, x]: how far past full scale a peak is driven")
    time_masks: int = Field(1, ge=0)
    time_mask_s: float = Field(0.3, ge=0)
    frequency_masks: int = Field(1, ge=0)
    frequency_mask_bands: int = Field(10, ge=0)


class TrainConfig(Frozen):
    """One training run. The last epoch is what is reported, whatever it scored on the held-out fold."""

    epochs: Positive = 480
    batch_size: Positive = 16
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    warmup_fraction: float = Field(0.1, gt=0, lt=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    ema_decay: float = Field(0.0, ge=0, lt=1, description="0 switches the weight average off")
    seed: int = Field(0, ge=0)
    precision: Literal["auto", "bf16-mixed", "32-true"] = Field(
        "auto", description="of the network; auto: bf16 where the processor multiplies it faster, else 32 bits"
    )
    validate_every_epochs: Positive = 1
    audio: AudioConfig = AudioConfig()
    features: FeatureConfig = FeatureConfig()
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()


def promoted_artifact(runs_dir: Path) -> Path | None:
    """The model that was last promoted under ``runs_dir``; None: none was. Raises ``SettingsError``."""
    pointer = runs_dir / SERVED_POINTER
    try:
        promotions = json.loads(pointer.read_text(encoding="utf-8"))["promotions"]
        return runs_dir / SERVED / str(promotions[-1]["fingerprint"]) if promotions else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as exc:
        raise SettingsError(
            f"Expected {pointer} to say which model serves, it cannot be read ({type(exc).__name__}). Restore it, "
            "remove it to serve the shipped model, or set EARSHOT_ARTIFACT."
        ) from exc


class Settings(BaseSettings):
    """Process settings: ``EARSHOT_<NAME>`` in the environment. Listed in the README and tested against it."""

    model_config = SettingsConfigDict(env_prefix="EARSHOT_", frozen=True, extra="ignore")

    artifact: Path = Field(
        SHIPPED_ARTIFACT, description="model folder that answers; unless set, the promoted one, else the shipped one"
    )
    data_dir: Path = Field(ROOT / "data" / "esc10", description="dataset in ESC-50's layout; sample clips come from it")
    runs_dir: Path = Field(ROOT / "runs", description="where training writes its run folders")
    backend: Literal["local", "modal"] = Field("local", description="where inference runs: this CPU, or Modal")
    database_url: str = Field(
        "sqlite:///data/earshot.sqlite3",
        description="log of predictions; a relative SQLite path lies under the repository; or postgresql+psycopg://…",
    )
    api_key: SecretStr | None = Field(None, description="key that API callers must send; needed beyond loopback")
    api_workers: int = Field(2, ge=1, le=64, description="threads of the API that classify and explain")
    api_queue: int = Field(32, ge=1, le=10_000, description="requests that may wait for them; over it 503")
    api_timeout_s: float = Field(30.0, gt=0, description="longest an answer of the API may take, in seconds")
    api_read_timeout_s: float = Field(10.0, gt=0, description="longest a caller may take to begin sending, in seconds")
    admin_token: SecretStr | None = Field(
        None, description="what the admin signs in with; made and printed once otherwise"
    )
    admin_emails: str | None = Field(
        None, description="who may administer when [auth] is set up in secrets.toml; separated by commas"
    )
    keep_audio: bool = Field(False, description="keep the sounds themselves beside logged predictions")
    tableau_server: str | None = Field(None, description="address of the Tableau Server or Cloud to publish to")
    tableau_site: str | None = Field(None, description="its site, as in the address after /site/; the default one")
    tableau_project: str = Field("default", description="project there that the workbook is published in")
    tableau_token_name: str | None = Field(None, description="name of a personal access token")
    tableau_token: SecretStr | None = Field(None, description="that token's secret")
    max_bytes: int = Field(Limits().max_bytes, gt=0, description="largest upload, in bytes")
    max_duration_s: float = Field(Limits().max_duration_s, gt=0, description="longest sound, in seconds")

    @model_validator(mode="after")
    def _expand(self) -> Settings:
        for name in ("artifact", "data_dir", "runs_dir"):
            object.__setattr__(self, name, Path(getattr(self, name)).expanduser())
        if not self.artifact_is_set:
            object.__setattr__(self, "artifact", promoted_artifact(self.runs_dir) or SHIPPED_ARTIFACT)
        return self

    @property
    def artifact_is_set(self) -> bool:
        """Whether ``EARSHOT_ARTIFACT`` names the model: it then wins over whatever was promoted."""
        return "artifact" in self.model_fields_set

    @cached_property
    def limits(self) -> Limits:
        return Limits(max_bytes=self.max_bytes, max_duration_s=self.max_duration_s)

    @property
    def admins(self) -> frozenset[str]:
        """``admin_emails``, one by one, in lower case."""
        return frozenset(email.strip().lower() for email in (self.admin_emails or "").split(",") if email.strip())

    @property
    def database(self) -> str:
        """``database_url`` with a relative SQLite path taken from the repository's root."""
        prefix = "sqlite:///"
        path = self.database_url.removeprefix(prefix)
        if not self.database_url.startswith(prefix) or path in ("", ":memory:") or Path(path).is_absolute():
            return self.database_url
        return prefix + str(ROOT / path)

    @classmethod
    def load(cls) -> Settings:
        """Read the environment; raise ``SettingsError`` that names the variable and the range."""
        try:
            return cls()
        except ValidationError as exc:
            first = exc.errors()[0]
            name = "EARSHOT_" + "_".join(str(part) for part in first["loc"]).upper()
            raise SettingsError(f"{name}: {first['msg']}, got {first['input']!r}. Correct or unset it.") from exc
