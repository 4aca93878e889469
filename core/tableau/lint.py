"""What Tableau's XSD does not see in a packaged workbook: whether everything it names is there, and fits.

Fields on shelves, in filters, sorts, labels, actions and formulas; sheets in zones, windows and actions; parameters;
the packaged extract, its tables and their columns. Types: of fields and of what the extract holds, of what is summed or
averaged, of parameters and the fields that they are compared with. Values: members of filters and parameters are in the
data. Numbers have formats, sheets titles, colours legends. ``faults`` of a workbook that holds together are none.
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from lxml import etree

Element = Any  # lxml has no types
FIELD = re.compile(r"\[([^\[\]]+)\]\.\[([^\[\]]+)\]")
INSTANCE = re.compile(r"(none|sum|avg|cnt|usr):(\w+):(nk|ok|qk)")
DERIVATION = {"none": "None", "sum": "Sum", "avg": "Avg", "cnt": "Count", "usr": "User"}
TYPE = {"nk": "nominal", "ok": "ordinal", "qk": "quantitative"}
WHOLE = 100_000
PARAMETERS = "Parameters"
AGGREGATE = re.compile(r"\b(?:AVG|SUM|COUNT|COUNTD|MIN|MAX)\(")


Values = Mapping[str, Mapping[str, set[str]]]


def faults(path: Path, *, columns: Mapping[str, set[str]] | None = None, values: Values | None = None) -> list[str]:
    """What is wrong with the ``.twbx`` at ``path``, one sentence each.

    ``columns``: table → its columns in the packaged extract, to hold the data sources against. ``values``: table →
    column → the texts in it, to hold members of filters and parameters against.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        books = [name for name in names if name.endswith(".twb")]
        if len(books) != 1:
            return [f"expected one .twb in the archive, found {books}"]
        root = etree.fromstring(archive.read(books[0]))
    return [*_packaged(root, set(names), columns), *_Book(root, values or {}).faults()]


def _packaged(root: Element, names: set[str], columns: Mapping[str, set[str]] | None) -> Iterator[str]:
    for source in root.findall("datasources/datasource[connection]"):
        where = source.get("name")
        for connection in source.iter("connection"):
            if connection.get("class") == "hyper" and connection.get("dbname") not in names:
                yield f"{where}: {connection.get('dbname')} is not in the archive"
        named = {node.get("name") for node in source.iter("named-connection")}
        recorded = {node.findtext("remote-name") for node in source.iter("metadata-record")}
        types = {node.findtext("local-name"): node.findtext("local-type") for node in source.iter("metadata-record")}
        for column in source.findall("column"):
            if column.find("calculation") is None and column.get("datatype") != types.get(column.get("name")):
                said = types.get(column.get("name"))
                yield f"{where}: {column.get('name')} is {column.get('datatype')}, in the extract {said}"
        for relation in source.iter("relation"):
            if relation.get("connection") not in named:
                yield f"{where}: no connection {relation.get('connection')}"
            if columns is None:
                continue
            table = relation.get("table", "").split("].[")[-1].rstrip("]")
            if table not in columns:
                yield f"{where}: no table {table} in the extract"
            elif recorded != columns[table]:
                yield f"{where}: its fields and the table {table} differ in {sorted(recorded ^ columns[table])}"


