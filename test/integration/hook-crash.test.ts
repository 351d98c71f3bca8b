import { tmpdir } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { eventually } from "../harness/eventually.ts";
import { createHookInstallation, type HookInstallation } from "../harness/hook-installation.ts";
import { sendHooks } from "../harness/hook-load.ts";
import { lookAfterCrash } from "../harness/hook-survival.ts";

let here: HookInstallation;

beforeEach(async () => {
  here = await createHookInstallation(tmpdir(), 5);
});
afterEach(() => here.close());

test("a delivery that was answered is in the store of a FireRunner that was killed, and its project is due", async () => {
  const { daemon, url } = await here.start();
  const killed = new AbortController();
  const { signingKey, projectIds } = here;
  // So many that at any moment some wait for the disk: with an answer before that, dozens would be missing.
  const load = { url, signingKey, projectIds, perSecond: 1_500, seconds: 6, connections: 64 };
  const sending = sendHooks(load, killed.signal);
  await sleep(2_000 + 2_000 * Math.random());

  await daemon.kill9();
  killed.abort();
  const { answered } = await sending;

  expect(answered.length).toBeGreaterThan(100);
  const { dueProjects, ...lost } = await lookAfterCrash(here.state, answered);
  expect(lost).toEqual({ missing: 0, withoutNews: 0 });
  expect(dueProjects).toBeGreaterThan(0);

  const next = await here.start();
  await eventually("the next start has read what was due", async () => {
    const { projects } = await next.daemon.get<{ projects: { due: number } }>("/v1/webhook");
    return projects.due === 0;
  });
});
