/**
 * Writes docs/metrics.md from the table of metrics. `--check` writes nothing and fails when the page is behind.
 *
 *   node scripts/docs-metrics.ts [--check]
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { LabelBound, MetricRow, MetricSection } from "../src/telemetry/metrics/table/row.ts";
import { metricSections, mostSeries } from "../src/telemetry/metrics/table.ts";

const page = join(import.meta.dirname, "../docs/metrics.md");

const head = `# Metrics

<!-- Written by scripts/docs-metrics.ts (npm run docs). Change the table in src/telemetry/metrics, not this page. -->
`;

export function renderMetrics(sections: readonly MetricSection[]): string {
  return [head, ...sections.flatMap(renderSection)].join("\n");
}

function renderSection({ title, question, rows }: MetricSection): string[] {
  return [
    `## ${title}`,
    "",
    question,
    "",
    "| metric | type | labels | what it is | most series |",
    "| --- | --- | --- | --- | --- |",
    ...Object.entries(rows).map(([name, row]) => renderRow(name, row)),
    "",
  ];
}

function renderRow(name: string, row: MetricRow): string {
  const labels = Object.entries(row.labels).map(([label, bound]) => `\`${label}\`: ${renderBound(bound)}`);
  const buckets = row.buckets === undefined ? "" : ` Buckets: ${row.buckets.join(", ")}.`;
  return `| <span id="${name}">\`${name}\`</span> | ${row.type} | ${labels.join("; ")} | ${row.help}${buckets} | ${mostSeries(row)} |`;
}

function renderBound(bound: LabelBound): string {
  if (bound.kind === "fixed") return bound.values.map((value) => `\`${value}\``).join(", ");
  return bound.most === 1 ? `of ${bound.of}` : `${bound.of}, at most ${bound.most}, then \`${bound.rest}\``;
}

if (import.meta.main) {
  const wanted = renderMetrics(metricSections);
  if (process.argv.includes("--check")) {
    if (readFileSync(page, "utf8") !== wanted) {
      throw new Error("docs/metrics.md is behind the table of metrics: run npm run docs");
    }
  } else {
    writeFileSync(page, wanted);
  }
}
