import { describe, expect, test } from "vitest";
import type { MetricRow } from "./table/row.ts";
import { compatibleNames, metricSections, metricTable, mostSeries } from "./table.ts";

const rows: readonly (readonly [string, MetricRow])[] = Object.entries(metricTable);

describe("the table of metrics", () => {
  test("has every row of its sections, each under one name", () => {
    const names = metricSections.flatMap((section) => Object.keys(section.rows));

    expect(names.toSorted()).toEqual(Object.keys(metricTable).toSorted());
    expect(new Set(names).size).toBe(names.length);
  });

  test.each(rows)("%s is named as Prometheus names things", (name, { type, help, labels }) => {
    expect(name).toMatch(/^(firerunner|process|gitlab_runner)_[a-z][a-z0-9]*(_[a-z0-9]+)*$/);
    expect(name.endsWith("_total")).toBe(type === "counter");
    expect(name).not.toMatch(/_(ms|millis|minutes|hours|mib|gib|kb|mb|gb|percent|count|sum|bucket)(_|$)/);
    expect(help).toMatch(/^[A-Z].{10,}\.$/);
    for (const label of Object.keys(labels)) expect(label).toMatch(/^(?!le$|quantile$)[a-z]+(_[a-z]+)*$/);
  });

  test("histograms count seconds, in buckets that grow", () => {
    for (const [name, { type, buckets = [] }] of rows) {
      expect(buckets.length > 0, name).toBe(type === "histogram");
      expect(
        buckets.toSorted((a, b) => a - b),
        name,
      ).toEqual([...buckets]);
      if (type === "histogram") expect(name).toMatch(/_seconds$/);
    }
  });

  test("no label is of a job, a runner's token, a machine, a ref or a project", () => {
    const forbidden =
      /^(job|job_id|machine|machine_id|ref|branch|project|project_id|pipeline|user|url|token)$/;
    const labels = rows.flatMap(([name, row]) => Object.keys(row.labels).map((label) => `${name} ${label}`));

    expect(labels.filter((each) => forbidden.test(each.split(" ")[1] ?? ""))).toEqual([]);
    // GitLab's runner names its section of the configuration so, which is what a pool is here.
    expect(labels.filter((each) => each.endsWith(" runner")).map((each) => each.split(" ")[0])).toEqual(
      [...compatibleNames].filter((name) => labels.includes(`${name} runner`)),
    );
  });

  test("all of it together has a bound that a Prometheus can hold", () => {
    const sum = rows.reduce((total, [, row]) => total + mostSeries(row), 0);

    expect(sum).toBeLessThan(25_000);
  });
});
