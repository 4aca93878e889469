"""Fields of the workbook: columns and calculations, how they are used, data sources over the packaged extract."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Any

from lxml.builder import ElementMaker

from core.tableau import hyper, schema
from core.tableau.dashboards import CALCULATIONS, PARAMETERS, SHEETS, Calculation, Pill, What

PACKAGED = f"Data/{hyper.NAME}"  # of the .hyper, inside the .twbx
VERSION = "26.1"
USER = "http://www.tableausoftware.com/xml/user"
E = ElementMaker(nsmap={"user": USER})
Element = Any  # of lxml, which has no types
Choices = dict[What, list[str]]  # parameter → the values it offers

# Kind → Tableau's data type, its code in metadata, its default aggregation there.
TYPES = {
    "text": ("string", "129", "Count"),
    "integer": ("integer", "20", "Sum"),
    "real": ("real", "5", "Sum"),
    "boolean": ("boolean", "11", "Count"),
    "time": ("datetime", "135", "Year"),
}
DERIVATIONS = {"none": "None", "sum": "Sum", "avg": "Avg", "cnt": "Count", "usr": "User"}


def source_of(table: str) -> str:
    return f"federated.{table}"


def instance(table: str, pill: Pill) -> str:
    """``[avg:recall:qk]``: a column as it is used."""
    return f"[{pill.how}:{pill.column}:{_suffix(table, pill)}]"


def field(table: str, pill: Pill) -> str:
    """``[federated.class_metrics].[avg:recall:qk]``."""
    return f"[{source_of(table)}].{instance(table, pill)}"


def _suffix(table: str, pill: Pill) -> str:
    if pill.how != "none" or pill.continuous:
        return "qk"
    return "nk" if kind_of(table, pill.column) in ("text", "boolean") else "ok"


def kind_of(table: str, column: str) -> str:
    calculation = _calculation(table, column)
    return calculation.datatype if calculation else schema.BY_NAME[table].column(column).kind


def _calculation(table: str, name: str) -> Calculation | None:
    return next((c for c in _calculations(table) if c.name == name), None)


def _calculations(table: str) -> tuple[Calculation, ...]:
    """Those of the table, and one for each parameter that picks its rows."""
    picks = [what for what in PARAMETERS if any(what in s.chosen for s in SHEETS if s.table == table)]
    picked = (Calculation(f"chosen_{what}", f"Chosen {what}", _picked(table, what), "boolean") for what in picks)
    return (*CALCULATIONS.get(table, ()), *picked)


def _picked(table: str, what: What) -> str:
    """The formula that holds for the rows of ``table`` that the parameter picks."""
    given = PARAMETERS[what]
    same = f"[{column_of(table, what)}] = [Parameters].[{given.caption}]"
    everything = f"[Parameters].[{given.caption}] = {literal(given.everything)} OR " if given.everything else ""
    return everything + same


def column_of(table: str, what: What) -> str:
    """The column by which a parameter picks rows of ``table``."""
    return next(name for name in PARAMETERS[what].columns if name in schema.BY_NAME[table].names)


def guid(*parts: str) -> str:
    return f"{{{str(uuid.uuid5(uuid.NAMESPACE_URL, '/'.join(('earshot', *parts)))).upper()}}}"


def simple_id(*parts: str) -> Element:
    return E("simple-id", uuid=guid(*parts))


def caption(column: schema.Column) -> str:
    """The name for people, with its unit."""
    unit = re.sub(r"\W", "", column.unit).lower()
    plain = column.name.removesuffix(f"_{unit}") if unit else column.name
    words = plain.replace("_", " ")
    return words[:1].upper() + words[1:] + (f" ({column.unit})" if column.unit else "")


def _format(kind: str, unit: str) -> dict[str, str]:
    if kind == "integer":
        return {"default-format": "n#,##0;-#,##0"}
    if kind == "real":
        digits = "0.000" if unit == "see unit" else "0.00"  # shares among them, which are read to a tenth of a per cent
        return {"default-format": "p0.0%" if unit == "0–1" else f"n#,##{digits};-#,##{digits}"}
    return {}


def _is_measure(column: schema.Column) -> bool:
    return column.kind == "real" or (column.kind == "integer" and column.unit not in ("", "epochs"))


def _column(column: schema.Column) -> Element:
    measure = _is_measure(column)
    ordinal = column.kind in ("integer", "time")
    return E.column(
        E.desc(E("formatted-text", E.run(column.meaning))),
        caption=caption(column),
        datatype=TYPES[column.kind][0],
        name=f"[{column.name}]",
        role="measure" if measure else "dimension",
        type="quantitative" if measure else "ordinal" if ordinal else "nominal",
        **_format(column.kind, column.unit),
    )


def _calculated(calculation: Calculation) -> Element:
    measure = calculation.datatype == "real"
    return E.column(
        E.calculation(**{"class": "tableau", "formula": calculation.formula}),
        caption=calculation.caption,
        datatype=calculation.datatype,
        name=f"[{calculation.name}]",
        role="measure" if measure else "dimension",
        type="quantitative" if measure else "nominal",
        **(_format("real", calculation.unit) if measure else {}),
    )


def parameters(choices: Choices) -> Element:
    return E.datasource(
        E.aliases(enabled="yes"),
        *(parameter(what, choices) for what in PARAMETERS),
        name="Parameters",
        hasconnection="false",
        inline="true",
        version=VERSION,
    )


def parameter(what: What, choices: Choices) -> Element:
    given = choices[what] or [""]
    name = PARAMETERS[what].caption
    return E.column(
        E.calculation(**{"class": "tableau", "formula": literal(given[0])}),
        E.members(*(E.member(value=literal(value)) for value in given)),
        caption=name,
        datatype="string",
        name=f"[{name}]",
        role="measure",
        type="nominal",
        value=literal(given[0]),
        **{"param-domain-type": "list"},
    )


def literal(value: str) -> str:
    return f'"{value}"'


def datasource(table: schema.Table) -> Element:
    connection = f"hyper.{table.name}"
    relation = E.relation(
        connection=connection, name=table.name, table=f"[{hyper.SCHEMA}].[{table.name}]", type="table"
    )
    return E.datasource(
        E.connection(
            E(
                "named-connections",
                E(
                    "named-connection",
                    E.connection(
                        authentication="auth-none",
                        dbname=PACKAGED,
                        schema=hyper.SCHEMA,
                        sslmode="",
                        username="tableau_internal_user",
                        **{"class": "hyper", "default-settings": "yes"},
                    ),
                    caption="earshot",
                    name=connection,
                ),
            ),
            relation,
            E("metadata-records", *(_metadata(table, i, column) for i, column in enumerate(table.columns))),
            **{"class": "federated"},
        ),
        E.aliases(enabled="yes"),
        *(_column(column) for column in table.columns),
        *(_calculated(calculation) for calculation in _calculations(table.name)),
        E.layout(**{"dim-ordering": "ordinal", "measure-ordering": "ordinal", "show-structure": "true"}),
        _parameter_dependencies(),
        caption=table.name,
        inline="true",
        name=source_of(table.name),
        version=VERSION,
    )


def _parameter_dependencies() -> Element:
    return E(
        "datasource-dependencies",
        *(
            E.column(
                caption=given.caption,
                datatype="string",
                name=f"[{given.caption}]",
                role="measure",
                type="nominal",
                **{"param-domain-type": "list"},
            )
            for given in PARAMETERS.values()
        ),
        datasource="Parameters",
    )


def _metadata(table: schema.Table, ordinal: int, column: schema.Column) -> Element:
    datatype, code, aggregation = TYPES[column.kind]
    return E(
        "metadata-record",
        E("remote-name", column.name),
        E("remote-type", code),
        E("local-name", f"[{column.name}]"),
        E("parent-name", f"[{table.name}]"),
        E("remote-alias", column.name),
        E.ordinal(str(ordinal)),
        E("local-type", datatype),
        E.aggregation(aggregation),
        E("contains-null", "true"),
        **{"class": "column"},
    )


def dependencies(table: str, used: Sequence[Pill]) -> Element:
    """What a sheet or dashboard needs of a data source: its columns, then their instances."""
    names = sorted({pill.column for pill in used} | _mentioned(table, used))
    columns = [
        _calculated(calculation) if (calculation := _calculation(table, name)) else _column_of(table, name)
        for name in names
    ]
    instances = [
        E(
            "column-instance",
            column=f"[{pill.column}]",
            derivation=DERIVATIONS[pill.how],
            name=instance(table, pill),
            pivot="key",
            type={"nk": "nominal", "ok": "ordinal", "qk": "quantitative"}[_suffix(table, pill)],
        )
        for pill in sorted(used, key=lambda pill: instance(table, pill))
    ]
    return E("datasource-dependencies", *columns, *instances, datasource=source_of(table))


def _column_of(table: str, name: str) -> Element:
    return _column(schema.BY_NAME[table].column(name))


def _mentioned(table: str, used: Sequence[Pill]) -> set[str]:
    """Columns in the formulas of the calculations among ``used``."""
    formulas = [c.formula for pill in used if (c := _calculation(table, pill.column))]
    own = set(schema.BY_NAME[table].names)
    return {name for formula in formulas for name in re.findall(r"\[(\w+)\]", formula) if name in own}
