"""Dashboards of the workbook, what a click on them does, and the windows that show them."""

from __future__ import annotations

from collections.abc import Iterator
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
    What,
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


def actions(choices: Choices, *, linked: bool) -> Element:
    """What clicks do; where ``linked``, menus open the addresses of thumbnails and sounds."""
    filtering, used = [], dict[str, dict[Pill, None]]()
    for dashboard in DASHBOARDS:
        for click in dashboard.clicks:
            filtering.append(_filter_action(dashboard, click))
            for source, target, column in click.fields:
                used.setdefault(BY_NAME[click.source].table, {})[Pill(source)] = None
                used.setdefault(BY_NAME[target].table, {})[Pill(column)] = None
    for name, what in SETS:
        table = BY_NAME[name].table
        used.setdefault(table, {})[Pill(column_of(table, what))] = None
    links = [(name, column) for name in OPENS for column in LINKS] if linked else []
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
        *(_parameter_action(name, what) for name, what in SETS),
    )


def _action_name(*parts: str) -> str:
    return f"[Action_{guid('action', *parts).strip('{}').replace('-', '')}]"


def _filter_action(dashboard: Dashboard, click: Click) -> Element:
    source = BY_NAME[click.source]
    targets = {target for _, target, _ in click.fields}
    kept = [zone.sheet for zone in dashboard.zones if zone.sheet not in targets]
    links = "&".join(
        f"{quote(field(BY_NAME[target].table, Pill(column)), safe=':._')}~s0=<{field(source.table, Pill(name))}~na>"
        for name, target, column in click.fields
    )
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
    carded: dict[str, dict[Pill, None]] = {}
    for sheet, column in dashboard.cards:
        carded.setdefault(BY_NAME[sheet].table, {})[Pill(column)] = None
    sources, needed = [], []
    if dashboard.parameters:
        sources.append(E.datasource(name="Parameters"))
        given = [parameter(what, choices) for what in dashboard.parameters]
        needed.append(E("datasource-dependencies", *given, datasource="Parameters"))
    for table in sorted(carded):
        sources.append(E.datasource(caption=table, name=source_of(table)))
        needed.append(dependencies(table, list(carded[table])))
    return E.dashboard(
        E.style(),
        E.size(
            maxheight=str(HEIGHT),
            maxwidth=str(WIDTH),
            minheight=str(HEIGHT),
            minwidth=str(WIDTH),
            **{"sizing-mode": "fixed"},
        ),
        *([E.datasources(*sources), *needed] if sources else []),
        E.zones(_zones(dashboard)),
        simple_id("dashboard", dashboard.name),
        name=dashboard.name,
    )


def _zones(dashboard: Dashboard) -> Element:
    controls = len(dashboard.parameters) + len(dashboard.cards)
    head = E.zone(
        E(
            "formatted-text",
            E.run(dashboard.name, bold="true", fontsize="16"),
            E.run("Æ\n"),
            E.run(dashboard.says, fontsize="10", fontcolor="#555555"),
        ),
        **_place("2", 0, 0, WHOLE - controls * CARD, HEAD),
        **{"type-v2": "text"},
    )
    root = E.zone(head, **_place("1", 0, 0, WHOLE, WHOLE), **{"type-v2": "layout-basic"})
    left = WHOLE - controls * CARD
    for number, what in enumerate(dashboard.parameters):
        root.append(
            E.zone(
                mode="compact",
                param=f"[Parameters].[{PARAMETERS[what].caption}]",
                **_place(str(3 + number), left + number * CARD, 0, CARD, HEAD),
                **{"type-v2": "paramctrl"},
            )
        )
    left += len(dashboard.parameters) * CARD
    for number, (sheet, column) in enumerate(dashboard.cards):
        root.append(
            E.zone(
                mode="checkdropdown",
                name=sheet,
                param=field(BY_NAME[sheet].table, Pill(column)),
                **_place(str(10 + number), left + number * CARD, 0, CARD, HEAD),
                **{"type-v2": "filter"},
            )
        )
    scale = (WHOLE - HEAD) / 100
    for number, zone in enumerate(dashboard.zones):
        top, height = HEAD + round(zone.y * scale), round(zone.h * scale)
        place = _place(str(20 + number), zone.x * WHOLE // 100, top, zone.w * WHOLE // 100, height)
        root.append(E.zone(name=zone.sheet, **place))
    return root


def _place(number: str, x: int, y: int, w: int, h: int) -> dict[str, str]:
    return {"id": number, "x": str(x), "y": str(y), "w": str(w), "h": str(h)}


def windows() -> Iterator[Element]:
    for number, dashboard in enumerate(DASHBOARDS):
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
    for sheet in SHEETS:
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
            ),
            E.viewpoint(E.zoom(type="entire-view")),
            simple_id("window", sheet.name),
            name=sheet.name,
            **{"class": "worksheet", "hidden": "true"},
        )
