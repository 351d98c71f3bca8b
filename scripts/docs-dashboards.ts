/**
 * Writes Grafana's dashboards from scripts/monitoring, whose expressions are made from the table of metrics. `--check` writes nothing and fails when
 * one is behind.
 *
 *   node scripts/docs-dashboards.ts [--check]
 */
import { join } from "node:path";
import { gitLabAndWebhooks } from "./monitoring/gitlab.ts";
import { hosts } from "./monitoring/hosts.ts";
import { overview } from "./monitoring/overview.ts";
import { type DashboardSpec, renderDashboard } from "./monitoring/panels.ts";
import { usage } from "./monitoring/usage.ts";
import { writePage } from "./write-page.ts";

export const dashboards: readonly DashboardSpec[] = [overview, hosts, gitLabAndWebhooks, usage];

export function dashboardFile({ uid }: DashboardSpec): string {
  return join(import.meta.dirname, "../deploy/monitoring/grafana/dashboards", `${uid}.json`);
}

if (import.meta.main) {
  for (const each of dashboards)
    writePage(dashboardFile(each), renderDashboard(each), "the table of metrics");
}
