/**
 * Panels and dashboards in Grafana's classic JSON, which every version reads. Written out here instead of with Grafana's SDK: that knows
 * each plug-in's every option, while these dashboards need a dozen fields, and its types leave `options` open as well.
 */
import type { MetricRow } from "../../src/telemetry/metrics/table/row.ts";
import { metricTable } from "../../src/telemetry/metrics/table.ts";
import { metricsIn } from "./expressions.ts";

const table: Readonly<Record<string, MetricRow>> = metricTable;

/** Where every query goes: the data source chosen at the top of the dashboard. */
const datasource = { type: "prometheus", uid: "$datasource" } as const;
export const GRID_COLUMNS = 24;
/** Of the classic JSON: what Grafana 10 writes, and later ones convert when they load it. */
const SCHEMA_VERSION = 39;

interface Query {
  readonly expr: string;
  /** For people, with labels in braces: `{{host}}`. */
  readonly legend: string;
}

/** Units by Grafana's names; `none` counts things. */
type Unit = "none" | "s" | "percentunit" | "bytes" | "ops" | "cores" | "hours" | "gibHours" | "money";

const unitIds: Readonly<Record<Unit, string>> = {
  none: "short",
  s: "s",
  percentunit: "percentunit",
  bytes: "bytes",
  ops: "cps",
  cores: "suffix: vCPU",
  hours: "suffix: vCPU h",
  gibHours: "suffix: GiB h",
  // The currency is that of the prices, which are the reader's own.
  money: "short",
};

export interface Step {
  /** From this value on; null is the beginning. */
  readonly value: number | null;
  readonly color: "green" | "yellow" | "red" | "blue" | "text";
}

export interface PanelSpec {
  readonly kind: "timeseries" | "stat" | "bargauge" | "table";
  readonly title: string;
  /** What it answers, and what a bad answer looks like. */
  readonly description: string;
  readonly unit: Unit;
  readonly queries: readonly Query[];
  /** In columns of 24, and in rows. */
  readonly width: number;
  readonly height: number;
  readonly steps?: readonly Step[];
  /** Words in the place of values: `{ 0: "down", 1: "up" }`. */
  readonly words?: Readonly<Record<number, string>>;
  readonly stacked?: boolean;
  readonly max?: number;
  readonly decimals?: number;
}

interface RowSpec {
  readonly row: string;
}

export interface VariableSpec {
  readonly name: string;
  readonly label: string;
  /** Values of a label: `label_values(metric, label)`, all of them to begin with. */
  readonly values?: string;
  /** What stands for all of them in a comparison; without it their list does. */
  readonly all?: string;
  /** A value that the reader may change. */
  readonly text?: string;
}

export interface DashboardSpec {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  /** Of the time range: `now-6h`. */
  readonly from: string;
  readonly variables: readonly VariableSpec[];
  readonly panels: readonly (PanelSpec | RowSpec)[];
}

/** The file's content, the same for the same specification. */
export function renderDashboard(spec: DashboardSpec): string {
  const dashboard = {
    uid: spec.uid,
    title: spec.title,
    description: spec.description,
    tags: ["firerunner"],
    schemaVersion: SCHEMA_VERSION,
    version: 1,
    editable: true,
    graphTooltip: 1,
    refresh: "30s",
    timezone: "browser",
    time: { from: spec.from, to: "now" },
    annotations: { list: [] },
    links: [
      {
        ...{ type: "dashboards", title: "FireRunner", tags: ["firerunner"], asDropdown: true },
        ...{ includeVars: true, keepTime: true, targetBlank: false, icon: "external link", url: "" },
      },
    ],
    templating: { list: [datasourceVariable, ...spec.variables.map(variableOf)] },
    panels: placed(spec.panels),
  };
  return `${JSON.stringify(dashboard, null, 2)}\n`;
}

const datasourceVariable = {
  ...{ type: "datasource", name: "datasource", label: "Data source", query: "prometheus" },
  ...{ refresh: 1, hide: 0, includeAll: false, multi: false, regex: "", options: [], current: {} },
};

function variableOf({ name, label, values, all, text }: VariableSpec): object {
  if (values === undefined) {
    const option = { text: text ?? "", value: text ?? "", selected: true };
    return { type: "textbox", name, label, query: text ?? "", hide: 0, options: [option], current: option };
  }
  return {
    ...{ type: "query", name, label, datasource, definition: values, hide: 0, regex: "", sort: 1 },
    query: { query: values, refId: "variable" },
    // Anew with each time range: hosts and pools come and go.
    refresh: 2,
    ...{ multi: true, includeAll: true, allValue: all ?? null, options: [] },
    current: { text: ["All"], value: ["$__all"], selected: true },
  };
}

