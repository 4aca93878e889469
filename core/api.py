"""The HTTP API: sounds in, stored answers out.

    python -m core serve            # make api: http://127.0.0.1:8000
    create_api(backend, store=…)    # the same in another server, such as Modal's

What stands before every route (request id, key, bounds, queue, metrics) is ``core.serving.door``. An answer is given
after it is stored and never otherwise: where the database fails, the caller hears 503 and nothing was promised. After a
504, and for a caller who hung up while waiting, nothing is stored (``core.serving.workers``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from core import __version__
from core.backend import Backend
from core.config import Settings
from core.errors import AudioError, BackendError, EarshotError, StoreError
from core.serving import messages
from core.serving.access import OPEN_PATHS, Access
from core.serving.answering import Answering
from core.serving.body import BodyLimits, DisconnectedError
from core.serving.door import GONE, Door, error_response
from core.serving.messages import Answer, BatchAnswer, ErrorFacts, Failed, RequestError, shown_name
from core.serving.metrics import CONTENT_TYPE, Metrics
from core.serving.openapi import BATCH, ERRORS, PNG, SOUND, with_keys
from core.serving.workers import Claim, Workers
from core.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")
Given = TypeVar("Given", bound=BaseModel)
Sounds = list[tuple[str, bytes]]  # name, file
MOST_FILES = 64  # of one batch; together they are no larger than one request
READY_S = 8.0  # how long backend and database may take to say that they are ready
RETRY_S = "5"


def create_api(
    backend: Backend,
    *,
    store: Store,
    settings: Settings | None = None,
    successor: Callable[[Path], Backend] | None = None,
    notes: Sequence[str] = (),
) -> FastAPI:
    """The API over ``backend``; every prediction is written to ``store`` before it is given.

    ``settings``: the environment's where ``None``. Without a key it answers loopback callers alone.
    ``successor``: makes the backend over an artifact that is promoted while the API runs; without it the model stays.
    ``notes``: what whoever runs it should know; ``/healthz`` and ``/readyz`` repeat it.
    """
    settings = settings or Settings.load()
    answering = Answering(backend)
    if successor is not None:
        answering.follow(settings.runs_dir, successor)
    workers = Workers(count=settings.api_workers, capacity=settings.api_queue, timeout_s=settings.api_timeout_s)

    @asynccontextmanager
    async def until_closed(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(answering.watch())
        yield
        watching.cancel()
        await asyncio.to_thread(workers.close)

    api = FastAPI(
        title="Earshot",
        version=__version__,
        description="Environmental sounds, classified and explained.",
        lifespan=until_closed,
        redoc_url=None,
        responses=ERRORS,
    )
    service = Service(answering, store, settings, workers, notes)
    service.add_routes(api)
    if settings.api_key:
        with_keys(api.openapi(), OPEN_PATHS)
    api.add_middleware(
        Door,
        access=Access(settings.api_key.get_secret_value() if settings.api_key else None),
        body=BodyLimits.of(settings.limits, grace_s=settings.api_read_timeout_s),
        workers=workers,
        metrics=service.metrics,
    )
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(HTTPException, _http_error)
    api.add_exception_handler(EarshotError, _our_error)
    api.add_exception_handler(DisconnectedError, _gone)
    return api


class Service:
    """The routes, and what they share."""

    def __init__(
        self, answering: Answering, store: Store, settings: Settings, workers: Workers, notes: Sequence[str]
    ) -> None:
        self._answering, self._store, self._settings, self._workers = answering, store, settings, workers
        self._notes = tuple(notes)
        self.metrics = Metrics(workers)
        self._readiness: asyncio.Task[messages.Status] | None = None

    def add_routes(self, api: FastAPI) -> None:
        """Tell ``api`` what is where."""
        png: dict[int | str, dict[str, Any]] = {200: {"content": PNG}}
        api.post("/v1/classify", response_model=Answer, openapi_extra=SOUND)(self.classify)
        api.post("/v1/classify/batch", response_model=BatchAnswer, openapi_extra=BATCH)(self.classify_batch)
        api.post("/v1/explain", response_model=messages.ExplainAnswer, responses=png, openapi_extra=SOUND)(self.explain)
        api.get("/v1/model", response_model=messages.ModelAnswer)(self.model)
        api.get("/healthz", response_model=messages.Status)(self.healthz)
        api.get("/readyz", response_model=messages.Status)(self.readyz)
        api.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})(
            self.read_metrics
        )

    async def classify(self, request: Request, query: Annotated[messages.SoundQuery, Query()]) -> Response:
        """Classify one sound: multipart (`file`), the file itself as `audio/*` or `application/octet-stream`, or JSON
        with the file in base64. The answer is stored before it is given."""
        name, data, top_k = await _sound(request, query)
        (answer,) = await self._do(request, lambda claim: self._answers([(name, data)], top_k, claim))
        if isinstance(answer, AudioError):
            raise answer
        return _json(answer)

    async def classify_batch(self, request: Request, query: Annotated[messages.BatchQuery, Query()]) -> Response:
        """Classify several files (multipart, `files`). A file that is not usable gets its error; the others are
        answered and stored."""
        sounds = await _files(request, "files", at_most=MOST_FILES)
        answers = await self._do(request, lambda claim: self._answers(sounds, query.top_k, claim))
        return _json(
            BatchAnswer(
                answers=tuple(
                    Failed(name=name, error=ErrorFacts(code=answer.code, message=str(answer)))
                    if isinstance(answer, AudioError)
                    else answer
                    for (name, _), answer in zip(sounds, answers, strict=True)
                )
            )
        )

    async def explain(self, request: Request, query: Annotated[messages.ExplainQuery, Query()]) -> Response:
        """Why: Grad-CAM and feature maps of every stage, as numbers or as one picture. Nothing is stored."""
        _, data, _ = await _sound(request, messages.SoundQuery())

        def explained() -> Response:
            backend = self._answering.backend
            explanation = backend.explain(data, label=query.label, window=query.window)
            if query.format == "png":
                from core.figures.picture import explanation_picture  # matplotlib, when someone asks for it

                return Response(explanation_picture(explanation, maps=query.maps), media_type="image/png")
            fingerprint = backend.manifest.fingerprint
            return _json(messages.explain_answer(explanation, maps=query.maps, fingerprint=fingerprint))

        return await self._do(request, lambda _: explained())

    async def model(self) -> Response:
        """Which model answers, its classes, its bounds, and how it did on clips that it never heard."""
        backend = self._answering.backend
        return _json(messages.model_answer(backend.manifest, self._settings.limits, backend.name))

    async def healthz(self) -> messages.Status:
        """The process lives."""
        return self._status("ok", self._answering.backend)

    async def readyz(self) -> Response:
        """Backend and database would answer now; 503 says which would not."""
        if self._readiness is None or self._readiness.done():  # callers that come at once share one look
            self._readiness = asyncio.create_task(asyncio.to_thread(self._look))
        try:
            return _json(await asyncio.wait_for(asyncio.shield(self._readiness), READY_S))
        except TimeoutError as exc:
            raise _not_ready(f"Expected backend and database to answer within {READY_S:g} s.") from exc

    async def read_metrics(self) -> Response:
        """Prometheus: requests, latency, unknown rate, queue."""
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    async def _do(self, request: Request, work: Callable[[Claim], T]) -> T:
        """``work`` in a worker, for as long as the caller is there."""
        return await self._workers.do(work, gone=_hung_up(request))

    def _answers(self, sounds: Sounds, top_k: int | None, claim: Claim) -> Sequence[Answer | AudioError]:
        """Classify, store, then answer. In a worker."""
        backend = self._answering.backend
        manifest, heard = backend.manifest, backend.classify([data for _, data in sounds])
        good = [
            (name, data, found)
            for (name, data), found in zip(sounds, heard, strict=True)
            if not isinstance(found, AudioError)
        ]
        named = [(name, found) for name, _, found in good]
        kept = {found.clip_id: data for _, data, found in good} if self._settings.keep_audio else {}
        claim.take()
        numbers = iter(self._store.log_all(named, manifest, origin="api", sounds=kept))
        self.metrics.count_predictions(found for _, _, found in good)
        return [
            found if isinstance(found, AudioError) else messages.answer_of(next(numbers), name, found, manifest, top_k)
            for (name, _), found in zip(sounds, heard, strict=True)
        ]

    def _look(self) -> messages.Status:
        backend = self._answering.backend
        health = backend.health()
        if not health.ready:
            raise _not_ready(health.message)
        try:
            self._store.check()
        except StoreError as exc:
            log.error("not ready: %s", exc)
            raise _not_ready("The database does not answer; the server's log says why.") from exc
        return self._status("ready", backend, device=health.device)

    def _status(self, status: Literal["ok", "ready"], backend: Backend, **more: str) -> messages.Status:
        problem = (self._answering.problem,) if self._answering.problem else ()
        fingerprint = backend.manifest.fingerprint
        return messages.Status(
            status=status, backend=backend.name, fingerprint=fingerprint, notes=(*problem, *self._notes), **more
        )


async def _hung_up(request: Request) -> None:
    """Returns when the caller, whose body was read, closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _sound(request: Request, query: messages.SoundQuery) -> tuple[str, bytes, int | None]:
    """Name, file and top_k, by whichever of the three ways it came."""
    kind = _content_type(request)
    if kind == "multipart/form-data":
        ((name, data),) = await _files(request, "file", at_most=1)
        return name, data, query.top_k
    if kind == "application/json":
        given = _parsed(messages.SoundInJson, await request.body())
        return shown_name(given.name), given.data(), given.top_k or query.top_k
    if kind == "application/octet-stream" or kind.startswith("audio/"):
        return shown_name(query.name), await request.body(), query.top_k
    raise RequestError(
        415,
        "content_type",
        "Expected Content-Type multipart/form-data, audio/*, application/octet-stream or application/json, "
        f"got {kind[:80]!r}. With curl: -F file=@dog.wav.",
    )


