"""ESC-50's five families of sounds (Piczak 2015), for putting alike classes side by side."""

from __future__ import annotations

from collections.abc import Sequence

FAMILIES = {
    "Animals": "dog rooster pig cow frog cat hen insects sheep crow",
    "Natural soundscapes and water": "rain sea_waves crackling_fire crickets chirping_birds water_drops wind "
    "pouring_water toilet_flush thunderstorm",
    "Human sounds, not speech": "crying_baby sneezing clapping breathing coughing footsteps laughing brushing_teeth "
    "snoring drinking_sipping",
    "Interior and domestic": "door_wood_knock mouse_click keyboard_typing door_wood_creaks can_opening washing_machine "
    "vacuum_cleaner clock_alarm clock_tick glass_breaking",
    "Exterior and urban": "helicopter chainsaw siren car_horn engine train church_bells airplane fireworks hand_saw",
}
OTHER_FAMILY = "Other classes"
_FAMILY_OF = {name: family for family, names in FAMILIES.items() for name in names.split()}
_RANK = {family: rank for rank, family in enumerate([*FAMILIES, OTHER_FAMILY])}


def family_of(class_name: str) -> str:
    """``OTHER_FAMILY`` for a class that ESC-50 does not have."""
    return _FAMILY_OF.get(class_name, OTHER_FAMILY)


def by_family(class_names: Sequence[str]) -> tuple[str, ...]:
    """The same names, family by family and otherwise as given; classes that ESC-50 does not have come last."""
    return tuple(sorted(class_names, key=lambda name: _RANK[family_of(name)]))