class _Book:
    """The names a workbook declares, and the faults of what refers to them."""

    def __init__(self, root: Element, values: Values) -> None:
        self.root, self.values = root, values
        self.fields = {
            (source.get("name"), column.get("name").strip("[]")): column
            for source in root.findall("datasources/datasource")
            for column in source.findall("column")
        }
        self.tables = {
            source.get("name"): relation.get("table", "").split("].[")[-1].rstrip("]")
            for source in root.findall("datasources/datasource")
            for relation in source.iter("relation")
        }
        self.sources = {
            source.get("name"): {column.get("name").strip("[]") for column in source.findall("column")}
            for source in root.findall("datasources/datasource")
        }
        self.sheets = {sheet.get("name"): sheet for sheet in root.findall("worksheets/worksheet")}
        self.dashboards = {board.get("name"): board for board in root.findall("dashboards/dashboard")}

    def faults(self) -> Iterator[str]:
        for place, scope in self._scopes():
            yield from self._fields(place, scope)
        yield from self._formulas()
        yield from self._formats()
        yield from self._parameters()
        for name, sheet in self.sheets.items():
            yield from self._slices(name, sheet)
            yield from self._members(name, sheet)
            if not name or name not in "".join(sheet.xpath("layout-options/title//run/text()")):
                yield f"{name}: no title that says so"
        for name, board in self.dashboards.items():
            yield from self._zones(name, board)
        yield from self._windows()
        yield from self._actions()

    def _scopes(self) -> Iterator[tuple[str, Element]]:
        yield from self.sheets.items()
        yield from self.dashboards.items()
        actions = self.root.find("actions")
        if actions is not None:
            yield "actions", actions

    def _fields(self, place: str, scope: Element) -> Iterator[str]:
        declared: dict[str, dict[str, Element]] = {}
        for dependency in scope.iter("datasource-dependencies"):
            source = dependency.get("datasource")
            if source not in self.sources:
                yield f"{place}: no data source {source}"
                continue
            own = declared.setdefault(source, {})
            for node in dependency:
                name = node.get("name").strip("[]")
                own[name] = node
                base = name if node.tag == "column" else node.get("column").strip("[]")
                if base not in self.sources[source]:
                    yield f"{place}: no field [{base}] in {source}"
                if node.tag == "column-instance":
                    yield from _instance(place, name, node)
                    yield from self._aggregated(place, source, node)
        listed = {node.get("name") for node in scope.iter("datasource")}
        yield from (f"{place}: {name} is used but not listed" for name in declared.keys() - listed)
        for source, name in _mentions(scope):
            if name not in declared.get(source, {}):
                yield f"{place}: [{source}].[{name}] is not declared"

    def _aggregated(self, place: str, source: str, node: Element) -> Iterator[str]:
        """Sums and means are of numbers, axes too; a formula that aggregates is not aggregated again."""
        column, how = self.fields.get((source, node.get("column").strip("[]"))), node.get("derivation")
        if column is None:
            return
        number = column.get("datatype") in ("integer", "real")
        formula = column.find("calculation")
        aggregates = formula is not None and AGGREGATE.search(formula.get("formula", "")) is not None
        measured = how in ("Sum", "Avg") or (how == "None" and node.get("type") == "quantitative")
        if measured and not number:
            yield f"{place}: {how} of {node.get('column')}, which is {column.get('datatype')}"
        if (how == "User") != aggregates:
            does = "aggregates" if aggregates else "does not aggregate"
            yield f"{place}: {node.get('column')} as {how}, which {does}"

    def _formats(self) -> Iterator[str]:
        for (source, name), column in self.fields.items():
            if column.get("datatype") in ("integer", "real") and not column.get("default-format"):
                yield f"{source}: [{name}] is a number without a format"

    def _parameters(self) -> Iterator[str]:
        """Each has its value among its members, and each member is in a column that it picks rows by."""
        compared: dict[str, set[tuple[str, str]]] = {}
        literals: set[str] = set()
        for (source, _), column in self.fields.items():
            formula = column.find("calculation").get("formula", "") if column.find("calculation") is not None else ""
            for name, parameter in re.findall(r"(?<!\.)\[(\w+)\] = \[Parameters\]\.\[([^\]]+)\]", formula):
                compared.setdefault(parameter, set()).add((source, name))
                literals |= set(re.findall(r"\"([^\"]*)\"", formula))
        for (source, name), column in self.fields.items():
            if source != PARAMETERS:
                continue
            offered = [member.get("value") for member in column.iter("member")]
            if len(set(offered)) < len(offered):
                yield f"the parameter [{name}] offers a value twice"
            if column.get("value") not in offered:
                yield f"the parameter [{name}] offers no {column.get('value')}"
            found: set[str] = set()
            for of, field in compared.get(name, set()):
                other = self.fields.get((of, field))
                if other is not None and other.get("datatype") != column.get("datatype"):
                    yield f"{of}: [{field}] is {other.get('datatype')}, the parameter [{name}] {column.get('datatype')}"
                found |= self.values.get(self.tables.get(of, ""), {}).get(field, set())
            plain = {value.strip('"') for value in offered} - literals - {""}
            if self.values and plain - found:
                yield f"the parameter [{name}] offers {sorted(plain - found)}, which no row has"

    def _members(self, place: str, sheet: Element) -> Iterator[str]:
        for node in sheet.iter("filter"):
            found = FIELD.fullmatch(node.get("column", ""))
            instance = next(
                (i for i in sheet.iter("column-instance") if found and i.get("name") == f"[{found[2]}]"), None
            )
            if found is None or instance is None:
                continue
            name = instance.get("column").strip("[]")
            column = self.fields.get((found[1], name))
            kind = column.get("datatype") if column is not None else None
            for group in node.iter("groupfilter"):
                member = group.get("member")
                if group.get("level") not in (None, f"[{found[2]}]"):
                    yield f"{place}: a filter of {node.get('column')} is by {group.get('level')}"
                if member is None:
                    continue
                if (kind == "boolean") != (member in ("true", "false")):
                    yield f"{place}: a filter of [{name}], which is {kind}, keeps {member}"
                known = self.values.get(self.tables.get(found[1], ""), {}).get(name)
                if known and kind == "string" and member.strip('"') not in known:
                    yield f"{place}: a filter keeps {member} of [{name}], which no row has"

    def _formulas(self) -> Iterator[str]:
        for source in self.root.findall("datasources/datasource"):
            own = self.sources[source.get("name")]
            for formula in (node.get("formula", "") for node in source.iter("calculation")):
                bare = re.sub(r"\"[^\"]*\"", "", formula)
                for parameter in re.findall(r"\[Parameters\]\.\[([^\]]+)\]", bare):
                    if parameter not in self.sources.get(PARAMETERS, set()):
                        yield f"{source.get('name')}: no parameter [{parameter}] for {formula}"
                for name in re.findall(r"\[([^\]]+)\]", FIELD.sub("", bare)):
                    if name not in own:
                        yield f"{source.get('name')}: no field [{name}] for {formula}"

    def _slices(self, place: str, sheet: Element) -> Iterator[str]:
        filtered = [node.get("column") for node in sheet.iter("filter")]
        sliced = [node.text for node in sheet.findall("table/view/slices/column")]
        if sorted(filtered) != sorted(sliced):
            yield f"{place}: its filters and its slices differ in {sorted(set(filtered) ^ set(sliced))}"

    def _zones(self, place: str, board: Element) -> Iterator[str]:
        zones = list(board.iter("zone"))
        for number, times in Counter(zone.get("id") for zone in zones).items():
            if times > 1:
                yield f"{place}: {times} zones have the id {number}"
        shown = {zone.get("name") for zone in zones if zone.get("name") and not zone.get("type-v2")}
        for zone in zones:
            name, kind, parameter = zone.get("name"), zone.get("type-v2"), zone.get("param", "")
            x, y, w, h = (int(zone.get(side)) for side in "xywh")
            if min(x, y) < 0 or min(w, h) <= 0 or max(x + w, y + h) > WHOLE:
                yield f"{place}: the zone {zone.get('id')} lies outside"
            if name and name not in self.sheets:
                yield f"{place}: a zone shows {name}, which is no sheet"
            elif kind == "color":
                if name not in shown:
                    yield f"{place}: a legend of {name}, which is not shown there"
                elif parameter not in _colours(self.sheets[name]):
                    yield f"{place}: {name} is not coloured by {parameter}"
                elif zone.get("pane-specification-id") not in _panes(self.sheets[name]):
                    yield f"{place}: {name} has no pane {zone.get('pane-specification-id')} for a legend"
            if kind == "paramctrl" and (found := FIELD.fullmatch(parameter)):
                if found[2] not in self.sources.get(PARAMETERS, set()):
                    yield f"{place}: no parameter {parameter}"
                if not zone.get("mode"):
                    yield f"{place}: the control of {parameter} has no mode"
            elif kind == "paramctrl":
                yield f"{place}: a control of no parameter"
        told = {zone.get("param") for zone in zones if zone.get("type-v2") == "color"}
        for name in sorted(shown & self.sheets.keys()):
            if _colours(self.sheets[name]) - told:
                yield f"{place}: no legend says what the colours of {name} mean"
        yield from _overlaps(place, [zone for zone in zones if zone.get("type-v2") != "layout-basic"])

    def _windows(self) -> Iterator[str]:
        windows = Counter((node.get("class"), node.get("name")) for node in self.root.findall("windows/window"))
        wanted = [("worksheet", name) for name in self.sheets] + [("dashboard", name) for name in self.dashboards]
        for window in wanted:
            if windows[window] != 1:
                yield f"{window[0]} {window[1]}: {windows[window]} windows"
        yield from (f"a window of {name}, which is not there" for name in windows.keys() - set(wanted))
        for window in self.root.findall("windows/window[@class='dashboard']"):
            board = self.dashboards.get(window.get("name"))
            shown = {zone.get("name") for zone in board.iter("zone")} if board is not None else set()
            for view in window.iter("viewpoint"):
                if view.get("name") not in shown:
                    yield f"{window.get('name')}: a viewpoint of {view.get('name')}, which is not shown there"

    def _actions(self) -> Iterator[str]:
        for action in self.root.findall("actions/*[source]"):
            name, source = action.get("caption"), action.find("source")
            if source.get("worksheet") not in self._on(source.get("dashboard")):
                yield f"{name}: {source.get('worksheet')} is not on {source.get('dashboard')}"
            given = {param.get("name"): param.get("value") for param in action.iter("param")}
            yield from self._sets(name, given)
            if "target" in given:
                left_out, on = set(given.get("exclude", "").split(",")) - {""}, self._on(given["target"])
                if given["target"] not in self.dashboards:
                    yield f"{name}: no dashboard {given['target']}"
                elif not on - left_out or not left_out <= on:
                    yield f"{name}: leaves out {sorted(left_out)} of {sorted(on)}"
                link = action.find("link")
                if link is None or not link.get("expression").startswith(f"tsl:{_quoted(given['target'])}?"):
                    yield f"{name}: does not link to {given['target']}"

    def _sets(self, action: str, given: Mapping[str, str]) -> Iterator[str]:
        """A parameter that a click sets takes a field of its type."""
        ends = [FIELD.fullmatch(given.get(end, "")) for end in ("source-field", "target-parameter")]
        if ends[0] is None or ends[1] is None:
            return
        base = ends[0][2].split(":")[1] if ":" in ends[0][2] else ends[0][2]
        field, parameter = self.fields.get((ends[0][1], base)), self.fields.get((PARAMETERS, ends[1][2]))
        if parameter is None:
            yield f"{action}: no parameter [{ends[1][2]}]"
        elif field is None or field.get("datatype") != parameter.get("datatype"):
            yield f"{action}: [{base}] does not fit the parameter [{ends[1][2]}]"

    def _on(self, dashboard: str) -> set[str]:
        board = self.dashboards.get(dashboard)
        zones = [] if board is None else board.iter("zone")
        return {zone.get("name") for zone in zones if zone.get("name") and not zone.get("type-v2")}


