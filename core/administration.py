"""What an admin can do. Every action asks the guard anew, and stands in the audit table before it is done.

An action that cannot be written down is not done. A refusal is written down, too.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.adaptation import Plan, write_adapted
from core.admin import Admin, Gate, Guard, Ticket
from core.artifact import Manifest
from core.dataset import Dataset
from core.errors import AdminError, EarshotError, RunError, StoreError
from core.jobs import Job, Trainer, TrainingRequest, Where, read_job
from core.served import promote, roll_back
from core.store import Store

NOT_EXPORTED = ("checkpoints", "members")  # to resume and to start from; curves and records of members are in the rest


@dataclass(frozen=True)
class Administration:
    """The actions over one runs folder and one store, for whoever passes ``guard``."""

    guard: Guard
    store: Store
    trainers: Mapping[Where, Trainer]
    runs_dir: Path

    def launch(self, request: TrainingRequest) -> Job:
        with self._action("launch", _asked(request)) as admin:
            return self._trainer(request.where).start_training(request, asked_by=admin.name)

    def adapt(
        self,
        base: Dataset,
        planned: Plan,
        *,
        init: Path,
        epochs: int,
        learning_rate: float,
        where: Where = "local",
    ) -> Job:
        """Write ``base`` and the own sounds of ``planned`` as a dataset; queue a cross-validation from ``init``."""
        with self._action("adapt", f"{base.name} with {len(planned.taken)} own sounds") as admin:
            request = TrainingRequest(
                where=where,
                protocol="crossval",
                dataset=write_adapted(self.store, base, planned, self.runs_dir),
                init=init.absolute(),
                epochs=epochs,
                learning_rate=learning_rate,
            )
            return self._trainer(where).start_training(request, asked_by=admin.name)

    def cancel(self, job_id: str) -> Job:
        with self._action("cancel", job_id):
            return self._trainer_of(job_id).cancel(job_id)

    def resume(self, job_id: str) -> Job:
        with self._action("resume", job_id):
            return self._trainer_of(job_id).resume(job_id)

    def promote(self, run: str) -> Manifest:
        """Serve the artifact of the run named ``run``. Raises ``ArtifactError`` for one that is not fit."""
        with self._action("promote", run) as admin:
            return promote(self._run(run), self.runs_dir, by=admin.name)

    def roll_back(self) -> Manifest:
        """Serve what served before."""
        with self._action("roll back", ""):
            return roll_back(self.runs_dir)

    def export(self, run: str, file: Path) -> None:
        """Write the run named ``run`` as a zip to ``file``, without checkpoints and the networks of single folds."""
        with self._action("export", run):
            write_zip(self._run(run), file)

    def _run(self, name: str) -> Path:
        folder = self.runs_dir / name
        if not name or Path(name).name != name or name.startswith(".") or not folder.is_dir():
            raise RunError(f"Expected a run in {self.runs_dir}, got {name!r}.", code="no_run")
        return folder

    def _trainer_of(self, job_id: str) -> Trainer:
        return self._trainer(read_job(self._run(job_id)).request.where)

    def _trainer(self, where: Where) -> Trainer:
        if where not in self.trainers:
            raise RunError(f"Training on {where} is not set up here. Choose this machine.", code="no_trainer")
        return self.trainers[where]

    @contextmanager
    def _action(self, action: str, subject: str) -> Iterator[Admin]:
        """Ask who it is, write it down, do it, write down how it went."""
        try:
            admin = self.guard()
        except AdminError as refused:
            self.store.begin_action("nobody", action, subject, outcome=f"refused: {refused.code}")
            raise
        noted = self.store.begin_action(admin.name, action, subject)
        try:
            yield admin
        except BaseException as exc:
            code = exc.code if isinstance(exc, EarshotError) else type(exc).__name__
            with contextlib.suppress(StoreError):  # the action's own error is the one to tell
                self.store.end_action(noted, f"failed: {code}")
            raise
        self.store.end_action(noted, "done")


def sign_in(gate: Gate, token: str, store: Store) -> Ticket:
    """A ticket for the admin token. Success and refusal are written down, tokens never. Raises ``AdminError``."""
    try:
        ticket = gate.sign_in(token)
    except AdminError as refused:
        if refused.code == "wrong_token":  # while everybody waits, nothing is compared and nothing is written
            store.begin_action("nobody", "sign in", "", outcome=f"refused: {refused.code}")
        raise
    store.begin_action(gate.check(ticket).name, "sign in", "", outcome="done")
    return ticket


def sign_out(gate: Gate, ticket: Ticket, store: Store) -> None:
    """End a ticket; it ends also where that cannot be written down."""
    try:
        name = gate.check(ticket).name
    except AdminError:
        return  # it had ended
    gate.sign_out(ticket)
    with contextlib.suppress(StoreError):
        store.begin_action(name, "sign out", "", outcome="done")


def write_zip(run: Path, file: Path) -> None:
    """The run's files under its name; hidden files and ``NOT_EXPORTED`` stay behind."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(run.rglob("*")):
            parts = path.relative_to(run).parts
            if path.is_file() and parts[0] not in NOT_EXPORTED and not any(part.startswith(".") for part in parts):
                archive.write(path, Path(run.name, *parts))


def _asked(request: TrainingRequest) -> str:
    what = f"{request.seeds} seeds" if request.protocol == "crossval" else f"fold {request.fold or 'all'}"
    start = f", from {request.init.name}" if request.init else ""
    return f"{request.protocol} of {request.dataset.name}, {what}, {request.epochs} epochs, on {request.where}{start}"
