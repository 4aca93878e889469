"""The workbook: valid by Tableau's XSDs, whole by our own lint, the same to the byte, readable by Tableau's own API."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from tableaudocumentapi import Workbook

from core.artifact import read_manifest
from core.config import ROOT, SHIPPED_ARTIFACT
from core.record_tables import record_set
from core.store import Store
from core.tableau import gold_tables, hyper, lint, parts, schema, tables, workbook
from core.tableau.dashboards import BY_NAME, DASHBOARDS, PARAMETERS, SHEETS, Dashboard
from core.tableau.export import export
from core.tableau.tables import StarSchema
from tests.answers import answers
from tests.tableau_interpreter import opened
from tests.tableau_log import predictions

SHARED = ROOT.parent / "shared"
COLUMNS = {table.name: set(table.names) for table in schema.TABLES}


@pytest.fixture(scope="module")
def star(tmp_path_factory: pytest.TempPathFactory) -> StarSchema:
    return tables.build(
        [parts.of_folder()], tmp_path_factory.mktemp("star") / "facts.parquet", gold=gold_tables.recorded()
    )


@pytest.fixture(scope="module")
def packed(star: StarSchema, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    hyper.write_hyper(star, folder / hyper.NAME)
    workbook.write_twbx(star, folder / hyper.NAME, folder / workbook.NAME)
    return folder / workbook.NAME


@pytest.fixture(scope="module")
def validator() -> ModuleType:
    """Tableau's XSDs are not ours to ship: they lie beside the repository."""
    path = SHARED / "tools" / "twb_validate.py"
    if not path.exists():
        reason = f"needs Tableau's published XSDs and their validator in {SHARED}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    spec = importlib.util.spec_from_file_location("twb_validate", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("version", ["2026.1", "2026.2"])
def test_the_workbook_is_valid_by_tableaus_schema(packed: Path, validator: ModuleType, version: str) -> None:
    assert validator.errors(packed, SHARED / "schemas" / "tableau" / f"twb_{version}.0.xsd") == []


def values_of(star: StarSchema) -> dict[str, dict[str, set[str]]]:
    """Table → text column → its values."""
    return {
        name: {
            column.name: set(table[column.name].drop_null().to_pylist())
            for column in schema.BY_NAME[name].columns
            if column.kind == "text"
        }
        for name, table in star.small.items()
    }


def test_the_workbook_holds_together(star: StarSchema, packed: Path) -> None:
    assert lint.faults(packed, columns=COLUMNS, values=values_of(star)) == []


class Served:
    """Media at addresses."""

    def paths(self, clip_id: str) -> tuple[str | None, str | None]:
        return f"https://example.org/thumbnails/{clip_id}.png", f"https://example.org/audio/{clip_id}"


def test_menus_open_thumbnails_and_sounds_that_have_an_address(
    star: StarSchema, tmp_path: Path, validator: ModuleType
) -> None:
    assert b"Play the sound" not in workbook.workbook_xml(star)
    served = tables.build([parts.of_records(answers(20))], tmp_path / "facts.parquet", media=Served())
    hyper.write_hyper(served, tmp_path / hyper.NAME)
    workbook.write_twbx(served, tmp_path / hyper.NAME, tmp_path / workbook.NAME)
    assert b"Play the sound" in workbook.workbook_xml(served)
    assert lint.faults(tmp_path / workbook.NAME, columns=COLUMNS, values=values_of(served)) == []
    for version in ("2026.1", "2026.2"):
        xsd = SHARED / "schemas" / "tableau" / f"twb_{version}.0.xsd"
        assert validator.errors(tmp_path / workbook.NAME, xsd) == []


def test_tableaus_document_api_reads_it(packed: Path) -> None:
    book = Workbook(str(packed))
    assert book.dashboards == [dashboard.name for dashboard in DASHBOARDS]
    assert book.worksheets == [sheet.name for sheet in SHEETS]
    sources = {source.caption: source for source in book.datasources}
    for name in {sheet.table for sheet in SHEETS}:
        assert sources[name].connections[0].dbname == workbook.PACKAGED
        assert {f"[{column}]" for column in schema.BY_NAME[name].names} <= set(sources[name].fields)


