"""The networks of a cross-validation: each trained and measured, several at once, with one bar over all of them."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from multiprocessing.synchronize import Event
from pathlib import Path

import torch
from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from core.artifact import load_artifact
from core.audio import Waveform
from core.dataset import Dataset
from core.errors import RunError
from core.evaluation import answer_degraded
from core.openset import excerpt_trials, far_trials, near_trials, score_open_set
from core.training.data import decode_clips
from core.training.loop import train
from core.training.runs import RunConfig, RunFolder, write_table

log = logging.getLogger(__name__)

LOOK_S = 1.0  # between two looks at how far networks in training are


@dataclass(frozen=True)
class Means:
    """What a cross-validation runs on.

    ``jobs`` members are trained at once, each in a process of its own with its share of the cores: on CPUs two
    processes of one thread do more than one of two. ``devices`` share the clips of each member. Sums over another
    number of threads are rounded otherwise, and other devices draw other batches: weights are the same to the bit for
    the same means on the same machine.
    """

    jobs: int = 1
    devices: int = 1


def complete_members(members: Sequence[RunConfig], dataset: Dataset, folder: RunFolder, means: Means) -> None:
    """Train and measure every member that is not done, ``means.jobs`` at a time."""
    missing = [member for member in members if not is_complete(member, folder)]
    progress = Progress([member.train.epochs for member in missing], len(members))
    folder.write_status("running", progress.done, len(members))
    with epoch_bar(missing, folder):
        if means.jobs > 1 and missing:  # a single one, too: it has the threads that it began with
            _complete_at_once(missing, dataset, folder, means, progress)
        elif missing:
            waves = decode_clips(dataset.clips, missing[0].train.audio)
            for member in missing:
                _tell(complete_member(member, dataset, folder, waves, means=means), folder, progress)


def _complete_at_once(
    missing: Sequence[RunConfig], dataset: Dataset, folder: RunFolder, means: Means, progress: Progress
) -> None:
    """In ``means.jobs`` processes. Where one fails the others stop after their epoch, and none is begun."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    setup = (dataset, folder.path, max(1, (os.cpu_count() or 1) // means.jobs), stop, sys.stderr.isatty())
    with ProcessPoolExecutor(means.jobs, mp_context=context, initializer=_start_worker, initargs=setup) as pool:
        try:
            for finished in as_completed([pool.submit(_complete_in_worker, member, means) for member in missing]):
                _tell(finished.result(), folder, progress)
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def epoch_bar(missing: Sequence[RunConfig], folder: RunFolder) -> Iterator[None]:
    """On a terminal, one bar over the epochs of ``missing``, whoever trains them, with the time they will take."""
    if not missing or not sys.stderr.isatty():
        yield
        return

    def trained() -> int:
        told = (member_folder(folder, member).status_if_any() for member in missing)
        return sum(status.epoch for status in told if status is not None)

    total = sum(member.train.epochs for member in missing)
    over = threading.Event()
    bar = tqdm(total=total, initial=trained(), desc=f"{len(missing)} networks", unit="epoch", smoothing=0.05)

    def follow() -> None:
        while not over.wait(LOOK_S):
            bar.update(trained() - bar.n)

    watching = threading.Thread(target=follow, daemon=True)
    with bar, logging_redirect_tqdm():
        watching.start()
        try:
            yield
        finally:
            over.set()
            watching.join()
            bar.update(trained() - bar.n)


@dataclass(frozen=True)
class _Worker:
    """What a process that trains members has: ``waves`` are decoded by the first member."""

    dataset: Dataset
    folder: RunFolder
    stop: Event
    waves: list[Waveform]


_worker: _Worker | None = None


def _start_worker(dataset: Dataset, path: Path, threads: int, stop: Event, under_bar: bool) -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING if under_bar else logging.INFO, format="%(message)s")
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    global _worker
    _worker = _Worker(dataset, RunFolder(path), stop, [])


