"""Which network explains an answer: the one that gave it, if its weights are still there, else the nearest to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from app import services
from core.config import SHIPPED_ARTIFACT

if TYPE_CHECKING:
    from core.backend import LocalBackend
    from core.recordset import RecordSet

Kin = Literal["same", "final", "other"]


@dataclass(frozen=True)
class Explainer:
    """``kin``: the very network that answered, the model of the same recipe that heard every clip, or another."""

    artifact: Path
    backend: LocalBackend
    kin: Kin

    def in_words(self) -> str:
        """What a person must know of it to read its explanations."""
        match self.kin:
            case "same":
                return "Explained by the network that gave this answer."
            case "final":
                return (
                    "Explained by the final model, which was trained on all clips, this one included. The answer above "
                    "is from a network that never heard it, whose weights are not here: the two may differ."
                )
            case _:
                return (
                    "Explained by the served model, which is not the one that gave this answer: take it as a second "
                    "opinion."
                )


def explainer_of(records: RecordSet, source: str, *, fold: int, seed: int) -> Explainer:
    """For an answer of ``records`` from ``source`` by the network that held out ``fold``. Raises ``ArtifactError``."""
    artifact = services.environment.settings().artifact
    if source.startswith(services.records.RUN):
        run = services.environment.settings().runs_dir / source.removeprefix(services.records.RUN)
        networks = services.answering.members(run)
        if (fold, seed) in networks:
            return _explainer(networks[fold, seed], "same")
        if (run / "artifact" / "artifact.json").is_file():
            return _explainer(run / "artifact", "final")
    if source == services.records.SHIPPED:
        return _explainer(SHIPPED_ARTIFACT, "final")
    if source == services.records.LOG:
        return _explainer(artifact, "same")
    return _explainer(artifact, "other")


def _explainer(artifact: Path, kin: Kin) -> Explainer:
    return Explainer(artifact, services.answering.network(artifact), kin)
