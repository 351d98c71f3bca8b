/**
 * Writes Grafana's dashboards from scripts/monitoring, whose expressions are made from the table of metrics. `--check` writes nothing and fails when
 * one is behind.
 *
 *   node scripts/docs-dashboards.ts [--check]
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gitLabAndWebhooks } from "./monitoring/gitlab.ts";
import { hosts } from "./monitoring/hosts.ts";
import { overview } from "./monitoring/overview.ts";
import { type DashboardSpec, renderDashboard } from "./monitoring/panels.ts";
import { usage } from "./monitoring/usage.ts";

export const dashboards: readonly DashboardSpec[] = [overview, hosts, gitLabAndWebhooks, usage];

export function dashboardFile({ uid }: DashboardSpec): string {
  return join(import.meta.dirname, "../deploy/monitoring/grafana/dashboards", `${uid}.json`);
}

if (import.meta.main) {
  for (const each of dashboards) {
    const wanted = renderDashboard(each);
    if (!process.argv.includes("--check")) writeFileSync(dashboardFile(each), wanted);
    else if (readFileSync(dashboardFile(each), "utf8") !== wanted) {
      throw new Error(`${dashboardFile(each)} is behind the table of metrics: run npm run docs`);
    }
  }
}
