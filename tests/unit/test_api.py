"""The API in this process. What needs real sockets, or a process to die, is in tests/contract/test_api_server.py."""

import asyncio
import base64
import io
import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from core.api import create_api
from core.artifact import Artifact
from core.audio import write_wav
from core.backend import Health, LocalBackend
from core.classifier import Classifier
from core.config import Limits, Settings
from core.errors import AudioError, BackendError, StoreError
from core.records import Prediction
from core.serving.openapi import SOUND
from core.store import Store

RATE = 32_000
KEY = "a-key-of-sixteen-or-more"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def noise(seconds: float = 1.0, seed: int = 0) -> bytes:
    return write_wav(np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32), RATE)


def typed(content_type: str, **headers: str) -> dict[str, dict[str, str]]:
    return {
        "headers": {"content-type": content_type} | {name.replace("_", "-"): value for name, value in headers.items()}
    }


def with_nan() -> bytes:
    import soundfile

    samples = np.zeros(RATE, dtype=np.float32)
    samples[100] = np.nan
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


# what comes through the door and is not a usable sound → its code
BAD = {
    "empty": (b"", "empty_file"),
    "text named wav": (b"this is no sound at all, but a letter to you", "not_audio"),
    "truncated": (noise()[:60], "too_short"),
    "nan": (with_nan(), "non_finite"),
    "30 ms": (noise(0.03), "too_short"),
    "too long": (noise(4.0), "too_long"),
    "picture": (PNG_MAGIC + bytes(100), "not_audio"),
}
WAYS: dict[str, Callable[[bytes], dict[str, Any]]] = {
    "multipart": lambda data: {"files": {"file": ("a.wav", data, "audio/wav")}},
    "raw": lambda data: {"content": data, "headers": {"content-type": "audio/wav"}},
    "octets": lambda data: {"content": data, "headers": {"content-type": "application/octet-stream"}},
    "json": lambda data: {"json": {"audio": base64.b64encode(data).decode()}},
}


class Slow(LocalBackend):
    """Answers when it is let."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier)
        self.begun, self.go_on = threading.Semaphore(0), threading.Event()

    def classify(self, sounds: Sequence[bytes]) -> list[Prediction | AudioError]:
        self.begun.release()
        assert self.go_on.wait(60)
        return super().classify(sounds)


@pytest.fixture(autouse=True)
def soon_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused caller is not waited for: the one of these tests never hangs up."""
    monkeypatch.setattr("core.serving.body.LINGER_S", 0.05)


@pytest.fixture(scope="module")
def classifier(untrained: Artifact) -> Classifier:
    return Classifier(untrained, Limits(max_bytes=400_000, max_duration_s=3))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(f"sqlite:///{tmp_path / 'log.sqlite3'}")


def settings(**given: Any) -> Settings:
    return Settings(**{"api_key": None, "keep_audio": False, "max_bytes": 400_000, "max_duration_s": 3, **given})


def client(
    backend: Any, store: Store, *, host: str = "127.0.0.1", url: str = "http://127.0.0.1", **given: Any
) -> TestClient:
    api = create_api(backend, store=store, settings=settings(**given))
    return TestClient(api, base_url=url, client=(host, 50_000), raise_server_exceptions=False)


@pytest.fixture
def caller(classifier: Classifier, store: Store) -> Iterator[TestClient]:
    with client(LocalBackend(classifier), store) as found:
        yield found


