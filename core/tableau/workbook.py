"""A finished ``.twbx``: dashboards over the packaged ``.hyper``, written as Tableau's published XSDs ask.

The XML is that of Tableau 2026.1 (https://github.com/tableau/tableau-document-schemas). Identifiers are made from
names, so that the same tables give the same workbook to the byte. What the XSD does not see (fields, zones, windows,
the packaged path) ``core.tableau.lint`` does.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from lxml import etree

from core.tableau import demonstrations, schema
from core.tableau.dashboards import DASHBOARDS, PARAMETERS, Dashboard
from core.tableau.files import entry, pack, whole
from core.tableau.tables import StarSchema
from core.tableau.twb_boards import actions, dashboard_element, sheets_of, windows
from core.tableau.twb_fields import PACKAGED, VERSION, Choices, E, datasource, parameters
from core.tableau.twb_sheets import worksheet

NAME = "earshot.twbx"
TWB = "earshot.twb"
FEATURE = "spectral_centroid_hz"  # whose distribution is shown first
UNQUOTABLE = set('"\\')  # they end a text in Tableau's formulas: such a class stands under all, not by itself


def write_twbx(star: StarSchema, extract: Path, path: Path) -> None:
    """Pack the workbook with the ``.hyper`` at ``extract``, which is of the same ``star``."""
    with whole(path) as beside, zipfile.ZipFile(beside, "w") as archive:
        with archive.open(entry(TWB), "w") as file:
            file.write(workbook_xml(star))
        pack(archive, PACKAGED, extract)


def choices_in(star: StarSchema) -> Choices:
    """What each parameter offers, its first value the one that is shown."""
    about, drift = star.small["about"].to_pandas(), star.small["drift_distribution"].to_pandas()
    compared = [*star.small["drift"]["run_id"].unique().to_pylist(), *drift["run_id"]]
    features = sorted(set(drift["feature"]), key=lambda name: (name != FEATURE, name))
    everything = {PARAMETERS["class"].everything, PARAMETERS["answer"].everything}
    classes = [name for name in star.small["classes"]["label"].to_pylist() if name not in everything]
    wrong = set(star.small["confused_pairs"]["predicted_label"].to_pylist())
    offered: Choices = {
        "run": about.loc[about["kind"] != demonstrations.KIND, "run_id"].tolist(),
        "class": [PARAMETERS["class"].everything, *classes],
        "answer": [PARAMETERS["answer"].everything, *(name for name in classes if name in wrong)],
        "set": list(dict.fromkeys(compared)),
        "feature": features,
        "clip": star.small["clip_features"]["clip_id"].to_pylist(),
    }
    return {what: [value for value in values if not UNQUOTABLE & set(value)] for what, values in offered.items()}


def boards_in(star: StarSchema) -> tuple[Dashboard, ...]:
    """The dashboards that have something to show, one at least: without labels there is no accuracy, for example."""
    return tuple(dashboard for dashboard in DASHBOARDS if star.rows(dashboard.needs)) or DASHBOARDS[:1]


def _linked(star: StarSchema) -> bool:
    """Whether thumbnails and sounds have addresses that a browser can open; a path beside the export is none."""
    paths = [star.small[table]["thumbnail_path"].drop_null() for table in ("errors", "clip_features")]
    return any(str(path[0]).startswith("http") for path in paths if len(path))


def workbook_xml(star: StarSchema) -> bytes:
    """The ``.twb``. Of ``star`` it holds only what there is to choose from."""
    choices, dashboards = choices_in(star), boards_in(star)
    sheets = sheets_of(dashboards)
    used = tuple(dict.fromkeys(sheet.table for sheet in sheets))
    root = E.workbook(
        E("document-format-change-manifest", E.ManifestByVersion()),
        E.preferences(E.preference(name="ui.encoding.shelf.height", value="24")),
        E.datasources(parameters(choices), *(datasource(schema.BY_NAME[name]) for name in used)),
        actions(dashboards, choices, linked=_linked(star)),
        E.worksheets(*(worksheet(sheet, choices) for sheet in sheets)),
        E.dashboards(*(dashboard_element(dashboard, choices) for dashboard in dashboards)),
        E.windows(*windows(dashboards), **{"source-height": "30"}),
        E(
            "explain-data",
            E("explanation-types"),
            **{"enabled-for-viewer": "true", "extreme-values-enabled-for-all": "false"},
        ),
        version=VERSION,
        **{
            "original-version": VERSION,
            "source-build": "0.0.0 (0000.0.0.0)",
            "source-platform": "win",
        },
    )
    return bytes(etree.tostring(root, xml_declaration=True, encoding="utf-8", pretty_print=True))