async def _files(request: Request, field: str, *, at_most: int) -> Sounds:
    """The multipart files of ``field``, and nothing beside them."""
    if (kind := _content_type(request)) != "multipart/form-data":
        raise RequestError(415, "content_type", f"Expected Content-Type multipart/form-data, got {kind[:80]!r}.")
    try:
        parser = _InMemory(request.headers, request.stream(), max_files=at_most + 1, max_fields=1)
        form = await parser.parse()
    except (MultiPartException, ValueError) as exc:
        raise RequestError(400, "bad_multipart", f"Expected multipart/form-data, got what is not: {exc}") from exc
    try:
        found = [(shown_name(value.filename), await value.read()) for value in _only(field, form)]
    finally:
        await form.close()
    if not 1 <= len(found) <= at_most:
        many = "one file" if at_most == 1 else f"1 to {at_most} files"
        hint = " For several: /v1/classify/batch." if at_most == 1 and found else ""
        raise RequestError(422, "number_of_files", f"Expected {many} named {field!r}, got {len(found)}.{hint}")
    return found


def _only(field: str, form: FormData) -> list[UploadFile]:
    """The files of ``form``, all of them of ``field``; nothing else may be there."""
    files = []
    for name, value in form.multi_items():
        if name != field or not isinstance(value, UploadFile):
            raise RequestError(422, "unknown_field", f"Expected files named {field!r} alone, got {name[:80]!r}.")
        files.append(value)
    return files


