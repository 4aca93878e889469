"""What a person is told where Modal did not answer: which failure it was, and what to do. Codes are for programs."""

from __future__ import annotations

from core.errors import BackendError

DEPLOY = "modal deploy modal_backend.py"
# Failures that say nothing of a job: it goes on, only this machine cannot see it.
NOT_OF_THE_JOB = frozenset({"modal_no_token", "modal_wrong_token", "modal_unreachable", "modal_declined"})


def unreachable(seconds: float) -> BackendError:
    return BackendError(
        f"Expected Modal's servers to answer within {seconds:g} s, heard nothing. Check this machine's connection, "
        "then try again.",
        code="modal_unreachable",
    )


def not_connected(said: str) -> BackendError:
    return BackendError(
        f"Modal's servers cannot be reached ({said}). Check this machine's connection, then try again.",
        code="modal_unreachable",
    )


def no_token() -> BackendError:
    return BackendError(
        "Expected a Modal token on this machine, found none. Make one with: modal setup.", code="modal_no_token"
    )


def wrong_token(said: str) -> BackendError:
    return BackendError(
        f"Modal refused this machine's token ({said}). Make a new one with: modal setup.", code="modal_wrong_token"
    )


def not_deployed(said: str) -> BackendError:
    return BackendError(
        f"Expected Earshot deployed on Modal, found it is not ({said}). Deploy it: {DEPLOY}.", code="modal_not_deployed"
    )


def out_of_time(said: str) -> BackendError:
    return BackendError(
        f"The container on Modal did not finish within its own limit ({said}). A shorter sound takes less; a training "
        "goes on where it stopped when it is resumed.",
        code="modal_timeout",
    )


def declined(said: str) -> BackendError:
    return BackendError(f"Modal declined: {said}. See limits and billing at modal.com/settings.", code="modal_declined")


def preempted(said: str) -> BackendError:
    return BackendError(
        f"The container on Modal was stopped before it could answer, as when it is preempted ({said}). Try again.",
        code="modal_preempted",
    )


def unreadable(said: str) -> BackendError:
    return BackendError(
        f"Modal's answer could not be read ({said}). Deploy this release there: {DEPLOY}.", code="other_release"
    )


def forgotten() -> BackendError:
    return BackendError("Modal does not know its call any more: results are kept for a week.", code="modal_forgotten")


def failed(kind: str, said: str, app: str) -> BackendError:
    return BackendError(
        f"Earshot's container on Modal failed: {kind}: {said}. Its log: modal app logs {app}.", code="modal_failed"
    )


def cold(waited_s: float, call_id: str) -> BackendError:
    return BackendError(
        f"Modal is still starting a container for Earshot after {waited_s:g} s (a cold start). {_goes_on(call_id)}",
        code="modal_cold",
    )


def late(waited_s: float, call_id: str) -> BackendError:
    return BackendError(
        f"Expected an answer from Modal within {waited_s:g} s. {_goes_on(call_id)}", code="modal_timeout"
    )


def other_model(expected: str, answered: str) -> BackendError:
    return BackendError(
        f"Expected an answer by the model {expected[:12]}, Modal serves {answered[:12]}. Serve this one there: "
        f"{DEPLOY}.",
        code="modal_other_model",
    )


def _goes_on(call_id: str) -> str:
    return f"The question goes on as {call_id}: ask again in a moment and its answer is taken."
