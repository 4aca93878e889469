"""``ModalBackend``: answers from a GPU on Modal, the same as this machine would give."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Sequence

from core.artifact import Manifest
from core.backend import Health
from core.errors import AudioError, BackendError
from core.explain import Explanation
from core.jobs import Trainer
from core.records import Place, Prediction
from core.remote.cloud import GPU, INFERENCE, Cloud, Patience, bounded
from core.remote.failures import cold, late, other_model
from core.wire import Packed, ask_to_classify, ask_to_explain, unpack_answer, unpack_explanation

ASKED_AT_ONCE = 128  # questions under way; as many again as the containers' batches hold
CALLS_KEPT = 1_024  # of questions that were not answered in time


class ModalBackend:
    """Answers from a GPU on Modal. Call it from threads, not from a running event loop.

    ``manifest`` is of the model that the app was set to; an answer by another one is refused. A question that was not
    answered in time is not lost: its call is kept, and asking again waits for that one.
    """

    name: str = "modal"

    def __init__(self, manifest: Manifest, cloud: Cloud, trainer: Trainer, *, patience: Patience = Patience()) -> None:
        self._manifest, self._cloud, self._trainer, self._patience = manifest, cloud, trainer, patience
        self._calls: OrderedDict[str, str] = OrderedDict()  # question → call, of those that still run

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    @property
    def trainer(self) -> Trainer:
        return self._trainer

    def classify(self, sounds: Sequence[bytes]) -> list[Prediction | AudioError]:
        started = time.perf_counter()
        packed = self._ask([ask_to_classify(sound) for sound in sounds])
        round_trip_ms = (time.perf_counter() - started) * 1000
        answers = [unpack_answer(answer) for answer in packed]
        return [
            answer
            if isinstance(answer, AudioError)
            else answer.model_copy(
                update={"place": Place(device=told["device"], cold=told["cold"], round_trip_ms=round_trip_ms)}
            )
            for told, answer in zip(packed, answers, strict=True)
        ]

    def explain(
        self,
        sound: bytes,
        *,
        label: str | None = None,
        window: int = 0,
        timeline: bool = False,
        occlusion: bool = False,
    ) -> Explanation:
        question = ask_to_explain(sound, label=label, window=window, timeline=timeline, occlusion=occlusion)
        (packed,) = self._ask([question])
        return unpack_explanation(packed)

    def health(self) -> Health:
        try:
            containers = bounded(self._cloud.load(INFERENCE), self._patience.connect_s, self._patience).containers
        except BackendError as exc:
            return Health(ready=False, backend=self.name, device=GPU, message=str(exc))
        warm = f"{containers} running" if containers else "none runs, so the first answer waits until one has started"
        return Health(ready=True, backend=self.name, device=GPU, message=f"Deployed on Modal; containers: {warm}.")

    def _ask(self, questions: Sequence[Packed]) -> list[Packed]:
        if not questions:
            return []
        wait_s = self._patience.answer_s + self._patience.each_s * (len(questions) - 1)
        slack_s = 3 * self._patience.connect_s  # each step is bounded; this is for Modal falling silent between them
        packed = bounded(self._answers(questions, wait_s), wait_s + slack_s, self._patience)
        for answer in packed:
            if (answered := str(answer.get("fingerprint"))) != self.manifest.fingerprint:
                raise other_model(self.manifest.fingerprint, answered)
        return packed

    async def _answers(self, questions: Sequence[Packed], wait_s: float) -> list[Packed]:
        await self._cloud.ready(INFERENCE)
        some = asyncio.Semaphore(ASKED_AT_ONCE)

        async def answered(question: Packed) -> Packed:
            async with some:
                return await self._answer(question, wait_s)

        return await asyncio.gather(*(answered(question) for question in questions))

    async def _answer(self, question: Packed, wait_s: float) -> Packed:
        key = _digest(question)
        if key not in self._calls:
            self._calls[key] = await self._cloud.spawn(INFERENCE, question)
            while len(self._calls) > CALLS_KEPT:
                self._calls.popitem(last=False)
        call_id = self._calls[key]
        try:
            answer: Packed = await self._cloud.result(call_id, timeout_s=wait_s)
        except TimeoutError:
            raise await self._late(call_id, wait_s) from None
        except BaseException:
            self._calls.pop(key, None)
            raise
        self._calls.pop(key, None)
        return answer

    async def _late(self, call_id: str, wait_s: float) -> BackendError:
        """No answer yet: because no container was ready for the question, or because it takes long."""
        load = await asyncio.wait_for(self._cloud.load(INFERENCE), self._patience.connect_s)
        return late(wait_s, call_id) if load.running else cold(wait_s, call_id)


def _digest(question: Packed) -> str:
    whole = hashlib.sha256(question["sound"])
    whole.update(json.dumps({name: value for name, value in question.items() if name != "sound"}).encode())
    return whole.hexdigest()
