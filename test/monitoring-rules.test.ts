import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { metricsIn, unknownIn } from "../scripts/monitoring/expressions.ts";
import { loadConfig } from "../src/config/load.ts";
import type { MetricRow } from "../src/telemetry/metrics/table/row.ts";
import { metricTable } from "../src/telemetry/metrics/table.ts";
import { commandLine } from "./harness/command-line.ts";

const run = promisify(execFile);
const root = join(import.meta.dirname, "..");
const deploy = join(root, "deploy/monitoring");
const prometheus = join(deploy, "prometheus");
const read = (path: string) => readFileSync(join(root, path), "utf8");

interface Rule {
  readonly alert?: string;
  readonly record?: string;
  readonly expr: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

interface Case {
  readonly promql_expr_test: readonly {
    readonly expr: string;
    readonly exp_samples: readonly { readonly labels: string }[];
  }[];
}

const { groups } = parse(readFileSync(join(prometheus, "firerunner.rules.yml"), "utf8")) as {
  groups: { name: string; rules: Rule[] }[];
};
const rules = groups.flatMap((group) => group.rules);
const alerts = rules.filter((rule) => rule.alert !== undefined);
const names = [...new Set(alerts.map(({ alert = "" }) => alert))];
const runbook = read("docs/runbook.md");
const sections = new Map(
  runbook
    .split(/^## /m)
    .slice(1)
    .map((section) => [section.slice(0, section.indexOf("\n")), section]),
);

describe("firerunner.rules.yml", () => {
  test("Prometheus takes it, and each alert fires in its case and stays silent beside it", async () => {
    const { stdout } = await run("promtool", ["check", "rules", "firerunner.rules.yml"], { cwd: prometheus });
    await run("promtool", ["test", "rules", "firerunner.rules.test.yml"], { cwd: prometheus });

    expect(stdout).toContain(`SUCCESS: ${rules.length} rules found`);
  });

  test("its cases say in which order groups come, so that they end the same each time", () => {
    const { group_eval_order: order } = parse(
      readFileSync(join(prometheus, "firerunner.rules.test.yml"), "utf8"),
    ) as { group_eval_order: string[] };

    expect(order).toEqual(groups.map(({ name }) => name));
  });

  test("every alert has a case in which it fires, and one beside it in which nothing does", () => {
    const { tests } = parse(readFileSync(join(prometheus, "firerunner.rules.test.yml"), "utf8")) as {
      tests: Case[];
    };
    const firing = new Set<string>();
    const silent = new Set<string>();
    for (const { expr, exp_samples: expected } of tests.flatMap(({ promql_expr_test: looks }) => looks)) {
      for (const { labels } of expected) firing.add(/alertname="(\w+)"/.exec(labels)?.[1] ?? "");
      if (expected.length === 0) silent.add(`FireRunner${/instance="(\w+)/.exec(expr)?.[1]}`);
    }

    expect([...firing].toSorted()).toEqual(names.toSorted());
    expect(names.filter((name) => !silent.has(name))).toEqual([]);
  });

  test("names metrics, labels and values of the table only", () => {
    const recorded = rules.flatMap(({ record }) => record ?? []);

    expect(rules.flatMap(({ expr }) => unknownIn(expr, recorded))).toEqual([]);
    expect(unknownIn('sum by (pool) (firerunner_jobs{state="asleep"})', [])).toEqual([
      "state of firerunner_jobs is never asleep",
      expect.stringContaining("has the label pool"),
    ]);
    expect(unknownIn("firerunner_jbs", [])).toHaveLength(1);
  });

  test("every alert says how bad it is, what it is, where, and what to do", () => {
    for (const { alert, labels, annotations } of alerts) {
      expect(alert).toMatch(/^FireRunner[A-Z]\w+$/);
      expect(["page", "ticket"], alert).toContain(labels?.["severity"]);
      expect(annotations?.["summary"]?.length, alert).toBeGreaterThan(20);
      expect(annotations?.["description"]?.length, alert).toBeGreaterThan(100);
      expect(`${annotations?.["summary"]} ${annotations?.["description"]}`, alert).toContain(
        "$labels.instance",
      );
    }
  });
});

/** Labels of what an alert's expression gives: what it sums by, or all that its metrics have. */
function labelsOf(expr: string): string[] {
  const summed = [...expr.matchAll(/sum by \(([\w, ]+)\)/g)].flatMap(([, names = ""]) => names.split(", "));
  const made = [...expr.matchAll(/label_replace\(.*?, "(\w+)"/g)].map(([, name = ""]) => name);
  const isSum = expr.trimStart().startsWith("sum by");
  return ["instance", ...made, ...(isSum ? summed : metricsIn(expr).flatMap(labelsOfMetric))];
}

function labelsOfMetric(name: string): string[] {
  return Object.keys((metricTable as Readonly<Record<string, MetricRow>>)[name]?.labels ?? {});
}

test.each(alerts)("$alert speaks of labels that it has ($labels.severity)", ({ expr, annotations }) => {
  const named = [...JSON.stringify(annotations).matchAll(/\$labels\.(\w+)/g)].map(([, name = ""]) => name);

  expect(named.filter((name) => !labelsOf(expr).includes(name))).toEqual([]);
});

describe("docs/runbook.md", () => {
  test("each alert's runbook_url leads to its section, and there is none beside them", () => {
    const anchors = alerts.map(({ annotations }) => annotations?.["runbook_url"]);

    expect(anchors).toEqual(
      alerts.map(({ alert = "" }) => `https://firerunner.example.org/docs/runbook.md#${alert.toLowerCase()}`),
    );
    expect([...sections.keys()].toSorted()).toEqual(names.toSorted());
  });

  test.each(names)("%s: symptom, what it means, what to look at, what to do, when it is over", (name) => {
    const heads = [...(sections.get(name) ?? "").matchAll(/^\*\*([^*]+?)\.?\*\*/gm)].map(([, head]) => head);

    expect(heads).toEqual(["Symptom", "What it means", "What to look at", "What to do", "Over when"]);
  });

  test("its commands are ones that there are", async () => {
    const texts = [runbook, ...alerts.map(({ annotations }) => annotations?.["description"] ?? "")];
    const commands = new Set(
      texts.flatMap((text) =>
        [...text.matchAll(/(?:[`“]|^)firerunner ((?:[a-z]+ ?)+)/gm)].map(([, words = ""]) => words.trim()),
      ),
    );
    expect(commands.size).toBeGreaterThan(15);

    for (const command of commands) {
      const { code, out } = await commandLine(...command.split(" "), "--help");
      expect(code, command).toBe(0);
      expect(out, command).toContain(`Usage: firerunner ${command}`);
    }
  });

  test("its options are ones that the command has", async () => {
    for (const [, words = "", options = ""] of runbook.matchAll(/`firerunner ((?:[a-z]+ ?)+)([^`]*)`/g)) {
      const { out } = await commandLine(...words.trim().split(" "), "--help");
      for (const [option] of options.matchAll(/(?<= |^)--?[a-z][a-z-]*/g))
        expect(out, words).toContain(option);
    }
  });

  test("settings that it names are ones that there are", () => {
    const settings = read("docs/configuration.md");
    const named = [...runbook.matchAll(/`((?:vm|webhook|http|metrics|gitlab|scheduler|pools)\.[\w.]+)`/g)];

    expect(named.length).toBeGreaterThan(10);
    expect(named.map(([, key]) => key).filter((key) => !settings.includes(`\`${key}`))).toEqual([]);
  });
});

describe("examples", () => {
  test("Prometheus takes its configuration, with the rules beside it", async () => {
    const { stdout } = await run("promtool", ["check", "config", "prometheus.example.yml"], {
      cwd: prometheus,
    });

    expect(stdout).toContain("1 rule files found");
  });

  test("Alertmanager takes its configuration, and pages come where tickets do not", async () => {
    const file = join(deploy, "alertmanager/alertmanager.example.yml");
    const routed = (receiver: string, labels: readonly string[]) =>
      run("amtool", [
        ...["config", "routes", "test", `--config.file=${file}`, `--verify.receivers=${receiver}`],
        ...labels,
      ]);

    await run("amtool", ["check-config", file]);
    for (const { alert, labels } of alerts) {
      const severity = labels?.["severity"] ?? "";
      await routed(severity === "page" ? "pager" : "team", [`alertname=${alert}`, `severity=${severity}`]);
    }
    await expect(routed("pager", ["alertname=FireRunnerHostDown", "severity=ticket"])).rejects.toThrow();
  });

  test("inhibitions name alerts that there are", () => {
    const text = readFileSync(join(deploy, "alertmanager/alertmanager.example.yml"), "utf8");
    const named = [...text.matchAll(/FireRunner\(([\w|]+)\)|FireRunner([A-Z]\w+)/g)].flatMap(
      ([, several, one]) => (several ?? one ?? "").split("|").map((name) => `FireRunner${name}`),
    );

    expect(named.length).toBeGreaterThan(8);
    expect(named.filter((name) => !names.includes(name))).toEqual([]);
  });

  test("FireRunner takes what docs/monitoring.md gives it, and the example of Prometheus looks there", async () => {
    const [, block = ""] = /```yaml\n([\s\S]*?)```/.exec(read("docs/monitoring.md")) ?? [];
    const text = `${block.replaceAll(/^ {3}/gm, "")}\n${read("docs/firerunner.example.yaml")}`;
    const readFile = async (path: string) => ({
      text: path.endsWith(".yaml") ? text : `glrt-${path}`,
      mode: 0o600,
    });
    const { metrics } = await loadConfig({ file: "/etc/firerunner/config.yaml", env: {}, readFile });
    const example = parse(readFileSync(join(prometheus, "prometheus.example.yml"), "utf8"));

    expect(metrics.listen).toEqual(["http://127.0.0.1:9252"]);
    expect(example.scrape_configs).toMatchObject([
      { job_name: "firerunner", static_configs: [{ targets: ["127.0.0.1:9252"] }] },
    ]);
  });

  test("Grafana finds the dashboards by its provisioning", () => {
    const datasources = parse(read("deploy/monitoring/grafana/provisioning/datasources/firerunner.yml"));
    const providers = parse(read("deploy/monitoring/grafana/provisioning/dashboards/firerunner.yml"));

    expect(datasources).toMatchObject({ apiVersion: 1, datasources: [{ type: "prometheus" }] });
    expect(providers).toMatchObject({ apiVersion: 1, providers: [{ type: "file", allowUiUpdates: false }] });
    expect(existsSync(join(deploy, "grafana/dashboards"))).toBe(true);
  });
});
