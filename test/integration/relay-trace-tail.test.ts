import { connect } from "node:net";
import { stripVTControlCharacters } from "node:util";
import { traceSummary } from "@firerunner/gitlab-stand-in/test-clients";
import { afterEach, expect, test } from "vitest";
import {
  type BenchMachine,
  createRelayBench,
  type RelayBench,
  type RelayBenchOptions,
} from "./relay-bench.ts";

const LOG = "make: *** [deps] Error 7\n";
const REFUSED =
  "FireRunner: registry.example.org:443 was refused to this job: machines of this pool have no access to other hosts (egress: none).";

let bench: RelayBench;

afterEach(async () => {
  await bench.close();
});

/** A machine whose job has asked for these hosts and has then written its log. */
async function machineThatAsked(
  hosts: readonly string[],
  options: RelayBenchOptions = {},
): Promise<BenchMachine> {
  bench = await createRelayBench(options);
  const machine = await bench.machine();
  await machine.handOver();
  for (const host of hosts) await ask(machine, host);
  await machine.guest.appendTrace(machine.job.id, machine.token, 0, LOG);
  return machine;
}

function ask({ socketPath }: BenchMachine, host: string): Promise<void> {
  const socket = connect(socketPath);
  socket.write(`CONNECT ${host} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  return new Promise((resolve, reject) => {
    socket.once("error", reject).once("data", () => {
      socket.destroy();
      resolve();
    });
  });
}

function end({ guest, job, token }: BenchMachine, state: "failed" | "success", log = LOG) {
  return guest.update(job.id, token, state, traceSummary(log));
}

const linesOf = ({ job }: BenchMachine) =>
  job.trace
    .text()
    .split(LOG)
    .at(-1)
    ?.split("\n")
    .map((line) => stripVTControlCharacters(line))
    .filter((line) => line !== "");

test("what a job writes can be looked at while it runs, with our own lines before it, and is let go with its machine", async () => {
  const machine = await machineThatAsked([]);
  const { relay } = bench;
  const tail = relay.logs.tail(machine.job.id, 64 * 1024) ?? "";

  expect(tail).toBe(machine.job.trace.text());
  expect(tail.endsWith(LOG)).toBe(true);

  await relay.close(machine.id);
  expect(relay.logs.tail(machine.job.id, 64 * 1024)).toBeUndefined();
});

test("a job that fails says at the end of its log which hosts it was refused, each once, with sums that GitLab accepts", async () => {
  const machine = await machineThatAsked(["registry.example.org:443", "registry.example.org:443"]);
  const answer = await end(machine, "failed");

  expect(answer.status).toBe(200);
  expect(linesOf(machine)).toEqual([REFUSED]);
  expect(machine.job.traceCheck).toMatchObject({ matches: true });
  expect(bench.gitlab.violations).toEqual([]);
});

test("a host that could not be reached is told of with its reason", async () => {
  const resolve = () => Promise.reject(Object.assign(new Error("no"), { code: "ENOTFOUND" }));
  const machine = await machineThatAsked(["nexus.example.org:443"], {
    pool: { egress: "internet" },
    relay: { resolve },
  });
  await end(machine, "failed");

  expect(linesOf(machine)).toEqual([
    "FireRunner: this job did not get to nexus.example.org:443: there is no such name.",
  ]);
});

test.each<["failed" | "success", readonly string[]]>([
  ["success", ["registry.example.org:443"]],
  ["failed", []],
])("a job that ends as %s having asked for %j gets no line", async (state, hosts) => {
  const machine = await machineThatAsked(hosts);
  await end(machine, state);

  expect(linesOf(machine)).toEqual([]);
  expect(machine.job.traceCheck).toMatchObject({ matches: true });
});

test("a job that its runner ended at its time limit says what can be done about it, with sums that GitLab accepts", async () => {
  const machine = await machineThatAsked(["registry.example.org:443"]);
  const { guest, job, token } = machine;
  const body = { ...traceSummary(LOG), failure_reason: "job_execution_timeout" };
  await guest.update(job.id, token, "failed", body);

  expect(linesOf(machine)).toEqual([REFUSED, expect.stringMatching(/^FireRunner: Give the job more time/)]);
  expect(job.failureReason).toBe("job_execution_timeout");
  expect(job.traceCheck).toMatchObject({ matches: true });
});

test("many hosts are told of in a few lines", async () => {
  const machine = await machineThatAsked(
    Array.from({ length: 14 }, (_, index) => `h${index}.example.org:443`),
  );
  await end(machine, "failed");

  expect(linesOf(machine)).toHaveLength(11);
  expect(linesOf(machine)?.at(-1)).toBe(
    `FireRunner: 4 more ways out failed: “firerunner why ${machine.job.id}” names them.`,
  );
});

test("a secret in a host's name is masked", async () => {
  bench = await createRelayBench();
  const variables = [{ key: "PASSWORD", value: "hunter2-hunter2", masked: true }];
  const machine = await bench.machine({}, undefined, await bench.gitlab.projects.add({ variables }));
  await machine.handOver();
  await ask(machine, "hunter2-hunter2.example.org:443");
  await machine.guest.appendTrace(machine.job.id, machine.token, 0, LOG);
  await end(machine, "failed");

  expect(linesOf(machine)?.[0]).toMatch(/^FireRunner: \[MASKED\]\.example\.org:443 was refused/);
});

test("a final update that GitLab holds is repeated with the same sums, and the lines are written once", async () => {
  const machine = await machineThatAsked(["registry.example.org:443"], {
    gitlab: { behaviour: { heldFinalUpdates: 2, heldIntervalSeconds: 1 } },
  });
  const statuses = [];
  for (let time = 0; time < 3; time++) statuses.push((await end(machine, "failed")).status);

  expect(statuses).toEqual([202, 202, 200]);
  expect(linesOf(machine)).toEqual([REFUSED]);
  expect(machine.job.traceCheck).toMatchObject({ matches: true });
  expect(bench.gitlab.violations).toEqual([]);
});

test.each<["append-trace" | "update-job"]>([["append-trace"], ["update-job"]])(
  "when GitLab's answer to %s is lost and FireRunner starts anew, the lines are there once and the sums right",
  async (route) => {
    const machine = await machineThatAsked(["registry.example.org:443"], {
      gitlab: { behaviour: { heldFinalUpdates: 1, heldIntervalSeconds: 1 } },
    });
    bench.gitlab.faults.add(route, { kind: "lose-answer" });
    const lost = await end(machine, "failed");
    await bench.restart([machine]);
    await end(machine, "failed");
    await end(machine, "failed");

    expect([lost.status >= 500, machine.job.status]).toEqual([true, "failed"]);
    expect(linesOf(machine)).toEqual([REFUSED]);
    expect(machine.job.traceCheck).toMatchObject({ matches: true });
  },
);

test("a runner that asks how far its log is hears nothing of lines that are not its own", async () => {
  const machine = await machineThatAsked(["registry.example.org:443"], {
    gitlab: { behaviour: { heldFinalUpdates: 1, heldIntervalSeconds: 1 } },
  });
  await end(machine, "failed");
  const patch = await machine.guest.appendTrace(machine.job.id, machine.token, LOG.length, "");

  expect(patch.headers["range"]).toBe(`0-${LOG.length}`);
});
