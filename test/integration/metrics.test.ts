import { request } from "undici";
import { expect, test } from "vitest";
import { metricTable } from "../../src/telemetry/metrics/table.ts";
import { eventually } from "../harness/eventually.ts";
import { servedGroup, startTaggedInstallation } from "../harness/tagged-installation.ts";
import { complaintsAbout } from "../servers/prometheus.ts";

const PROMETHEUS = "text/plain;version=0.0.4";
const OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";

async function scrape(url: string, accept = PROMETHEUS): Promise<string> {
  const answer = await request(url, { headers: { accept } });
  expect(answer.statusCode).toBe(200);
  return await answer.body.text();
}

/** Without comments: names with their labels, and values. */
function seriesIn(scraped: string): Map<string, number> {
  const lines = scraped.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
  );
}

/** What this installation has no source for, with the reason. */
const missing: Readonly<Record<string, string>> = {
  firerunner_gitlab_rate_limit: "the stand-in has no limit",
  firerunner_gitlab_rate_limit_remaining: "the stand-in has no limit",
  firerunner_api_token_expiry_timestamp_seconds: "the token has no end",
  firerunner_tls_expiry_timestamp_seconds: "nothing speaks TLS",
  firerunner_event_loop_lag_seconds: "there was no whole window yet",
  firerunner_guest_refusals_total: "the guests keep the rules",
  gitlab_runner_jobs: "all have ended",
  gitlab_runner_failed_jobs_total: "none has failed",
};

test("jobs by tag, from the webhook to their end, are what a scrape says", { timeout: 120_000 }, async () => {
  await using installation = await startTaggedInstallation({
    metrics: { listen: ["http://127.0.0.1:0"], compatibility: "gitlab-runner" },
  });
  const { gitlab, metricsUrl = "" } = installation;
  const project = await gitlab.projects.add({ path: `${servedGroup}/one` });
  const jobs = await Promise.all(
    [1, 1, 2].map((cpus) => gitlab.addJob(project, { tags: [`firecracker-${cpus}cpu-1gb`] })),
  );
  await gitlab.addJob(project, { tags: ["firecracker-9999cpu-1gb"] });
  await eventually(
    "all jobs have ended",
    () => jobs.every(({ finishedAt }) => finishedAt !== undefined),
    60_000,
  );
  const ended = 'firerunner_machine_operations_total{driver="fake",operation="destroy",result="success"}';
  await eventually(
    "their machines are gone",
    async () => seriesIn(await scrape(metricsUrl)).get(ended) === 3,
  );
  await eventually(
    "the one that cannot be served was read",
    async () => seriesIn(await scrape(metricsUrl)).get('firerunner_jobs_unservable{cause="size"}') === 1,
  );

  const scraped = await scrape(metricsUrl);
  const series = seriesIn(scraped);
  expect(await complaintsAbout(scraped)).toBe("");
  const one = `{pool="tags:firecracker-1cpu-1gb",result="success"}`;
  expect(series.get(`firerunner_jobs_total${one}`)).toBe(2);
  expect(series.get('firerunner_job_queue_duration_seconds_count{pool="tags:firecracker-2cpu-1gb"}')).toBe(1);
  expect(series.get('firerunner_job_start_duration_seconds_count{pool="tags:firecracker-2cpu-1gb"}')).toBe(1);
  expect(series.get('firerunner_machine_phase_duration_seconds_count{driver="fake",phase="boot"}')).toBe(3);
  expect(series.get("firerunner_gitlab_up")).toBe(1);
  expect(series.get('firerunner_gitlab_requests_total{endpoint="jobs_request",status="201"}')).toBe(3);
  expect(series.get('firerunner_webhook_deliveries_total{outcome="taken"}')).toBeGreaterThan(0);
  expect(series.get('gitlab_runner_jobs_total{runner="tags:firecracker-1cpu-1gb"}')).toBe(2);

  // Every row of the table is there, or named above.
  const names = Object.keys(metricTable).filter((name) => !(name in missing));
  const isThere = (name: string) =>
    [...series.keys()].some((each) => new RegExp(`^${name}(_bucket|_sum|_count)?(\\{|$)`).test(each));
  expect(names.filter((name) => !isThere(name))).toEqual([]);

  const open = await scrape(metricsUrl, OPENMETRICS);
  expect(open.endsWith("# EOF\n")).toBe(true);
  const namesOf = (all: Map<string, number>) => [...all.keys()].toSorted();
  expect(namesOf(seriesIn(open))).toEqual(namesOf(series));
  // And asking for one form has not spoilt the other.
  expect(namesOf(seriesIn(await scrape(metricsUrl)))).toEqual(namesOf(series));
});