def test_the_archive_holds_workbook_and_extract_without_a_time(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        assert archive.namelist() == [workbook.TWB, workbook.PACKAGED]
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.read(workbook.PACKAGED) == (packed.parent / hyper.NAME).read_bytes()


def test_the_same_tables_give_the_same_workbook(star: StarSchema, packed: Path, tmp_path: Path) -> None:
    assert workbook.workbook_xml(star) == workbook.workbook_xml(star)
    workbook.write_twbx(star, packed.parent / hyper.NAME, tmp_path / "again.twbx")
    assert (tmp_path / "again.twbx").read_bytes() == packed.read_bytes()


def test_the_six_dashboards_hold_every_sheet(star: StarSchema) -> None:
    assert [dashboard.name for dashboard in DASHBOARDS] == [
        "Performance",
        "Calibration",
        "Failure modes",
        "Drift",
        "Sample inspector",
        "Eleven sounds",
    ]
    shown = [zone.sheet for dashboard in DASHBOARDS for zone in dashboard.zones]
    assert sorted(shown) == sorted(sheet.name for sheet in SHEETS)
    for dashboard in DASHBOARDS:
        area = sum(zone.w * zone.h for zone in (*dashboard.zones, *dashboard.legends))
        assert area == 100 * 100, f"{dashboard.name} leaves a gap"


def test_a_parameter_picks_what_it_can_on_every_sheet() -> None:
    for sheet in SHEETS:
        for what in sheet.chosen:
            assert set(PARAMETERS[what].columns) & set(schema.BY_NAME[sheet.table].names)
    inspector = next(dashboard for dashboard in DASHBOARDS if dashboard.name == "Sample inspector")
    assert {BY_NAME[zone.sheet].chosen for zone in inspector.zones} == {("clip",)}


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_what_narrows_a_sheet_is_a_control_on_its_dashboard_and_acts_on_several(dashboard: Dashboard) -> None:
    picked = [what for zone in dashboard.zones for what in BY_NAME[zone.sheet].chosen]
    assert set(picked) == set(dashboard.parameters)
    for what in dashboard.parameters:
        if what != "feature":  # of which there is one distribution; the effects beside it are of all
            assert picked.count(what) >= 2, what


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_colours_have_a_legend_beside_their_sheet(dashboard: Dashboard) -> None:
    sheets = {zone.sheet: zone for zone in dashboard.zones}
    for legend in dashboard.legends:
        zone = sheets[legend.sheet]
        of_field = [one for name, one in sheets.items() if BY_NAME[name].color == BY_NAME[legend.sheet].color]
        beside = [one for one in of_field if one.x + one.w == legend.x and (one.y, one.h) == (legend.y, legend.h)]
        assert beside, f"the legend of {legend.sheet} stands alone"
        assert zone.y == legend.y
    fields = {(BY_NAME[legend.sheet].table, BY_NAME[legend.sheet].color) for legend in dashboard.legends}
    coloured = {(BY_NAME[name].table, BY_NAME[name].color) for name in sheets if BY_NAME[name].color}
    assert coloured == fields


def test_answers_of_other_classes_get_no_empty_dashboards(tmp_path: Path, validator: ModuleType) -> None:
    star = tables.build([parts.of_records(answers(60))], tmp_path / "facts.parquet", gold=gold_tables.recorded())
    hyper.write_hyper(star, tmp_path / hyper.NAME)
    workbook.write_twbx(star, tmp_path / hyper.NAME, tmp_path / workbook.NAME)
    shown = Workbook(str(tmp_path / workbook.NAME)).dashboards
    assert shown == ["Performance", "Calibration", "Failure modes"]  # drift has nothing to hold them against
    assert b"demonstration (" not in workbook.workbook_xml(star)
    assert lint.faults(tmp_path / workbook.NAME, columns=COLUMNS, values=values_of(star)) == []
    for version in ("2026.1", "2026.2"):
        xsd = SHARED / "schemas" / "tableau" / f"twb_{version}.0.xsd"
        assert validator.errors(tmp_path / workbook.NAME, xsd) == []


@pytest.mark.parametrize(
    ("logged", "shown"),
    [
        (0, ["Drift", "Sample inspector", "Eleven sounds"]),
        (60, ["Calibration", "Drift", "Sample inspector", "Eleven sounds"]),
    ],
)
def test_a_log_that_nobody_labelled_gets_no_dashboard_of_accuracy(
    tmp_path: Path, logged: int, shown: list[str]
) -> None:
    manifest = read_manifest(SHIPPED_ARTIFACT)
    store = Store.open(f"sqlite:///{tmp_path}/log.sqlite3")
    for name, answer, _ in predictions(logged, manifest):
        store.log_all([(name, answer)], manifest, origin="api")
    done = export([parts.of_log(store, manifest)], tmp_path / "out", formats=("twbx",), gold=gold_tables.recorded())
    store.close()
    assert Workbook(str(done.workbook)).dashboards == shown
    with opened(done.workbook, tmp_path) as book:
        for name in book.sheets:
            if name not in ("Risk and coverage", "Drift effects"):  # of no labels, and of no sounds
                assert len(book.marks(name)), f"{name} is empty"


def test_a_class_that_is_called_as_all_of_them_is_offered_once(tmp_path: Path) -> None:
    given = answers(40)
    names = ("(all)", "b", "c", "d")
    label = given.table["label"].map(dict(zip(given.class_names, names, strict=True)))
    records = record_set(given.table.assign(label=label), title="t", class_names=names, logits=given.logits)
    star = tables.build([parts.of_records(records)], tmp_path / "facts.parquet")
    offered = workbook.choices_in(star)
    assert offered["class"] == ["(all)", "b", "c", "d"]
    assert offered["answer"].count("(all)") == 1


def altered(packed: Path, to: Path, change: Callable[[str], str]) -> Path:
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(to, "w") as new:
        text = old.read(workbook.TWB).decode()
        different = change(text)
        assert different != text, "the fault was not seeded"
        new.writestr(workbook.TWB, different)
        new.writestr(workbook.PACKAGED, b"")
    return to


def sub(pattern: str, put: str) -> Callable[[str], str]:
    return lambda text: re.sub(pattern, put, text, count=1, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (sub(r"Data/earshot\.hyper", "Data/other.hyper"), "Data/other.hyper is not in the archive"),
        (sub(r"\[Extract\]\.\[confusion\]", "[Extract].[confusions]"), "no table confusions in the extract"),
        (sub(r"<remote-name>recall<", "<remote-name>recal<"), "differ in"),
        (
            sub(r"<rows>\[federated\.class_metrics\]\.\[none:label", "<rows>[federated.class_metrics].[none:labl"),
            "labl",
        ),
        (
            sub(r"(<color column=\"\[federated\.confusion\]\.\[)avg:", r"\1max:"),
            "max:share_of_true:qk] is not declared",
        ),
        (sub(r"column=\"\[recall\]\" derivation=\"Avg\"", 'column="[recall]" derivation="Sum"'), "is declared as"),
        (sub(r"formula=\"\[run_id\]", 'formula="[run]'), "no field [run]"),
        (sub(r"(\[run_id\] = )\[Parameters\]\.\[Run\]", r"\1[Parameters].[Rum]"), "no parameter [Rum]"),
        (sub(r"<zone name=\"Confusion\"", '<zone name="Confusing"'), "which is no sheet"),
        (sub(r"<zone name=\"Headline\" id=\"20\"", '<zone name="Headline" id="21"'), "zones have the id 21"),
        (sub(r"<window name=\"Headline\".*?</window>", ""), "Headline: 0 windows"),
        (sub(r"<viewpoint name=\"Headline\">", '<viewpoint name="Level">'), "a viewpoint of Level"),
        (sub(r"<slices>.*?</slices>", "<slices/>"), "its filters and its slices differ"),
        (sub(r"worksheet=\"Recall by class\"", 'worksheet="Level"'), "is not on Performance"),
        (sub(r"name=\"target\" value=\"Performance\"", 'name="target" value="Perform"'), "no dashboard Perform"),
        (sub(r"tsl:Performance\?", "tsl:Drift?"), "does not link to Performance"),
        (sub(r"(tsl:Performance\?%5Bfederated\.confusion%5D\.%5Bnone:)true_label", r"\1truth"), "truth"),
        (sub(r"mode=\"compact\" ", ""), "has no mode"),
        (
            sub(r"(<zone name=\"Reliability\"[^>]* pane-specification-id=\")1", r"\g<1>0"),
            "Reliability has no pane 0 for a legend",
        ),
        (sub(r"(<member value=\"&quot;)dog(&quot;\"/>\s*<member value=\"&quot;)\w+", r"\1dog\2dog"), "a value twice"),
        (sub(r"<zone name=\"Confusion\"[^>]* type-v2=\"color\"/>", ""), "what the colours of Confusion mean"),
        (
            sub(r"(<zone name=\")Confusion(\"[^>]* type-v2=\"color\"/>)", r"\1Level\2"),
            "a legend of Level, which is not shown there",
        ),
        (
            sub(r"(<zone name=\"Confusion\"[^>]*\[avg:)share_of_true(:qk\]\" type-v2)", r"\1answers\2"),
            "Confusion is not coloured by",
        ),
        (sub(r"param=\"\[Parameters\]\.\[Run\]\"", 'param="[Parameters].[Ran]"'), "[Ran]"),
        (sub(r"(<zone name=\"Headline\" id=\"20\" x=\"0\" y=\"\d+\" w=\")\d+", r"\g<1>90000"), "overlap"),
        (sub(r"(<zone name=\"Headline\" id=\"20\" x=\"0\" y=\"\d+\" w=\")\d+", r"\g<1>190000"), "lies outside"),
        (
            sub(r"(<remote-name>recall</remote-name>.*?<local-type>)real", r"\1string"),
            "[recall] is real, in the extract",
        ),
        (sub(r"column=\"\[value\]\" derivation=\"Avg\"", 'column="[metric]" derivation="Avg"'), "Avg of [metric]"),
        (sub(r"AVG\(\[recall_high\]\) - AVG\(\[recall_low\]\)", "[recall_high] - [recall_low]"), "does not aggregate"),
        (sub(r" default-format=\"[^\"]*\"", ""), "without a format"),
        (sub(r"<title>.*?</title>", "<title><formatted-text/></title>"), "Headline: no title"),
        (sub(r"value=\"&quot;\(all\)&quot;\"", 'value="&quot;(every)&quot;"'), "[True class] offers no"),
        (sub(r"(<member value=\"&quot;)dog", r"\1cat"), "offers ['cat'], which no row has"),
        (sub(r"member=\"&quot;effect&quot;\"", 'member="&quot;effects&quot;"'), "keeps &quot;effects&quot;"),
        (sub(r"member=\"true\"", 'member="&quot;yes&quot;"'), "which is boolean, keeps"),
        (sub(r"(name=\"target-parameter\" value=\"\[Parameters\]\.\[)Feature", r"\1Future"), "no parameter [Future]"),
    ],
)
def test_the_lint_finds_what_the_schema_does_not(
    star: StarSchema, packed: Path, tmp_path: Path, change: Callable[[str], str], says: str
) -> None:
    found = lint.faults(altered(packed, tmp_path / "bad.twbx", change), columns=COLUMNS, values=values_of(star))
    assert any(says in fault.replace('"', "&quot;") for fault in found), found


def test_the_lint_wants_one_workbook(packed: Path, tmp_path: Path) -> None:
    shutil.copy(packed, tmp_path / "two.twbx")
    with zipfile.ZipFile(tmp_path / "two.twbx", "a") as archive:
        archive.writestr("second.twb", "<workbook/>")
    assert "expected one .twb" in lint.faults(tmp_path / "two.twbx")[0]
