"""Dashboards of the workbook, what a click on them does, and the windows that show them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from core.tableau.dashboards import (
    BY_NAME,
    DASHBOARDS,
    LINKS,
    OPENS,
    PARAMETERS,
    SETS,
    SHEETS,
    Click,
    Dashboard,
    Pill,
    Sheet,
    What,
    Zone,
)
from core.tableau.twb_fields import (
    Choices,
    E,
    Element,
    column_of,
    dependencies,
    field,
    guid,
    parameter,
    simple_id,
    source_of,
)

WIDTH, HEIGHT = 1400, 900  # of a dashboard, pixels
WHOLE = 100_000  # Tableau's units of a dashboard's width and height
HEAD = 12_000  # of the title and the controls above the sheets
CARD = 15_000  # width of a control


def sheets_of(dashboards: Sequence[Dashboard]) -> list[Sheet]:
    """The sheets on them, in the order of ``SHEETS``."""
    shown = {zone.sheet for dashboard in dashboards for zone in dashboard.zones}
    return [sheet for sheet in SHEETS if sheet.name in shown]


def actions(dashboards: Sequence[Dashboard], choices: Choices, *, linked: bool) -> Element:
    """What clicks do; where ``linked``, menus open the addresses of thumbnails and sounds."""
    shown = {sheet.name for sheet in sheets_of(dashboards)}
    sets = [(name, what) for name, what in SETS if name in shown]
    filtering, used = [], dict[str, dict[Pill, None]]()
    for dashboard in dashboards:
        for click in dashboard.clicks:
            filtering.append(_filter_action(dashboard, click))
            for source, target, column in click.fields:
                used.setdefault(BY_NAME[click.source].table, {})[Pill(source)] = None
                used.setdefault(BY_NAME[target].table, {})[Pill(column)] = None
    for name, what in sets:
        table = BY_NAME[name].table
        used.setdefault(table, {})[Pill(column_of(table, what))] = None
    links = [(name, column) for name in OPENS if name in shown for column in LINKS] if linked else []
    for name, column in links:
        used.setdefault(BY_NAME[name].table, {})[Pill(column)] = None
    return E.actions(
        *filtering,
        *(_link_action(name, column) for name, column in links),
        E.datasources(
            E.datasource(name="Parameters"),
            *(E.datasource(caption=table, name=source_of(table)) for table in sorted(used)),
        ),
        E(
            "datasource-dependencies",
            *(parameter(what, choices) for what in PARAMETERS),
            datasource="Parameters",
        ),
        *(dependencies(table, list(used[table])) for table in sorted(used)),
        *(_parameter_action(name, what) for name, what in sets),
    )


def _action_name(*parts: str) -> str:
    return f"[Action_{guid('action', *parts).strip('{}').replace('-', '')}]"


def _filter_action(dashboard: Dashboard, click: Click) -> Element:
    source = BY_NAME[click.source]
    targets = {target for _, target, _ in click.fields}
    kept = [zone.sheet for zone in dashboard.zones if zone.sheet not in targets]
    narrowed = [
        f"{quote(field(BY_NAME[target].table, Pill(column)), safe=':._')}~s0=<{field(source.table, Pill(name))}~na>"
        for name, target, column in click.fields
    ]
    links = "&".join(dict.fromkeys(narrowed))  # several targets may be of one data source
    return E.action(
        E.activation(type="on-select", **{"auto-clear": "true"}),
        E.source(dashboard=dashboard.name, type="sheet", worksheet=click.source),
        E.link(
            **{
                "caption": f"Filter by {click.source.lower()}",
                "delimiter": ",",
                "escape": "\\",
                "expression": f"tsl:{quote(dashboard.name)}?{links}",
                "include-null": "true",
                "multi-select": "true",
                "url-escape": "true",
            }
        ),
        E.command(
            E.param(name="exclude", value=",".join(kept)),
            E.param(name="target", value=dashboard.name),
            command="tsc:tsl-filter",
        ),
        caption=f"Filter by {click.source.lower()}",
        name=_action_name(dashboard.name, click.source),
    )


def _link_action(name: str, column: str) -> Element:
    return E.action(
        E.activation(type="explicit"),
        E.source(dashboard=_dashboard_of(name), type="sheet", worksheet=name),
        E.link(
            **{
                "caption": LINKS[column],
                "delimiter": ",",
                "escape": "\\",
                "expression": f"<{field(BY_NAME[name].table, Pill(column))}~na>",
                "include-null": "false",
                "multi-select": "false",
                "url-escape": "false",
            }
        ),
        caption=LINKS[column],
        name=_action_name("link", name, column),
    )


def _dashboard_of(sheet: str) -> str:
    return next(d.name for d in DASHBOARDS if sheet in [zone.sheet for zone in d.zones])


def _parameter_action(name: str, what: What) -> Element:
    table = BY_NAME[name].table
    return E(
        "edit-parameter-action",
        E.activation(type="on-select"),
        E.source(dashboard=_dashboard_of(name), type="sheet", worksheet=name),
        E("agg-type", type="attr"),
        E("clear-option", type="do-nothing", value="s:LROOT:"),
        E.params(
            E.param(name="source-field", value=field(table, Pill(column_of(table, what)))),
            E.param(name="target-parameter", value=f"[Parameters].[{PARAMETERS[what].caption}]"),
        ),
        caption=f"Show the {what} of {name.lower()}",
        name=_action_name(what, name),
    )


def dashboard_element(dashboard: Dashboard, choices: Choices) -> Element:
    given = [parameter(what, choices) for what in dashboard.parameters]
    return E.dashboard(
        E.style(),
        E.size(
            maxheight=str(HEIGHT),
            maxwidth=str(WIDTH),
            minheight=str(HEIGHT),
            minwidth=str(WIDTH),
            **{"sizing-mode": "fixed"},
        ),
        E.datasources(E.datasource(name="Parameters")),
        E("datasource-dependencies", *given, datasource="Parameters"),
        E.zones(_zones(dashboard)),
        simple_id("dashboard", dashboard.name),
        name=dashboard.name,
    )


def _zones(dashboard: Dashboard) -> Element:
    left = WHOLE - len(dashboard.parameters) * CARD
    head = E.zone(
        E(
            "formatted-text",
            E.run(dashboard.name, bold="true", fontsize="16"),
            E.run("Æ\n"),
            E.run(dashboard.says, fontsize="10", fontcolor="#555555"),
        ),
        **_place("2", 0, 0, left, HEAD),
        **{"type-v2": "text"},
    )
    root = E.zone(head, **_place("1", 0, 0, WHOLE, WHOLE), **{"type-v2": "layout-basic"})
    for number, what in enumerate(dashboard.parameters):
        root.append(
            E.zone(
                mode="compact",
                param=f"[Parameters].[{PARAMETERS[what].caption}]",
                **_place(str(3 + number), left + number * CARD, 0, CARD, HEAD),
                **{"type-v2": "paramctrl"},
            )
        )
    for number, zone in enumerate(dashboard.zones):
        root.append(E.zone(name=zone.sheet, **_below(str(20 + number), zone)))
    for number, zone in enumerate(dashboard.legends):
        root.append(E.zone(name=zone.sheet, **_below(str(40 + number), zone), **_legend(BY_NAME[zone.sheet])))
    return root


def _legend(sheet: Sheet) -> dict[str, str]:
    """What a legend is of: the colours of ``sheet``, which has some; of its first pane where it has several."""
    assert sheet.color
    return {
        "pane-specification-id": "1" if sheet.over else "0",
        "param": field(sheet.table, sheet.color),
        "type-v2": "color",
    }


def _below(number: str, zone: Zone) -> dict[str, str]:
    """The place of ``zone`` under the head."""
    scale = (WHOLE - HEAD) / 100
    x, w = zone.x * WHOLE // 100, zone.w * WHOLE // 100
    return _place(number, x, HEAD + round(zone.y * scale), w, round(zone.h * scale))


def _place(number: str, x: int, y: int, w: int, h: int) -> dict[str, str]:
    return {"id": number, "x": str(x), "y": str(y), "w": str(w), "h": str(h)}


def windows(dashboards: Sequence[Dashboard]) -> Iterator[Element]:
    for number, dashboard in enumerate(dashboards):
        seen = [
            E.viewpoint(E.zoom(type="fit-width" if BY_NAME[zone.sheet].tall else "entire-view"), name=zone.sheet)
            for zone in dashboard.zones
        ]
        yield E.window(
            E.viewpoints(*seen),
            E.active(id="-1"),
            simple_id("window", dashboard.name),
            name=dashboard.name,
            **{"class": "dashboard"},
            **({"maximized": "true"} if number == 0 else {}),
        )
    for sheet in sheets_of(dashboards):
        yield E.window(
            E.cards(
                E.edge(
                    E.strip(E.card(type="pages"), E.card(type="filters"), E.card(type="marks"), size="160"),
                    name="left",
                ),
                E.edge(
                    E.strip(E.card(type="columns"), size="2147483647"),
                    E.strip(E.card(type="rows"), size="2147483647"),
                    E.strip(E.card(type="title"), size="2147483647"),
                    name="top",
                ),
                *([_legend_card(sheet)] if sheet.color else []),
            ),
            E.viewpoint(E.zoom(type="entire-view")),
            simple_id("window", sheet.name),
            name=sheet.name,
            **{"class": "worksheet", "hidden": "true"},
        )


def _legend_card(sheet: Sheet) -> Element:
    legend = _legend(sheet)
    return E.edge(E.strip(E.card(type=legend.pop("type-v2"), **legend), size="160"), name="right")
