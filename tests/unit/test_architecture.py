"""Imports run one way."""

import ast
from pathlib import Path

from core.config import ROOT

# A module may import from its own layer and from those before it.
LAYERS = [
    {"core.errors", "core.hardware", "core.parquet", "core.shares"},
    {"core.transfer"},
    {"core.config", "core", "core.families"},
    {"core.processes"},
    {"core.records"},
    {"core.containers"},
    {"core.audio", "core.soundfiles"},
    {
        "core.excerpts",
        "core.quality",
        "core.descriptors",
        "core.features",
        "core.synthetic",
        "core.outliers",
        "core.robustness",
        "core.dataset",
    },
    {"core.database", "core.model", "core.augment", "core.download", "core.synthetic_dataset"},
    {"core.inference"},
    {"core.artifact", "core.calibration", "core.unknown", "core.occlusion"},
    {"core.classifier", "core.store", "core.dropped"},
    {"core.explain", "core.gold", "core.recordset", "core.record_tables", "core.record_files"},
    {"core.drift_demo"},
    {"core.training", "core.training.runs", "core.training.curves"},
    {"core.jobs"},
    {"core.local_jobs"},
    {"core.training.overview", "core.served", "core.admin", "core.adaptation"},
    {"core.administration"},
    {"core.backend", "core.bench", "core.wire"},
    {
        "core.diagnostics",
        "core.diagnostics.calibration",
        "core.diagnostics.classification",
        "core.diagnostics.conformal",
        "core.diagnostics.intervals",
        "core.diagnostics.measures",
        "core.diagnostics.selective",
        "core.diagnostics.descriptors",
        "core.diagnostics.selection",
        "core.diagnostics.unknown",
        "core.diagnostics.drift_report",
        "core.diagnostics.comparability",
        "core.diagnostics.design_effect",
        "core.diagnostics.two_sample",
        "core.diagnostics.clips",
        "core.diagnostics.neighbours",
        "core.diagnostics.failures",
        "core.diagnostics.slices",
        "core.diagnostics.label_issues",
        "core.diagnostics.duplicates",
        "core.diagnostics.maps",
        "core.diagnostics.noise",
    },
    {"core.diagnostics.causes"},
    {"core.diagnostics.drift"},
    {"core.diagnostics.drift_tables"},
    {
        "core.figures",
        "core.figures.empty",
        "core.figures.percent",
        "core.figures.audio",
        "core.figures.performance",
        "core.figures.calibration",
        "core.figures.drift",
        "core.figures.inspector",
        "core.figures.picture",
        "core.figures.training",
        "core.figures.curves",
        "core.figures.failures",
    },
    {
        "core.report",
        "core.summary",
        "core.loadtest",
        "core.openset",
        "core.views",
        "core.evaluation",
        "core.training.data",
    },
    {"core.training.tuning"},
    {"core.remote", "core.remote.failures"},
    {"core.remote.cloud"},
    {"core.remote.backend", "core.remote.folders", "core.remote.mounted"},
    {"core.remote.trainer"},
    {"core.training.journal", "core.training.loop", "core.sources", "core.atlas"},
    {"core.training.members"},
    {"core.training.crossval", "core.training.shipping"},
    {"core.serving", "core.serving.messages"},
    {
        "core.serving.access",
        "core.serving.body",
        "core.serving.workers",
        "core.serving.openapi",
        "core.serving.answering",
    },
    {"core.serving.metrics"},
    {"core.serving.door"},
    {"core.serving.server", "core.api"},
    {"core.tableau", "core.tableau.schema"},
    {"core.tableau.gold_tables", "core.tableau.parts", "core.tableau.aggregates"},
    {"core.tableau.demonstrations"},
    {"core.tableau.tables"},
    {"core.tableau.files"},
    {"core.tableau.hyper", "core.tableau.media", "core.tableau.dashboards"},
    {"core.tableau.twb_fields", "core.tableau.lint", "core.tableau.sources", "core.tableau.publish"},
    {"core.tableau.twb_sheets", "core.tableau.twb_boards"},
    {"core.tableau.workbook"},
    {"core.tableau.export"},
    {"core.cli", "core.__main__"},
]
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides its layer"
            assert node.module
            found.add(node.module)
            found.update({f"{node.module}.{alias.name}" for alias in node.names} & set(RANK))  # from core import cli
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name for name in found if name.split(".")[0] in {"core", "app", "pages"}}


def test_every_module_of_core_has_its_place() -> None:
    assert {module_of(path) for path in (ROOT / "core").rglob("*.py")} == set(RANK)


def test_no_module_of_core_imports_from_a_later_layer_or_from_the_app() -> None:
    for path in (ROOT / "core").rglob("*.py"):
        for name in imported(path):
            assert name in RANK, f"{path}: {name}"
            assert RANK[name] <= RANK[module_of(path)], f"{module_of(path)} imports {name}"


def test_the_app_does_not_import_pages() -> None:
    for path in (ROOT / "app").rglob("*.py"):
        assert not any(name.startswith("pages") for name in imported(path)), path


def test_core_knows_neither_the_app_nor_remote_inference() -> None:
    for path in (ROOT / "core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"streamlit", "modal", "pickle"}, path


def test_the_app_keeps_nothing_between_sessions_outside_its_services() -> None:
    caches = {"cache_resource", "cache_data"}
    for path in [*(ROOT / "app").rglob("*.py"), *(ROOT / "pages").rglob("*.py")]:
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        found = {node.attr for node in nodes if isinstance(node, ast.Attribute)} & caches
        assert not found or path.parent.name == "services", path