def _end_with_parent() -> None:
    """A worker whose parent was killed would train on, in the way of the command that is repeated."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _complete_in_worker(member: RunConfig, means: Means) -> RunConfig:
    assert _worker is not None, "the pool starts its workers"
    dataset, folder, stop, waves = _worker.dataset, _worker.folder, _worker.stop, _worker.waves

    def go_on() -> None:
        if stop.is_set():
            raise RunError("Another network of the cross-validation failed; this one goes on when it is repeated.")

    go_on()  # it may have waited in the pool's queue
    if not waves:
        waves += decode_clips(dataset.clips, member.train.audio)
    return complete_member(member, dataset, folder, waves, means=means, once_saved=go_on)


def _tell(member: RunConfig, folder: RunFolder, progress: Progress) -> None:
    progress.finish(member.train.epochs)
    folder.write_status("running", progress.done, progress.members, message=member.run_id)
    metrics = member_folder(folder, member).metrics()
    accuracy, minutes = metrics.get("accuracy", math.nan), metrics["minutes"]
    log.info("%s | %s | accuracy %.3f | %.1f min | %s", progress.place, member.run_id, accuracy, minutes, progress.left)


class Progress:
    """How far a cross-validation is and how long the rest takes, in epochs: members differ in length."""

    def __init__(self, epochs: Sequence[int], members: int) -> None:
        self._all, self._trained, self._started = sum(epochs), 0, time.monotonic()
        self.members, self.done = members, members - len(epochs)

    def finish(self, epochs: int) -> None:
        """One more member is done; it had ``epochs``."""
        self._trained += epochs
        self.done += 1

    @property
    def place(self) -> str:
        """``3/29``."""
        return f"{self.done}/{self.members}"

    @property
    def left(self) -> str:
        """``about 40 min left``."""
        minutes = (time.monotonic() - self._started) / 60 * (self._all - self._trained) / max(self._trained, 1)
        return f"about {minutes:.0f} min left"


def is_complete(member: RunConfig, folder: RunFolder) -> bool:
    """Trained and measured; the weights may have been cleared away since, except those that are to be shipped."""
    run = member_folder(folder, member)
    if not run.finished():
        return False
    if member.fold is None:
        return run.artifact.exists()
    if not hears_for_the_first_time(run):
        return True
    return run.unknown.exists() and (run.robustness.exists() or bool(member.left_out))


def complete_member(
    member: RunConfig,
    dataset: Dataset,
    folder: RunFolder,
    waves: Sequence[Waveform],
    *,
    means: Means = Means(),
    once_saved: Callable[[], None] | None = None,
) -> RunConfig:
    """Train and measure one member of the cross-validation in ``folder``. ``once_saved``: as ``train`` takes it."""
    run = member_folder(folder, member)
    log.info("%s", member.run_id)
    train(member, dataset, run, waves=waves, devices=means.devices, once_saved=once_saved, with_bar=False)
    run.checkpoint.unlink(missing_ok=True)  # 15 MB each, and a finished member never resumes
    if member.fold is not None and hears_for_the_first_time(run):
        if not member.left_out:
            _degrade(member, dataset, run, waves)
        _score_open_set(member, dataset, run, waves)
    return member


def hears_for_the_first_time(run: RunFolder) -> bool:
    """Whether a trained member's held-out fold was new to it: not so where it started from a network that knew it."""
    start = run.metrics().get("start")
    return start is None or start["heard"]["n"] == 0


def _degrade(member: RunConfig, dataset: Dataset, run: RunFolder, waves: Sequence[Waveform]) -> None:
    """Answer a member's held-out clips under every condition with its own network."""
    log.info("%s | held-out clips under degradation", member.run_id)
    chosen = [index for index, clip in enumerate(dataset.clips) if clip.fold == member.fold]
    clips, heard = [dataset.clips[i] for i in chosen], [waves[i] for i in chosen]
    net = load_artifact(run.artifact).net
    write_table(run.robustness, answer_degraded(net, clips, heard, member.train.audio, seed=member.train.seed))


def _score_open_set(member: RunConfig, dataset: Dataset, run: RunFolder, waves: Sequence[Waveform]) -> None:
    """Score a member's held-out clips, excerpts of them, and strangers: of left-out classes, or synthesized."""
    log.info("%s | unknown sounds", member.run_id)
    near = near_trials(dataset.clips, waves, member.left_out)
    far = far_trials(member.train.audio.sample_rate_hz, seed=member.fold or 0)
    records = run.records()
    excerpts = excerpt_trials(dataset.clips, waves, set(records["clip_id"]))
    trials = chain(near if member.left_out else far, excerpts)
    write_table(run.unknown, score_open_set(load_artifact(run.artifact), records, trials, left_out=member.left_out))


def member_folder(folder: RunFolder, member: RunConfig) -> RunFolder:
    return RunFolder(folder.path / "members" / member.run_id)