def error(response: Any, status: int) -> dict[str, str]:
    """The error of ``response``, which has the one shape of errors and nothing beside it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    answer = response.json()
    assert set(answer) == {"error"}
    assert set(answer["error"]) == {"code", "message"}
    found: dict[str, str] = answer["error"]
    return found


@pytest.mark.parametrize("way", WAYS)
def test_a_sound_gets_the_answer_of_the_classifier_and_is_stored(
    caller: TestClient, classifier: Classifier, store: Store, way: str
) -> None:
    answer = caller.post("/v1/classify", **WAYS[way](noise())).json()
    expected = classifier.predict(noise())
    got = Prediction.model_validate(answer["prediction"])
    assert (got.label, got.clip_id, got.fingerprint) == (expected.label, expected.clip_id, expected.fingerprint)
    assert got.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
    logged = store.get(answer["id"])
    assert (logged.origin, logged.name) == ("api", answer["name"])
    assert logged.prediction.label == expected.label


def test_raw_probabilities_stand_beside_the_calibrated(store: Store, untrained: Artifact) -> None:
    warm = Artifact(untrained.net, untrained.manifest.model_copy(update={"temperature": 3.0}), untrained.reference)
    caller = client(LocalBackend(Classifier(warm, Limits())), store)
    answer = caller.post("/v1/classify", **WAYS["raw"](noise())).json()
    logits = np.array(answer["prediction"]["logits"])
    for shown, temperature in ((answer["raw_probabilities"], 1), (answer["prediction"]["probabilities"], 3)):
        expected = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
        np.testing.assert_allclose([shown[name] for name in warm.manifest.class_names], expected, rtol=1e-5)


def test_top_k_lists_the_most_probable_in_both(caller: TestClient) -> None:
    for answer in (
        caller.post("/v1/classify?top_k=2", **WAYS["multipart"](noise())).json(),
        caller.post("/v1/classify?top_k=1", json={"audio": base64.b64encode(noise()).decode(), "top_k": 2}).json(),
    ):
        shown = answer["prediction"]["probabilities"]
        assert len(shown) == 2
        assert list(shown) == list(answer["raw_probabilities"])
        assert answer["prediction"]["label"] == next(iter(shown))


def test_silence_is_answered_with_a_warning_and_null_where_a_measure_has_no_meaning(caller: TestClient) -> None:
    response = caller.post("/v1/classify", **WAYS["raw"](write_wav(np.zeros(RATE, dtype=np.float32), RATE)))
    assert response.status_code == 200
    assert "silent" in [warning["code"] for warning in response.json()["prediction"]["quality"]]
    assert None in response.json()["prediction"]["descriptors"].values()
    assert "NaN" not in response.text


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/explain"])
@pytest.mark.parametrize("way", ["multipart", "raw", "json"])
@pytest.mark.parametrize("what", BAD)
def test_what_is_no_usable_sound_is_told_through_every_door(caller: TestClient, path: str, way: str, what: str) -> None:
    data, code = BAD[what]
    assert error(caller.post(path, **WAYS[way](data)), 422)["code"] == code


def test_a_batch_answers_the_good_and_tells_the_bad(caller: TestClient, store: Store) -> None:
    given = [("good.wav", noise()), *((f"{what}.wav", data) for what, (data, _) in BAD.items()), ("last.wav", noise(2))]
    response = caller.post("/v1/classify/batch?top_k=1", files=[("files", sound) for sound in given])
    assert response.status_code == 200
    answers = response.json()["answers"]
    assert [answer["name"] for answer in answers] == [name for name, _ in given]
    assert [answer["error"]["code"] for answer in answers[1:-1]] == [code for _, code in BAD.values()]
    for answer in (answers[0], answers[-1]):
        assert store.get(answer["id"]).name == answer["name"]
        assert len(answer["prediction"]["probabilities"]) == 1


def test_a_batch_of_bad_files_alone_is_an_answer(caller: TestClient) -> None:
    response = caller.post("/v1/classify/batch", files=[("files", ("a.wav", b"no"))])
    assert response.status_code == 200
    assert response.json()["answers"][0]["error"]["code"] == "not_audio"


@pytest.mark.parametrize(
    ("path", "sent", "status", "code"),
    [
        ("/v1/classify", {"files": [("file", ("a", b"1")), ("file", ("b", b"2"))]}, 422, "number_of_files"),
        ("/v1/classify", {"files": {"sound": ("a", b"1")}}, 422, "unknown_field"),
        ("/v1/classify", {"files": {"file": ("a", b"1")}, "data": {"top_k": "3"}}, 422, "unknown_field"),
        ("/v1/classify", {"content": b"--x\r\n?", **typed("multipart/form-data; boundary=x")}, 400, "bad_multipart"),
        ("/v1/classify", {"content": b"x", **typed("multipart/form-data")}, 400, "bad_multipart"),
        ("/v1/classify", {"content": b"x"}, 415, "content_type"),
        ("/v1/classify", {"content": b"x", **typed("text/plain")}, 415, "content_type"),
        ("/v1/classify", {"data": {"file": "x"}}, 415, "content_type"),
        ("/v1/classify", {"content": b"x", **typed("audio/wav", content_encoding="gzip")}, 415, "content_encoding"),
        ("/v1/classify", {"json": {"audio": "not base64!"}}, 422, "bad_base64"),
        ("/v1/classify", {"json": {"audio": "data:audio/wav;base64,AAAA"}}, 422, "bad_base64"),
        ("/v1/classify", {"json": {"audio": "é"}}, 422, "bad_base64"),
        ("/v1/classify", {"json": {"audio": "AAAA", "topk": 3}}, 422, "invalid"),
        ("/v1/classify", {"json": {"audio": 3}}, 422, "invalid"),
        ("/v1/classify", {"json": {"audio": "AAAA", "top_k": 0}}, 422, "invalid"),
        ("/v1/classify", {"json": {}}, 422, "invalid"),
        ("/v1/classify", {"json": []}, 422, "invalid"),
        ("/v1/classify", {"content": b'{"audio": ', **typed("application/json")}, 400, "bad_json"),
        ("/v1/classify", {"content": b"\xff\xfe", **typed("application/json")}, 400, "bad_json"),
        ("/v1/classify?topk=3", WAYS["raw"](noise()), 422, "invalid"),
        ("/v1/classify?top_k=0", WAYS["raw"](noise()), 422, "invalid"),
        ("/v1/classify?top_k=three", WAYS["raw"](noise()), 422, "invalid"),
        ("/v1/classify/batch", WAYS["raw"](noise()), 415, "content_type"),
        ("/v1/classify/batch", {"files": [("files", (f"{i}", b"x")) for i in range(65)]}, 422, "number_of_files"),
        ("/v1/classify/batch", {"files": [("files", (f"{i}", b"x")) for i in range(80)]}, 400, "bad_multipart"),
        ("/v1/classify/batch", {"files": {"file": ("a", b"1")}}, 422, "unknown_field"),
        ("/v1/explain?label=walrus", WAYS["raw"](noise()), 422, "no_such_class"),
        ("/v1/explain?window=5", WAYS["raw"](noise()), 422, "no_such_window"),
        ("/v1/explain?format=gif", WAYS["raw"](noise()), 422, "invalid"),
        ("/v1/explain?maps=-1", WAYS["raw"](noise()), 422, "invalid"),
        ("/v1/explain?file=x", WAYS["raw"](noise()), 422, "invalid"),
        ("/v1/nothing", WAYS["raw"](noise()), 404, "not_found"),
        ("/v1/model", WAYS["raw"](noise()), 405, "method_not_allowed"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_told(
    caller: TestClient, path: str, sent: dict[str, Any], status: int, code: str
) -> None:
    assert error(caller.post(path, **sent), status)["code"] == code


@pytest.mark.parametrize("opening", ["[", '{"audio":', '{"a":['])
def test_json_of_a_thousand_levels_is_an_error_and_not_a_crash(caller: TestClient, opening: str) -> None:
    response = caller.post(
        "/v1/classify", content=(opening * 1_000).encode(), headers={"content-type": "application/json"}
    )
    assert error(response, 400)["code"] == "bad_json"


def test_json_that_closes_a_thousand_levels_is_an_error_too(caller: TestClient) -> None:
    deep = '{"audio": "AAAA", "x": ' + "[" * 1_000 + "]" * 1_000 + "}"
    error(caller.post("/v1/classify", content=deep, headers={"content-type": "application/json"}), 400)


def test_a_message_does_not_repeat_all_that_came(caller: TestClient) -> None:
    response = caller.post("/v1/classify", json={"audio": 3, "x" * 100_000: "y" * 100_000})
    assert len(response.content) < 1_000


def test_a_sound_over_the_limit_is_refused_before_and_after_parsing(caller: TestClient) -> None:
    by_length = caller.post("/v1/classify", content=bytes(1_000_000), headers={"content-type": "audio/wav"})
    assert error(by_length, 413)["code"] == "too_many_bytes"
    by_count = caller.post(
        "/v1/classify", content=(bytes(10_000) for _ in range(100)), headers={"content-type": "audio/wav"}
    )
    assert error(by_count, 413)["code"] == "too_many_bytes"
    by_sound = caller.post("/v1/classify", content=noise()[:44] + bytes(400_000), headers={"content-type": "audio/wav"})
    assert error(by_sound, 413)["code"] == "too_many_bytes"


def test_a_name_is_made_fit_for_a_log_and_a_database(caller: TestClient, store: Store) -> None:
    for name, kept in (("../../etc/a\x00b\nc.wav", "a�b�c.wav"), ("C:\\sounds\\dog.wav", "dog.wav"), ("", "sound")):
        answer = caller.post("/v1/classify", json={"audio": base64.b64encode(noise()).decode(), "name": name}).json()
        assert answer["name"] == store.get(answer["id"]).name == kept
    raw = caller.post("/v1/classify?name=rain%ff.wav", **WAYS["raw"](noise())).json()
    assert raw["name"] == "rain�.wav"


def test_sounds_are_kept_only_where_that_is_wanted(classifier: Classifier, store: Store) -> None:
    for keep in (False, True):
        answer = client(LocalBackend(classifier), store, keep_audio=keep).post("/v1/classify", **WAYS["raw"](noise()))
        assert store.sound(answer.json()["prediction"]["clip_id"]) == (noise() if keep else None)


def test_an_explanation_has_every_stage_as_numbers(caller: TestClient, classifier: Classifier) -> None:
    answer = caller.post("/v1/explain?maps=3&label=rain", **WAYS["multipart"](noise())).json()
    why = LocalBackend(classifier).explain(noise(), label="rain")
    assert answer["label"] == "rain"
    assert answer["probability"] == pytest.approx(why.probability, abs=1e-6)
    assert [stage["name"] for stage in answer["stages"]] == [stage.name for stage in why.stages]
    for got, expected in zip(answer["stages"], why.stages, strict=True):
        np.testing.assert_allclose(got["cam"], expected.cam, atol=1e-3)
        assert [chosen["channel"] for chosen in got["maps"]] == expected.strongest(3)
        np.testing.assert_allclose(got["maps"][0]["values"], expected.maps[expected.strongest(1)[0]], atol=1e-3)
    assert np.shape(answer["log_mel"]) == why.log_mel.shape


def test_an_explanation_can_be_a_picture_and_stores_nothing(
    caller: TestClient, classifier: Classifier, store: Store
) -> None:
    response = caller.post("/v1/explain?format=png&maps=20", **WAYS["json"](noise()))
    assert response.headers["content-type"] == "image/png"
    assert response.content.startswith(PNG_MAGIC)
    assert store.records(classifier.manifest.fingerprint).empty


def test_the_model_is_described(caller: TestClient, classifier: Classifier) -> None:
    answer = caller.get("/v1/model").json()
    assert answer["fingerprint"] == classifier.manifest.fingerprint
    assert tuple(answer["class_names"]) == classifier.manifest.class_names
    assert (answer["max_bytes"], answer["backend"]) == (400_000, "local")


def test_it_lives_and_is_ready(caller: TestClient) -> None:
    assert caller.get("/healthz").json()["status"] == "ok"
    assert caller.get("/readyz").json()["status"] == "ready"


def test_metrics_count_requests_predictions_unknown_and_waiting(caller: TestClient) -> None:
    caller.post("/v1/classify", **WAYS["raw"](noise()))
    caller.post("/v1/classify", **WAYS["raw"](b"no"))
    caller.get("/someone/made/this/up")
    response = caller.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    lines = response.text.splitlines()
    for line in (
        'earshot_requests_total{method="POST",path="/v1/classify",status="200"} 1.0',
        'earshot_requests_total{method="POST",path="/v1/classify",status="422"} 1.0',
        'earshot_requests_total{method="GET",path="other",status="404"} 1.0',
        'earshot_request_seconds_count{path="/v1/classify"} 2.0',
        'earshot_errors_total{code="not_audio"} 1.0',
        "earshot_predictions_total 1.0",
        "earshot_unknown_predictions_total 0.0",
        "earshot_unknown_ratio 0.0",
        "earshot_queue_depth 0.0",
        "earshot_workers_busy 0.0",
    ):
        assert line in lines, line


# who may


def test_the_key_is_wanted_and_taken_in_either_header(classifier: Classifier, store: Store) -> None:
    caller = client(LocalBackend(classifier), store, host="203.0.113.7", url="http://api.example", api_key=KEY)
    for path in ("/v1/model", "/metrics", "/nowhere"):
        assert error(caller.get(path), 401)["code"] == "unauthorized"
    for wrong in (
        {"x-api-key": KEY + "x"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": KEY},
        {"x-api-key": "é"},
    ):
        headers = {name: value.encode() for name, value in wrong.items()}
        assert error(caller.get("/v1/model", headers=headers), 401)["code"] == "unauthorized"
    for right in ({"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}):
        assert caller.get("/v1/model", headers=right).status_code == 200
    for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
        assert caller.get(path).status_code == 200


def test_without_the_key_no_byte_of_the_body_is_read(classifier: Classifier, store: Store) -> None:
    caller = client(LocalBackend(classifier), store, api_key=KEY)
    for path in ("/v1/classify", "/healthz", "/docs"):  # what anyone may look at takes nothing from anyone
        error(caller.post(path, content=bytes(10_000_000), headers={"content-type": "audio/wav"}), 401)


@pytest.mark.parametrize(
    ("host", "url", "origin"),
    [
        ("203.0.113.7", "http://127.0.0.1", None),  # from another machine
        ("127.0.0.1", "http://earshot.example", None),  # a name that was made to point here
        ("127.0.0.1", "http://127.0.0.1", "https://evil.example"),  # another site's page
        ("127.0.0.1", "http://127.0.0.1", "null"),
    ],
)
def test_without_a_key_this_machine_alone_is_answered(
    classifier: Classifier, store: Store, host: str, url: str, origin: str | None
) -> None:
    caller = client(LocalBackend(classifier), store, host=host, url=url)
    headers = {"origin": origin} if origin else {}
    assert error(caller.get("/v1/model", headers=headers), 403)["code"] == "loopback_only"


def test_nothing_secret_is_logged(classifier: Classifier, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        caller = client(LocalBackend(classifier), store, api_key=KEY)
        caller.get("/v1/model?name=private", headers={"x-api-key": KEY, "x-request-id": "mine-1"})
        caller.get("/v1/model", headers={"x-api-key": "wrong-" + KEY})
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("core."))
    assert "request mine-1 | GET '/v1/model' | 200" in ours
    assert KEY not in caplog.text
    assert "private" not in ours


def test_a_request_id_is_taken_from_the_caller_only_where_it_is_harmless(caller: TestClient) -> None:
    assert caller.get("/healthz", headers={"x-request-id": "job-7.a"}).headers["x-request-id"] == "job-7.a"
    for odd in ("a b", "x" * 65, "a|b", ""):
        got = caller.get("/healthz", headers={"x-request-id": odd}).headers["x-request-id"]
        assert len(got) == 32


# when too much comes, or something fails


def post_in_thread(caller: TestClient, answers: list[Any]) -> threading.Thread:
    thread = threading.Thread(target=lambda: answers.append(caller.post("/v1/classify", **WAYS["raw"](noise()))))
    thread.start()
    return thread


def test_over_the_queue_the_next_hears_503_and_everyone_accepted_is_answered(
    classifier: Classifier, store: Store
) -> None:
    backend, answers = Slow(classifier), list[Any]()
    with client(backend, store, api_workers=1, api_queue=2) as caller:
        threads = [post_in_thread(caller, answers)]
        assert backend.begun.acquire(timeout=60)  # the worker has one
        while len(threads) < 3:
            threads.append(post_in_thread(caller, answers))
            wait_for_depth(caller, len(threads) - 1)
        refused = caller.post("/v1/classify", **WAYS["raw"](noise()))
        assert error(refused, 503)["code"] == "busy"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert caller.get("/healthz").status_code == 200  # work may queue; the server answers
        backend.go_on.set()
        for thread in threads:
            thread.join(60)
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len(store.records(classifier.manifest.fingerprint)) == 3


def test_as_many_callers_wait_at_once_for_modal_as_it_answers_together(classifier: Classifier, store: Store) -> None:
    import modal_backend

    asked = modal_backend.api_settings(Settings())
    assert asked.api_workers >= modal_backend.API_CONCURRENCY >= modal_backend.BATCH * modal_backend.MAX_CONTAINERS
    backend, answers = Slow(classifier), list[Any]()
    with client(backend, store, api_workers=asked.api_workers) as caller:
        threads = [post_in_thread(caller, answers) for _ in range(modal_backend.BATCH)]
        for _ in threads:  # none of them has its answer yet
            assert backend.begun.acquire(timeout=60)
        backend.go_on.set()
        for thread in threads:
            thread.join(60)
    assert [answer.status_code for answer in answers] == [200] * modal_backend.BATCH


def wait_for_depth(caller: TestClient, depth: int) -> None:
    while f"earshot_queue_depth {depth}.0" not in caller.get("/metrics").text:
        pass


def test_who_waits_too_long_hears_504_and_nothing_is_stored(classifier: Classifier, store: Store) -> None:
    backend = Slow(classifier)
    with client(backend, store, api_workers=1, api_timeout_s=0.2) as caller:
        for _ in range(2):  # the first is in a worker, the second never gets there
            assert error(caller.post("/v1/classify", **WAYS["raw"](noise())), 504)["code"] == "timed_out"
        backend.go_on.set()
    assert store.records(classifier.manifest.fingerprint).empty


def test_a_caller_who_hangs_up_while_waiting_is_dropped_and_nothing_is_stored(
    classifier: Classifier, store: Store
) -> None:
    backend = Slow(classifier)
    api = create_api(backend, store=store, settings=settings(api_workers=1))
    said: list[Any] = []

    async def visit() -> None:
        begun, hung_up = asyncio.Event(), asyncio.Event()

        async def receive() -> dict[str, Any]:
            if not begun.is_set():
                begun.set()
                return {"type": "http.request", "body": noise()}
            await hung_up.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            said.append(message)

        path = "/v1/classify"
        scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode()}
        scope |= {"query_string": b"", "root_path": "", "scheme": "http", "server": ("127.0.0.1", 80)}
        scope |= {"headers": [(b"host", b"127.0.0.1"), (b"content-type", b"audio/wav")], "client": ("127.0.0.1", 1)}
        visiting = asyncio.create_task(api(scope, receive, send))
        assert await asyncio.to_thread(backend.begun.acquire, timeout=60)
        hung_up.set()
        await visiting

    asyncio.run(visit())
    assert said[0]["status"] == 499
    backend.go_on.set()
    with TestClient(api, base_url="http://127.0.0.1", client=("127.0.0.1", 1)):
        pass  # its end waits for the workers
    assert store.records(classifier.manifest.fingerprint).empty


def test_a_sound_is_kept_with_its_record_or_not_at_all(
    classifier: Classifier, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.store._row", lambda *_: {"name": None})  # refused by the database
    caller = client(LocalBackend(classifier), store, keep_audio=True)
    response = caller.post("/v1/classify", **WAYS["raw"](noise()))
    assert error(response, 503)["code"] == "not_stored"
    assert store.sound(classifier.predict(noise()).clip_id) is None


def test_where_the_database_fails_nothing_is_acknowledged(
    classifier: Classifier, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise StoreError("postgresql://db.internal did not take this: disk full", code="database")

    monkeypatch.setattr(store, "log_all", fail)
    monkeypatch.setattr(store, "check", fail)
    caller = client(LocalBackend(classifier), store)
    for path, sent in (
        ("/v1/classify", WAYS["raw"](noise())),
        ("/v1/classify/batch", {"files": {"files": ("a", noise())}}),
    ):
        response = caller.post(path, **sent)
        assert error(response, 503)["code"] == "not_stored"
        assert response.headers["retry-after"]
        assert "db.internal" not in response.text
    assert "disk full" in caplog.text
    ready = caller.get("/readyz")
    assert error(ready, 503)["code"] == "not_ready"
    assert "db.internal" not in ready.text
    assert caller.get("/healthz").status_code == 200
    assert "earshot_predictions_total 0.0" in caller.get("/metrics").text


def test_a_backend_that_does_not_answer_is_told_as_that(classifier: Classifier, store: Store) -> None:
    class Away(LocalBackend):
        def classify(self, sounds: Sequence[bytes]) -> list[Prediction | AudioError]:
            raise BackendError("Modal cannot be reached. Try again.")

        def health(self) -> Health:
            return Health(ready=False, backend="modal", device="", message="Modal cannot be reached.")

    caller = client(Away(classifier), store)
    assert error(caller.post("/v1/classify", **WAYS["raw"](noise())), 503)["code"] == "backend_unavailable"
    assert "Modal cannot be reached" in error(caller.get("/readyz"), 503)["message"]


def test_an_error_of_ours_is_a_500_that_names_the_request_and_not_the_cause(
    classifier: Classifier, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(LocalBackend):
        def classify(self, sounds: Sequence[bytes]) -> list[Prediction | AudioError]:
            raise RuntimeError("secret inner state")

    response = client(Broken(classifier), store).post("/v1/classify", **WAYS["raw"](noise()))
    found = error(response, 500)
    assert found["code"] == "internal"
    assert response.headers["x-request-id"] in found["message"]
    assert "secret inner state" not in response.text
    assert "secret inner state" in caplog.text


# what it says of itself


def test_the_document_has_examples_that_work_and_the_one_shape_of_errors(caller: TestClient) -> None:
    document = caller.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/v1/classify", "/v1/classify/batch", "/v1/explain", "/v1/model", "/healthz", "/readyz", "/metrics",
    }  # fmt: skip
    assert "HTTPValidationError" not in json.dumps(document)
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["responses"]["422"]["content"]["application/json"]["schema"]["$ref"].endswith(
                "ErrorAnswer"
            )
    example = SOUND["requestBody"]["content"]["application/json"]["examples"]["base64"]["value"]
    answer = caller.post("/v1/classify", json=example)
    assert answer.status_code == 200
    assert answer.json()["name"] == "chirp.wav"


def test_the_document_asks_for_a_key_where_there_is_one(
    classifier: Classifier, store: Store, caller: TestClient
) -> None:
    assert "securitySchemes" not in caller.get("/openapi.json").json()["components"]
    document = client(LocalBackend(classifier), store, api_key=KEY).get("/openapi.json").json()
    assert document["paths"]["/v1/classify"]["post"]["security"] == [{"ApiKey": []}, {"Bearer": []}]
    assert document["paths"]["/healthz"]["get"]["security"] == []
