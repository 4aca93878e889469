"""Worksheets of the workbook: shelves, marks, filters and labels of each ``Sheet``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from core.tableau.dashboards import Pill, Sheet
from core.tableau.twb_fields import (
    USER,
    Choices,
    E,
    Element,
    dependencies,
    field,
    instance,
    kind_of,
    literal,
    parameter,
    simple_id,
    source_of,
)

OVER = "#1f2933"  # colour of a mark over another
THIN = "0.2"  # of Tableau's usual width


def pills(sheet: Sheet) -> Iterator[Pill]:
    """Every column as a sheet uses it, once."""
    found = [*sheet.rows, *sheet.cols, *sheet.text, *sheet.detail]
    found += [pill for pill in (sheet.color, sheet.size, sheet.path, sheet.over[1] if sheet.over else None) if pill]
    found += [Pill(keep.column) for keep in sheet.keep]
    found += [Pill(limit.column, continuous=True) for limit in sheet.at_most]
    found += [Pill(f"chosen_{what}") for what in sheet.chosen]
    if sheet.sort:
        found += [Pill(sheet.sort[0]), sheet.sort[1]]
    yield from dict.fromkeys(found)


def worksheet(sheet: Sheet, choices: Choices) -> Element:
    used = list(pills(sheet))
    sources = [E.datasource(caption=sheet.table, name=source_of(sheet.table)), E.datasource(name="Parameters")]
    given = [parameter(what, choices) for what in sheet.chosen]
    needed = [E("datasource-dependencies", *given, datasource="Parameters"), dependencies(sheet.table, used)]
    filters = list(_filters(sheet))
    view = E.view(E.datasources(*sources), *needed, *filters)
    if sheet.sort:
        column, by, direction = sheet.sort
        view.append(
            E(
                "computed-sort",
                column=field(sheet.table, Pill(column)),
                direction=direction,
                using=field(sheet.table, by),
            )
        )
    view.append(E.slices(*(E.column(str(f.get("column"))) for f in filters)))
    view.append(E.aggregation(value="true"))
    return E.worksheet(
        E("layout-options", E.title(_title(sheet))),
        E.table(
            view,
            E.style(*_axis_style(sheet)),
            E.panes(*_panes(sheet)),
            E.rows(_shelf(sheet.table, sheet.rows)),
            E.cols(_shelf(sheet.table, sheet.cols)),
        ),
        simple_id("worksheet", sheet.name),
        name=sheet.name,
    )


def _title(sheet: Sheet) -> Element:
    return E(
        "formatted-text",
        E.run(sheet.name, bold="true", fontsize="11"),
        E.run("Æ\n"),
        E.run(sheet.read, fontsize="9", fontcolor="#666666"),
    )


def _shelf(table: str, on: Sequence[Pill]) -> str:
    """Dimensions nested with ``/``, measures side by side with ``+``; both as Tableau writes a shelf."""
    dimensions = [field(table, pill) for pill in on if pill.how == "none"]
    measures = [field(table, pill) for pill in on if pill.how != "none"]
    nested = dimensions[0] if len(dimensions) == 1 else ""
    if len(dimensions) > 1:
        nested = dimensions[-1]
        for name in reversed(dimensions[:-1]):
            nested = f"({name} / {nested})"
    beside = measures[0] if len(measures) == 1 else f"({' + '.join(measures)})" if measures else ""
    return f"({nested} * {beside})" if nested and beside else nested or beside


def _filters(sheet: Sheet) -> Iterator[Element]:
    for what in sheet.chosen:
        yield _members(sheet.table, f"chosen_{what}", ("true",))
    for keep in sheet.keep:
        boolean = kind_of(sheet.table, keep.column) == "boolean"
        yield _members(sheet.table, keep.column, keep.values if boolean else [literal(one) for one in keep.values])
    for limit in sheet.at_most:
        yield E.filter(
            E.min("1"),
            E.max(str(limit.most)),
            column=field(sheet.table, Pill(limit.column, continuous=True)),
            **{"class": "quantitative", "included-values": "in-range"},
        )


def _members(table: str, column: str, members: Sequence[str]) -> Element:
    """Keep these values of ``column``."""
    level = instance(table, Pill(column))
    shown = {
        f"{{{USER}}}ui-domain": "database",
        f"{{{USER}}}ui-enumeration": "inclusive",
        f"{{{USER}}}ui-marker": "enumerate",
    }
    if len(members) == 1:
        kept = E.groupfilter(function="member", level=level, member=members[0], **shown)
    else:
        each = (E.groupfilter(function="member", level=level, member=member) for member in members)
        kept = E.groupfilter(*each, function="union", **shown)
    return E.filter(kept, column=field(table, Pill(column)), **{"class": "categorical"})


def _axis_style(sheet: Sheet) -> Iterator[Element]:
    """Where a second mark lies over the first: one axis for both."""
    if sheet.over is None:
        return
    scope = "cols" if len(sheet.cols) > 1 else "rows"
    second = field(sheet.table, (sheet.cols if scope == "cols" else sheet.rows)[-1])
    yield E(
        "style-rule",
        E.encoding(
            attr="space",
            field=second,
            fold="true",
            scope=scope,
            synchronized="true",
            type="space",
            **{"class": "0", "field-type": "quantitative"},
        ),
        E.format(attr="display", field=second, scope=scope, value="false", **{"class": "0"}),
        element="axis",
    )


def _panes(sheet: Sheet) -> Iterator[Element]:
    if sheet.over is None:
        yield _pane(sheet, sheet.mark, size=sheet.size)
        return
    across = len(sheet.cols) > 1
    first, second = (sheet.cols if across else sheet.rows)[-2:]
    axis = "x-axis-name" if across else "y-axis-name"
    mark, size = sheet.over
    yield _pane(sheet, sheet.mark, size=sheet.size)
    under = _pane(sheet, sheet.mark, size=sheet.size)
    over = _pane(sheet, mark, size=size, over=True)
    for number, (pane, pill) in enumerate(((under, first), (over, second)), start=1):
        pane.set("id", str(number))
        pane.set(axis, field(sheet.table, pill))
        yield pane


def _pane(sheet: Sheet, mark: str, *, size: Pill | None, over: bool = False) -> Element:
    table, path = sheet.table, sheet.path if over else None
    encodings = E.encodings()
    if sheet.color:
        encodings.append(E.color(column=field(table, sheet.color)))
    if size:
        encodings.append(E.size(column=field(table, size)))
    for pill in sheet.text:
        encodings.append(E.text(column=field(table, pill)))
    for pill in sheet.detail:
        if pill != path:  # a line is drawn along its path, and apart for every value of a detail
            encodings.append(E.lod(column=field(table, pill)))
    if path:
        encodings.append(E.path(column=field(table, path)))
    pane = E.pane(E.view(E.breakdown(value="auto")), E.mark(**{"class": mark}))
    pane.set("selection-relaxation-option", "selection-relaxation-allow")
    if len(encodings):
        pane.append(encodings)
    if sheet.label:
        pane.append(E("customized-label", E("formatted-text", *_label(sheet))))
    formats = {"mark-labels-show": "true"} if sheet.text else {}
    if over and not sheet.color:  # it would hide in the mark under it
        formats |= {"mark-color": OVER, "size": THIN}
    if formats:
        shown = (E.format(attr=name, value=value) for name, value in formats.items())
        pane.append(E.style(E("style-rule", *shown, element="mark")))
    return pane


def _label(sheet: Sheet) -> Iterator[Element]:
    """``{value} of {n}`` → runs of text and fields."""
    by_name = {pill.column: field(sheet.table, pill) for pill in sheet.text}
    for part in re.split(r"(\{\w+\})", sheet.label):
        if part:
            name = part.strip("{}")
            yield E.run(f"<{by_name[name]}>" if part.startswith("{") else part)
