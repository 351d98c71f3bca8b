import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Agent, request } from "undici";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startChild } from "../../bench/parts/child.ts";
import { newSigningKey, signDelivery } from "../../src/gitlab/webhook-signature.ts";
import { aJobHook, aPipelineHook, hookHeaders } from "../builders/hook.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import { watchOthersCpu } from "../harness/cpu-share.ts";
import { certificateFiles } from "../harness/public-server.ts";
import type { FloodProcess } from "../programs/flood-process.ts";
import type { PublicServerProcess } from "../programs/public-server-process.ts";
import { makeCertificateAuthority } from "../servers/certificates.ts";

const FLOOD_MS = Number(process.env["FIRERUNNER_FLOOD_SECONDS"] ?? 12) * 1_000;
const PAUSE_MS = 25;
const MOST_MIB = 400;
const MOST_ANSWER_MS = 1_000;
const program = (name: string) => join(import.meta.dirname, "../programs", name);
const key = newSigningKey();

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let files: ReturnType<typeof certificateFiles>;

beforeAll(async () => {
  directory = await temporaryDirectory();
  files = certificateFiles(directory.path);
  await using authority = await makeCertificateAuthority();
  await files.write(await authority.issue("server.example.org", 30));
});
afterAll(() => directory[Symbol.asyncDispose]());

/** The most memory that a process has ever had. */
async function peakMib(pid: number): Promise<number> {
  const [, kib] = /^VmHWM:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kib) / 1_024;
}

/** How long the main thread of a process has had a CPU. */
function ranMs(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ")[0]) / 1e6;
}

interface Hook {
  readonly event: string;
  readonly body: string;
  /** What the public server's answer has to name. */
  readonly says: string;
}

function jobHook(jobId: number): Hook {
  return { event: "Job Hook", body: JSON.stringify(aJobHook({ jobId })), says: `taken: job ${jobId} ` };
}

/**
 * Of a pipeline with a thousand jobs. It is taken in every case; whether with its body depends on how full the memory for bodies is
 * while it comes, and so on how fast this computer is just now.
 */
function longHook(): Hook {
  const { builds, ...rest } = aPipelineHook();
  const many = Array<unknown>(500).fill(builds).flat();
  return {
    event: "Pipeline Hook",
    body: JSON.stringify({ ...rest, builds: many }),
    says: "taken",
  };
}

/** Sends one real webhook as GitLab does, over a connection of its own. */
async function deliver(address: string, { event, body, says }: Hook, serverPid: number) {
  const id = randomUUID();
  const timestamp = Math.floor(Date.now() / 1_000);
  const headers = {
    ...hookHeaders(event, id),
    "webhook-timestamp": String(timestamp),
    "webhook-signature": signDelivery(key, { id, timestamp, body }),
  };
  const dispatcher = new Agent({ connect: { rejectUnauthorized: false }, pipelining: 0 });
  const [began, ranBefore] = [performance.now(), ranMs(serverPid)];
  try {
    const answer = await request(`${address}/webhook`, { method: "POST", headers, body, dispatcher });
    const text = await answer.body.text();
    const [tookMs, workedMs] = [performance.now() - began, ranMs(serverPid) - ranBefore];
    return { id, says, status: answer.statusCode, text, tookMs, workedMs };
  } finally {
    await dispatcher.destroy();
  }
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test("a flood of every kind at once keeps 19 of 20 authentic webhooks waiting for less than a second and none for three, and memory is bounded", {
  timeout: 120_000,
}, async () => {
  const server = startChild<PublicServerProcess>(program("public-server-process.ts"));
  const flood = startChild<FloodProcess>(program("flood-process.ts"));
  await using _ = {
    [Symbol.asyncDispose]: async () => void (await Promise.all([server.stop(), flood.stop()])),
  };
  const addresses = await server.call("open", {
    directory: directory.path,
    signingKey: key.reveal(),
    token: "a long secret token",
    settings: { listen: ["127.0.0.1:0", "http://127.0.0.1:0"], tls: files.tls },
  });
  const idleMib = await peakMib(server.pid);

  await flood.call("start", {
    addresses,
    attackers: {
      ...{ silent: 500, slowHeaders: 100, slowBodies: 100, badSignatures: 40, badTokens: 20 },
      ...{ longBodies: 12, longChunkedBodies: 12 },
    },
  });
  const othersCpu = watchOthersCpu([server.pid, flood.pid]);
  const answers: Awaited<ReturnType<typeof deliver>>[] = [];
  const long = pause(FLOOD_MS / 4).then(() => deliver(addresses[0] ?? "", longHook(), server.pid));
  const until = performance.now() + FLOOD_MS;
  for (let jobId = 1; performance.now() < until; jobId++) {
    const address = addresses[jobId % addresses.length] ?? "";
    answers.push(await deliver(address, jobHook(jobId), server.pid));
    await pause(PAUSE_MS);
  }
  const longAnswer = await long;
  const attack = await flood.call("stop", undefined as never);
  const report = await server.call("report", undefined as never);
  const figures = {
    ...{
      authentic: answers.length,
      longMs: Math.round(longAnswer.tookMs),
      wallMs: spread(answers.map(({ tookMs }) => tookMs)),
    },
    ...{
      workedMs: spread(answers.map(({ workedMs }) => workedMs)),
      othersCpu: othersCpu(),
      idleMib,
      peakMib: await peakMib(server.pid),
    },
  };
  console.info(JSON.stringify({ ...figures, ...attack, counts: report.counts }));

  const all = [...answers, longAnswer];
  expect(all.filter(({ status, text, says }) => status !== 200 || !text.includes(says))).toEqual([]);
  // What stands between a delivery and its answer is what the public server works meanwhile, in CPU time: no other program counts.
  // One that meets others' hunger for CPU is longer under way, and more is worked meanwhile.
  expect(figures.workedMs.p95).toBeLessThanOrEqual(MOST_ANSWER_MS);
  expect(figures.workedMs.max).toBeLessThanOrEqual(3 * MOST_ANSWER_MS);
  expect(figures.peakMib).toBeLessThanOrEqual(MOST_MIB);
  const stored = new Set(report.stored);
  expect(all.filter(({ id }) => !stored.has(id))).toEqual([]);
  expect(stored.size).toBe(all.length);
  expect(report.errors).toEqual([]);
  // A flood that never reached the public server would show nothing.
  expect(Object.values(attack.connections).every((count) => count > 0)).toBe(true);
  // How many come before the limit of a client is a matter of the CPUs; the limit itself is public-server.test.ts's.
  expect(report.counts.refused).toMatchObject({ "wrong signature": expect.any(Number) });
});

function spread(values: readonly number[]) {
  const sorted = values.map(Math.round).toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.ceil(sorted.length * share) - 1] ?? Number.NaN;
  return { p50: at(0.5), p95: at(0.95), max: at(1) };
}
