import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { dashboardFile, dashboards } from "../scripts/docs-dashboards.ts";
import { metricsIn, unknownIn } from "../scripts/monitoring/expressions.ts";
import { GRID_COLUMNS, renderDashboard, withValues } from "../scripts/monitoring/panels.ts";
import { compatibleNames, metricTable } from "../src/telemetry/metrics/table.ts";
import { temporaryDirectory } from "./builders/temporary-directory.ts";

const run = promisify(execFile);

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly datasource?: unknown;
  readonly targets?: readonly {
    readonly refId: string;
    readonly expr: string;
    readonly datasource: unknown;
  }[];
  readonly fieldConfig?: { readonly defaults: { readonly unit: string } };
}

interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] };
  readonly panels: readonly Panel[];
}

/** Of Grafana itself. */
const builtIn = ["__rate_interval", "__range", "__interval", "__all"];
const folder = dirname(dashboardFile(dashboards[0]!));
const files = readdirSync(folder).map((name) => ({ name, text: readFileSync(join(folder, name), "utf8") }));
const read = files.map(({ text }) => JSON.parse(text) as Dashboard);
const expressions = read.flatMap(({ panels }) =>
  panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)),
);

test("the files are what the table of metrics gives, and there is none beside them (else: npm run docs)", () => {
  expect(files.map(({ name }) => name).toSorted()).toEqual(
    dashboards.map(({ uid }) => `${uid}.json`).toSorted(),
  );
  for (const dashboard of dashboards) {
    expect(readFileSync(dashboardFile(dashboard), "utf8") === renderDashboard(dashboard), dashboard.uid).toBe(
      true,
    );
  }
});

test("every metric of the table has its place on a dashboard", () => {
  const shown = new Set(expressions.flatMap(metricsIn));
  const wanted = Object.keys(metricTable).filter((name) => !compatibleNames.has(name));

  expect(wanted.filter((name) => !shown.has(name))).toEqual([]);
});

test("they name metrics, labels and values of the table only", () => {
  expect(expressions.length).toBeGreaterThan(60);
  expect(expressions.flatMap((expr) => unknownIn(expr))).toEqual([]);
});

test("Prometheus takes every expression", async () => {
  await using directory = await temporaryDirectory();
  const rules = expressions.map((expr, index) => ({ record: `panel:${index}`, expr: withValues(expr) }));
  const file = join(directory.path, "rules.yml");
  await writeFile(file, stringify({ groups: [{ name: "dashboards", rules }] }));

  const { stdout } = await run("promtool", ["check", "rules", file]);

  expect(stdout).toContain(`${expressions.length} rules found`);
});

test("each has a uid that Grafana takes, of its own", () => {
  const uids = read.map(({ uid }) => uid);

  expect(new Set(uids).size).toBe(uids.length);
  for (const uid of uids) expect(uid).toMatch(/^[a-zA-Z0-9_-]{1,40}$/);
  expect(new Set(read.map(({ title }) => title)).size).toBe(uids.length);
});

describe.each(read)("$title", ({ panels, templating }) => {
  test("its panels have ids of their own, and lie within the grid, none over another", () => {
    const ids = panels.map(({ id }) => id);
    const taken = new Set<string>();

    expect(new Set(ids).size).toBe(ids.length);
    for (const { id, gridPos } of panels) {
      expect(id).toBeGreaterThan(0);
      expect(gridPos.x).toBeGreaterThanOrEqual(0);
      expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(GRID_COLUMNS);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect(taken.has(`${x},${y}`), `${id} at ${x},${y}`).toBe(false);
          taken.add(`${x},${y}`);
        }
      }
    }
  });

  test("every variable that it uses is there, and every one that is there is used", () => {
    const used = new Set(
      [
        ...JSON.stringify(panels).matchAll(/\$\{?(\w+)/g),
        ...JSON.stringify(templating).matchAll(/\$\{?(\w+)/g),
      ].map(([, name = ""]) => name),
    );
    const declared = templating.list.map(({ name }) => name);

    expect([...used].filter((name) => !declared.includes(name) && !builtIn.includes(name))).toEqual([]);
    expect(declared.filter((name) => !used.has(name))).toEqual([]);
  });

  test("variables take their values from metrics of the table, by labels that they have", () => {
    for (const { definition } of templating.list) {
      if (definition === undefined) continue;
      const [, metric = "", label = ""] = /^label_values\((.*), (\w+)\)$/.exec(definition) ?? [];
      expect(unknownIn(`sum by (${label}) (${metric})`), definition).toEqual([]);
      expect(metricsIn(metric), definition).toHaveLength(1);
    }
  });

  test("every panel says what it is, in a unit, and asks the data source that was chosen", () => {
    for (const { type, title, description, datasource, targets = [], fieldConfig } of panels) {
      expect(title).toBeTruthy();
      if (type === "row") continue;
      expect(description, title).toMatch(/^.{20,}[.?]\n/);
      expect(description, title).not.toContain("undefined");
      expect(fieldConfig?.defaults.unit, title).toBeTruthy();
      expect(targets.length, title).toBeGreaterThan(0);
      expect(new Set(targets.map(({ refId }) => refId)).size, title).toBe(targets.length);
      for (const each of [datasource, ...targets.map((target) => target.datasource)]) {
        expect(each, title).toEqual({ type: "prometheus", uid: "$datasource" });
      }
    }
  });

  test("what is measured in seconds or bytes is shown so", () => {
    for (const { title, targets = [], fieldConfig } of panels) {
      for (const { expr } of targets) {
        const isPlain = /^(?:sum|min|max)? ?(?:by \([\w, ]+\) )?\(?\w+_(seconds|bytes)\{[^}]*\}\)?$/.exec(
          expr,
        );
        if (isPlain?.[1] === "seconds") expect(fieldConfig?.defaults.unit, title).toBe("s");
        if (isPlain?.[1] === "bytes") expect(fieldConfig?.defaults.unit, title).toBe("bytes");
      }
    }
  });
});