def _colours(sheet: Element) -> set[str]:
    """The fields by which a sheet's marks are coloured."""
    return {node.get("column") for node in sheet.iterfind(".//encodings/color")}


def _panes(sheet: Element) -> set[str]:
    """How legends call a sheet's panes: by number where there are several, the only one 0."""
    numbered = {node.get("id") for node in sheet.iter("pane") if node.get("id")}
    return numbered or {"0"}


def _quoted(name: str) -> str:
    return name.replace(" ", "%20")


def _instance(place: str, name: str, node: Element) -> Iterator[str]:
    found = INSTANCE.fullmatch(name)
    said = (node.get("derivation"), node.get("column").strip("[]"), node.get("type"))
    if not found or said != (DERIVATION[found[1]], found[2], TYPE[found[3]]):
        yield f"{place}: [{name}] is declared as {said}"


def _mentions(scope: Element) -> Iterator[tuple[str, str]]:
    """Every ``[source].[name]`` outside of declarations and formulas, in attributes and in text.

    What a legend is of is declared by its sheet, not by the dashboard that it stands on.
    """
    for node in scope.iter():
        if node.tag in ("calculation", "datasource-dependencies", "column-instance", "member"):
            continue
        if node.tag == "zone" and node.get("type-v2") == "color":
            continue
        texts = [value for key, value in node.attrib.items() if key != "name"]
        if node.tag != "run" or (node.text or "").startswith("<"):
            texts.append(node.text or "")
        for text in texts:
            yield from FIELD.findall(unquote(text))


def _overlaps(place: str, zones: list[Element]) -> Iterator[str]:
    boxes = [(zone.get("id"), *(int(zone.get(side)) for side in "xywh")) for zone in zones]
    for i, (a, ax, ay, aw, ah) in enumerate(boxes):
        for b, bx, by, bw, bh in boxes[i + 1 :]:
            if min(ax + aw, bx + bw) > max(ax, bx) and min(ay + ah, by + bh) > max(ay, by):
                yield f"{place}: the zones {a} and {b} overlap"
