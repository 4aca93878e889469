"""What the OpenAPI document says beyond the types: bodies, examples, errors, the key."""

from __future__ import annotations

import math
import struct
from typing import Any

from core.serving.messages import ErrorAnswer, SoundInJson, encoded

KEYS: dict[str, Any] = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Bearer": {"type": "http", "scheme": "bearer"},
}
PNG: dict[str, Any] = {"image/png": {"schema": {"type": "string", "format": "binary"}}}

_MEANINGS = {
    400: ("The body is broken off, or is not the JSON or multipart it says.", "bad_json"),
    401: ("The API key is missing or another one.", "unauthorized"),
    403: ("There is no API key, and the caller is not this machine.", "loopback_only"),
    404: ("There is nothing at this path.", "not_found"),
    405: ("The path is there, for another method.", "method_not_allowed"),
    408: ("The body came too slowly.", "slow_body"),
    413: ("The body or the sound is too large.", "too_many_bytes"),
    415: ("The body is of another type.", "content_type"),
    422: ("A parameter is out of range or unknown, or the bytes are not a usable sound.", "not_audio"),
    500: ("Something went wrong here.", "internal"),
    503: (
        "Too many wait, or the answer could not be computed or stored: nothing was promised. See Retry-After.",
        "busy",
    ),
    504: ("It took too long.", "timed_out"),
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {
        "model": ErrorAnswer,
        "description": says,
        "content": {"application/json": {"example": {"error": {"code": code, "message": says}}}},
    }
    for status, (says, code) in _MEANINGS.items()
}

_FILE = {"type": "string", "format": "binary"}
_RAW = {"schema": {**_FILE, "description": "the sound file itself"}}


def _chirp() -> bytes:
    """A wav of a quarter of a second, in 294 bytes: the shortest sound there is an answer for."""
    rate_hz = 1_000
    samples = bytes(
        128 + round(100 * math.sin(2 * math.pi * (100 + 0.5 * i) * i / rate_hz)) for i in range(rate_hz // 4)
    )
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate_hz, rate_hz, 1, 8)  # 8-bit mono PCM
    content = b"WAVE" + form + struct.pack("<4sI", b"data", len(samples)) + samples
    return struct.pack("<4sI", b"RIFF", len(content)) + content


def _multipart(field: str, schema: dict[str, Any]) -> dict[str, Any]:
    properties = {"type": "object", "required": [field], "properties": {field: schema}, "additionalProperties": False}
    return {"multipart/form-data": {"schema": properties}}


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


_ONE_SOUND = {
    **_multipart("file", _FILE),
    "application/json": {
        "schema": SoundInJson.model_json_schema(),
        "examples": {
            "base64": {
                "summary": "A file in base64",
                "value": {"audio": encoded(_chirp()), "name": "chirp.wav", "top_k": 3},
            }
        },
    },
    "application/octet-stream": _RAW,
    "audio/*": _RAW,
}
SOUND = _body(_ONE_SOUND)
BATCH = _body(_multipart("files", {"type": "array", "items": _FILE, "minItems": 1}))


def with_keys(document: dict[str, Any], open_paths: frozenset[str]) -> None:
    """Say in ``document`` that every path but the open ones wants a key."""
    document["components"]["securitySchemes"] = KEYS
    for path, methods in document["paths"].items():
        for operation in methods.values():
            operation["security"] = [] if path in open_paths else [{name: []} for name in KEYS]