class _InMemory(MultiPartParser):
    spool_max_size = 2**40  # the body is in memory already, and sounds that nobody asked to keep touch no disk


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _parsed(kind: type[Given], body: bytes) -> Given:
    try:
        return kind.model_validate_json(body)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            raise RequestError(400, "bad_json", f"Expected JSON, got what is not: {first['msg']}.") from exc
        raise RequestError(422, "invalid", _in_words(first)) from exc


def _json(answer: BaseModel) -> Response:
    """Measures without meaning are null: JSON has no nan."""
    return Response(answer.model_dump_json(), media_type="application/json")


def _not_ready(message: str) -> RequestError:
    return RequestError(503, "not_ready", message, {"retry-after": RETRY_S})


def _in_words(error: Any) -> str:
    place = ".".join(str(part)[:80] for part in error["loc"])
    return f"{place}: {error['msg']}, got {str(error.get('input'))[:80]!r}." if place else f"{error['msg']}."


def _invalid(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    return _refused(RequestError(422, "invalid", _in_words(exc.errors()[0])))


def _http_error(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(exc.status_code, "http")
    return _refused(RequestError(exc.status_code, code, f"{exc.detail}.", exc.headers))


def _gone(_: Request, __: Exception) -> Response:
    return _refused(RequestError(GONE, "gone", "The caller hung up."))


def _our_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, EarshotError)
    if isinstance(exc, RequestError):
        return _refused(exc)
    if isinstance(exc, AudioError):
        return _refused(RequestError(413 if exc.code == "too_many_bytes" else 422, exc.code, str(exc)))
    if exc.code in ("no_such_class", "no_such_window"):
        return _refused(RequestError(422, exc.code, str(exc)))
    log.error("request %s | %s: %s", request.scope["request_id"], exc.code, exc)
    retry = {"retry-after": RETRY_S}
    if isinstance(exc, BackendError):
        return _refused(RequestError(503, exc.code, str(exc), retry))
    if isinstance(exc, StoreError):
        return _refused(
            RequestError(
                503,
                "not_stored",
                "The answer could not be stored, so it is not given. Try again; nothing was lost.",
                retry,
            )
        )
    raise exc


def _refused(refusal: RequestError) -> Response:
    body, headers = error_response(refusal)
    return Response(body, status_code=refusal.status, headers=headers)
