"""What Tableau would compute from a workbook: its shelves, filters, parameters and formulas as SQL over its extract.

No Tableau is at hand, and this is the nearest to looking: ``Book.marks`` reads a worksheet from the ``.twb`` itself,
groups by every dimension in it, aggregates as its pills say, keeps what its filters keep, and lets Tableau's own engine
answer. It knows the few forms and formulas that Earshot's workbooks use, and refuses others.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from lxml import etree
from tableauhyperapi import Connection, HyperProcess, Telemetry

FIELD = re.compile(r"\[([^\[\]]+)\]\.\[([^\[\]]+)\]")
AGGREGATES = {"Sum": "SUM", "Avg": "AVG", "Count": "COUNT"}
ENCODINGS = ("color", "size", "text", "lod", "path")
TOKENS = re.compile(
    r"\[Parameters\]\.\[(?P<parameter>[^\]]+)\]|\[(?P<field>\w+)\]|\"(?P<text>[^\"]*)\"|(?P<number>\d+(?:\.\d+)?)"
    r"|IIF\((?P<iif>[^()]*)\)|(?P<word>AVG|SUM|OR|=|\+|-|\*|/|\(|\))|(?P<space>\s+)"
)


@contextmanager
def opened(twbx: Path, folder: Path) -> Iterator[Book]:
    """The workbook at ``twbx`` over the extract packaged in it, unpacked to ``folder``."""
    with zipfile.ZipFile(twbx) as archive:
        (twb,) = (name for name in archive.namelist() if name.endswith(".twb"))
        (extract,) = (name for name in archive.namelist() if name.endswith(".hyper"))
        root = etree.fromstring(archive.read(twb))
        path = Path(archive.extract(extract, folder))
    with (
        HyperProcess(Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={"log_config": ""}) as process,
        Connection(process.endpoint, str(path)) as connection,
    ):
        yield Book(root, connection)


class Book:
    """A workbook and its data."""

    def __init__(self, root: Any, connection: Connection) -> None:
        self._connection = connection
        self.sheets = {sheet.get("name"): sheet for sheet in root.findall("worksheets/worksheet")}
        self._tables = {
            source.get("name"): next(source.iter("relation")).get("table")
            for source in root.findall("datasources/datasource[connection]")
        }
        self._formulas = {
            (source.get("name"), column.get("name").strip("[]")): column.find("calculation").get("formula")
            for source in root.findall("datasources/datasource[connection]")
            for column in source.findall("column[calculation]")
        }
        parameters = root.findall("datasources/datasource[@name='Parameters']/column")
        self.offered = {
            column.get("caption"): [member.get("value").strip('"') for member in column.iter("member")]
            for column in parameters
        }
        self.default = {column.get("caption"): column.get("value").strip('"') for column in parameters}

    def sql(self, query: str) -> list[list[Any]]:
        return self._connection.execute_list_query(query)

    def marks(
        self, name: str, *, pane: int = 0, clicked: Mapping[str, str] | None = None, **chosen: str
    ) -> pd.DataFrame:
        """One row a mark: every pill by its column, ``rows_behind`` it, in the order of the sheet's sort.

        ``chosen``: values of parameters, by their captions with _ for spaces. ``clicked``: what an action narrows to.
        """
        sheet = self.sheets[name]
        parameters = self.default | {caption.replace("_", " "): value for caption, value in chosen.items()}
        instances = {node.get("name"): node for node in sheet.iter("column-instance")}
        (source,) = {source for source, _ in self._pills(sheet, pane)}
        pills = list(dict.fromkeys(f"[{pill}]" for _, pill in self._pills(sheet, pane)))
        columns, dimensions = {}, []
        for pill in pills:
            node = instances[pill]
            expression = self._expression(source, node, parameters)
            columns[node.get("column").strip("[]")] = expression
            if node.get("derivation") == "None":
                dimensions.append(expression)
        table = ".".join(f'"{part}"' for part in re.findall(r"\[([^\]]+)\]", self._tables[source]))
        kept = [self._kept(source, node, instances, parameters) for node in sheet.findall("table/view/filter")]
        kept += [f"{self._column(source, column, parameters)} = {_quoted(v)}" for column, v in (clicked or {}).items()]
        where = " AND ".join(kept) or "TRUE"
        shown = ", ".join([*columns.values(), "COUNT(*)"])
        grouped = f"GROUP BY {', '.join(dimensions)}" if dimensions else ""
        found = self.sql(f"SELECT {shown} FROM {table} WHERE {where} {grouped}")
        marks = pd.DataFrame(found, columns=[*columns, "rows_behind"])
        for sort in sheet.findall("table/view/computed-sort"):
            by, using = (instances[f"[{FIELD.fullmatch(sort.get(end))[2]}]"] for end in ("column", "using"))  # type: ignore[index]
            key = self._expression(source, by, parameters)
            order = self.sql(
                f"SELECT {key} FROM {table} WHERE {where} GROUP BY {key} "
                f"ORDER BY {self._expression(source, using, parameters)} {sort.get('direction')}, {key}"
            )
            place = {value: position for position, (value,) in enumerate(order)}
            marks = marks.sort_values(by.get("column").strip("[]"), key=lambda values, p=place: values.map(p))
        return marks.reset_index(drop=True)

    def _pills(self, sheet: Any, pane: int) -> list[tuple[str, str]]:
        shelves = [sheet.findtext("table/rows") or "", sheet.findtext("table/cols") or ""]
        encodings = sheet.findall("table/panes/pane")[pane].find("encodings")
        unknown = {node.tag for node in encodings} - set(ENCODINGS)
        assert not unknown, f"no encoding {unknown}"
        return FIELD.findall(" ".join([*shelves, *(node.get("column") for node in encodings)]))

    def _expression(self, source: str, node: Any, parameters: Mapping[str, str]) -> str:
        column = self._column(source, node.get("column").strip("[]"), parameters)
        derivation = node.get("derivation")
        return column if derivation in ("None", "User") else f"{AGGREGATES[derivation]}({column})"

    def _column(self, source: str, name: str, parameters: Mapping[str, str]) -> str:
        formula = self._formulas.get((source, name))
        return f'"{name}"' if formula is None else f"({self._translated(source, formula, parameters)})"

    def _translated(self, source: str, formula: str, parameters: Mapping[str, str]) -> str:
        """A formula of Tableau's as SQL. ``IIF`` is missing where its test is, as in Tableau."""
        said: list[str] = []
        place = 0
        while place < len(formula):
            found = TOKENS.match(formula, place)
            assert found, f"no form of formula known here: {formula[place:]!r} of {formula!r}"
            place, kind = found.end(), str(found.lastgroup)
            text = found[kind]
            if kind == "parameter":
                said.append(_quoted(parameters[text]))
            elif kind == "field":
                said.append(self._column(source, text, parameters))
            elif kind == "text":
                said.append(_quoted(text))
            elif kind == "number":
                said.append(f"CAST({text} AS DOUBLE PRECISION)")
            elif kind == "iif":
                test, yes, no = (self._translated(source, part, parameters) for part in text.split(","))
                said.append(f"CASE WHEN {test} THEN {yes} WHEN NOT {test} THEN {no} END")
            elif kind == "word":
                said.append(text)
        return " ".join(said)

    def _kept(self, source: str, node: Any, instances: Mapping[str, Any], parameters: Mapping[str, str]) -> str:
        field = FIELD.fullmatch(node.get("column"))
        assert field
        column = self._column(source, instances[f"[{field[2]}]"].get("column").strip("[]"), parameters)
        if node.get("class") == "quantitative":
            return f"{column} BETWEEN {node.findtext('min')} AND {node.findtext('max')}"
        group = node.find("groupfilter")
        assert group.get("function") in ("member", "union"), group.get("function")
        members = [group.get("member")] if group.get("member") else [one.get("member") for one in group]
        return f"{column} IN ({', '.join(m if m in ('true', 'false') else _quoted(m.strip(chr(34))) for m in members)})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