/** From left to right, then below; a row begins anew. */
function placed(specs: readonly (PanelSpec | RowSpec)[]): object[] {
  let [x, y, lineHeight] = [0, 0, 0];
  return specs.map((spec, index) => {
    const id = index + 1;
    const width = "row" in spec ? GRID_COLUMNS : spec.width;
    const height = "row" in spec ? 1 : spec.height;
    if (x + width > GRID_COLUMNS) [x, y, lineHeight] = [0, y + lineHeight, 0];
    const gridPos = { x, y, w: width, h: height };
    [x, lineHeight] = [x + width, Math.max(lineHeight, height)];
    if ("row" in spec) return { id, type: "row", title: spec.row, collapsed: false, panels: [], gridPos };
    return { id, ...panelOf(spec), gridPos };
  });
}

function panelOf(spec: PanelSpec): object {
  const { kind, title, queries } = spec;
  const isInstant = kind !== "timeseries";
  return {
    type: kind,
    title,
    description: describe(spec),
    datasource,
    targets: queries.map(({ expr, legend }, index) => ({
      refId: String.fromCharCode("A".charCodeAt(0) + index),
      datasource,
      ...{ expr, legendFormat: legend, editorMode: "code" },
      ...{ range: !isInstant, instant: isInstant, format: kind === "table" ? "table" : "time_series" },
    })),
    fieldConfig: { defaults: fieldDefaults(spec), overrides: [] },
    options: optionsOf(spec),
    ...(kind === "table" ? { transformations: withoutTime } : {}),
  };
}

/** The panel's own words, and what each metric in it is by the table. */
function describe({ description, queries }: PanelSpec): string {
  const metrics = new Set(queries.flatMap(({ expr }) => metricsIn(expr)));
  const helps = [...metrics].map((name) => `* \`${name}\`: ${table[name]?.help}`);
  return [description, "", ...helps].join("\n");
}

function fieldDefaults({ kind, unit, steps, words, stacked, max, decimals }: PanelSpec): object {
  return {
    unit: unitIds[unit],
    min: 0,
    ...(max === undefined ? {} : { max }),
    ...(decimals === undefined ? {} : { decimals }),
    noValue: "–",
    color: { mode: steps === undefined ? "palette-classic" : "thresholds" },
    thresholds: { mode: "absolute", steps: steps ?? [{ value: null, color: "green" }] },
    mappings: words === undefined ? [] : [{ type: "value", options: wordsOf(words) }],
    custom: kind === "timeseries" ? lines(stacked ?? false) : {},
  };
}

function wordsOf(words: Readonly<Record<number, string>>): object {
  return Object.fromEntries(Object.entries(words).map(([value, text], index) => [value, { text, index }]));
}

function lines(isStacked: boolean): object {
  return {
    ...{ drawStyle: "line", lineWidth: 1, fillOpacity: isStacked ? 30 : 5, showPoints: "never" },
    ...{ spanNulls: false, stacking: { mode: isStacked ? "normal" : "none", group: "A" } },
  };
}

function optionsOf({ kind }: PanelSpec): object {
  const reduceOptions = { calcs: ["lastNotNull"], fields: "", values: false };
  switch (kind) {
    case "timeseries":
      return {
        legend: { displayMode: "list", placement: "bottom", showLegend: true, calcs: [] },
        tooltip: { mode: "multi", sort: "desc" },
      };
    case "stat":
      return { reduceOptions, colorMode: "value", graphMode: "none", textMode: "auto", orientation: "auto" };
    case "bargauge":
      return { reduceOptions, displayMode: "basic", orientation: "horizontal", showUnfilled: true };
    case "table":
      return { showHeader: true, cellHeight: "sm" };
  }
}

/** The instant's time says nothing in a table, and its name is the panel's title. */
const withoutTime = [
  {
    id: "organize",
    options: { excludeByName: { Time: true, __name__: true }, renameByName: { Value: "now" } },
  },
];

/** An expression as Grafana sends it with everything chosen, a price of 1, and points so far apart. */
export function withValues(expr: string, { interval = "1m", range = "1h" } = {}): string {
  return expr
    .replaceAll("$__rate_interval", interval)
    .replaceAll("$__range", range)
    .replaceAll(/\$\w+_price/g, "1")
    .replaceAll(/\$(?:instance|host|pool)\b/g, ".*");
}
