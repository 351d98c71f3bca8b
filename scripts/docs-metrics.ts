/**
 * Writes docs/metrics.md from the table of metrics. `--check` writes nothing and fails when the page is behind.
 *
 *   node scripts/docs-metrics.ts [--check]
 */
import { join } from "node:path";
import type { LabelBound, MetricRow, MetricSection } from "../src/telemetry/metrics/table/row.ts";
import { metricSections, mostSeries } from "../src/telemetry/metrics/table.ts";
import { writePage } from "./write-page.ts";

const page = join(import.meta.dirname, "../docs/metrics.md");

const head = `# Metrics

<!-- Written by scripts/docs-metrics.ts (npm run docs). Change the table in src/telemetry/metrics, not this page. -->

FireRunner serves its figures to Prometheus at \`/metrics\`, on a listener of its own and only where \`metrics.listen\` names an address:

\`\`\`yaml
metrics:
  listen: ["http://127.0.0.1:9252"] # without TLS on loopback alone
\`\`\`

or, for a Prometheus elsewhere, by TLS, with an allow-list and a token:

\`\`\`yaml
metrics:
  listen: ["0.0.0.0:9252"]
  tls: { certificateFile: /etc/firerunner/tls.crt, keyFile: /etc/firerunner/tls.key }
  allow: [10.0.0.0/8]
  tokenFile: /etc/firerunner/metrics.token
\`\`\`

\`\`\`yaml
# prometheus.yml
scrape_configs:
  - job_name: firerunner
    scheme: https
    authorization: { credentials_file: /etc/prometheus/firerunner.token }
    static_configs: [{ targets: ["firerunner.example.org:9252"] }]
\`\`\`

Without a listener nothing is counted. An address that is not on \`allow\` is answered 403, a wrong token 401, more than 120 requests a minute 429; what is refused stands in the
log. Allow-list, token and certificate are taken over by a reload; all else waits for a restart. A client that asks for OpenMetrics 1.0 gets it, as
Prometheus does: the series are the same.

**Labels.** No series is of a job, a machine, a branch or a project, and every label has a bound: the number of series does not grow with the number of jobs. Each set
of tags has a pool, whose name is made of what projects write: the first 64 sets since the start have series of their own, those beyond are counted together as
\`tags:*\`, as are sets whose name is longer than 120 characters. Pools that are made for one job each (\`webhook.runners.perJob\`) are \`job:*\`. *Most series* is what a
metric has when all its labels hold all that they may, with 65 pools; few installations have a tenth of it.

**Restarts.** Counters and histograms begin anew with the process, as \`rate()\` and \`increase()\` expect; a job that goes on over a restart is counted once, when it ends.
What is not known is missing, never 0: capacities of a host that has not answered, the end of a token that has none. A source that fails or takes longer than
four seconds is left out of that scrape, and the log says which.

**Not known.** Pressure, memory and killed processes are of the computer that FireRunner runs on. Hosts of the flintlock driver tell what their machines take up and
whether they answer, and no more: watch them with a node exporter of their own.
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
  writePage(page, renderMetrics(metricSections), "the table of metrics");
}
