"""Process-wide objects and cached work: the only ``cache_resource`` and ``cache_data`` of the app.

What is kept is frozen, so all sessions share it (``cache_resource``) instead of unpickling a copy each time. Errors are
never cached. torch takes a second to import, so what needs it is imported where it is used and the page draws first.
"""

from app.services import (
    administration,
    answering,
    datasets,
    drift,
    environment,
    hearing,
    maps,
    records,
    sounds,
    tableau,
    training,
)

__all__ = [
    "administration",
    "answering",
    "datasets",
    "drift",
    "environment",
    "hearing",
    "maps",
    "records",
    "sounds",
    "tableau",
    "training",
]
