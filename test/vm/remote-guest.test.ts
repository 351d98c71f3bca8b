import { afterEach, describe, expect, test } from "vitest";
import type { JobDefinition } from "../../src/demo/ci/definition.ts";
import { freePort } from "../../src/demo/free-port.ts";
import { renderBootData } from "../../src/guest/boot.ts";
import { createImageStore } from "../../src/image/store.ts";
import { type GuestNetwork, guestCommandLine, renderMetadata } from "../../src/vm/flintlock/metadata.ts";
import { testImageDirectory } from "../harness/image.ts";
import { type BenchMachine, createRelayBench, type RelayBench } from "../integration/relay-bench.ts";
import { createRemoteMachine, RELAY_ADDRESS, type RemoteMachine } from "./remote-machine.ts";

/** Emulated, on a busy computer. */
const LIFE_MS = 150_000;

const closing: (() => Promise<unknown> | PromiseLike<unknown>)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

interface Life {
  readonly bench: RelayBench;
  readonly machine: BenchMachine;
  readonly remote: RemoteMachine;
}

/** A claimed job and its machine, known to a real relay, ready to be booted as on another host. */
async function prepare(network: GuestNetwork, definition: Partial<JobDefinition>): Promise<Life> {
  const relayPort = await freePort();
  const bench: RelayBench = await createRelayBench({
    network: true,
    settings: { listen: [`127.0.0.1:${relayPort}`], advertise: RELAY_ADDRESS },
    relay: {
      bootData: async (machineId) => {
        const token = bench.store.machineToken(machineId);
        return renderBootData({ machineId, token, nowMs: Date.now(), executor: "shell" });
      },
    },
  });
  closing.push(bench.close);
  const repository = { files: { "word.txt": "from git\n" } };
  const project = await bench.gitlab.projects.add({ path: "group/remote", repository });
  const machine = await bench.machine(definition, undefined, project);
  if (machine.link === undefined) throw new Error("no link");
  const remote = await createRemoteMachine({
    image: await createImageStore({ directory: testImageDirectory() }).resolve("base"),
    commandLine: guestCommandLine(machine.id),
    documents: renderMetadata({ machineId: machine.id, link: machine.link, network }),
    relayPort,
  });
  closing.push(() => remote[Symbol.asyncDispose]());
  return { bench, machine, remote };
}

const withAddress = { address: "10.77.0.12/24", gateway: "10.77.0.2", nameservers: ["10.77.0.3"] };
const byDhcp = { address: undefined, gateway: undefined, nameservers: [] };

describe("a machine on another host", () => {
  test("runs its job by the relay alone, says goodbye and ends; started again, it says so and runs nothing", async () => {
    const { bench, machine, remote } = await prepare(withAddress, {
      script: [
        "cat word.txt",
        "mkdir out && head -c 3000000 /dev/urandom > out/file",
        "hostname",
        "ls -l /run/firerunner",
      ],
      artifacts: { paths: ["out/"], exclude: [], untracked: false, when: "on_success" },
    });
    const { job, id } = machine;
    await remote.boot(LIFE_MS);
    const first = { end: bench.relay.endOf(id), console: remote.console() };
    await remote.boot(LIFE_MS);

    expect(first.console).not.toMatch(/firerunner:/);
    expect(job.trace.text()).toContain("from git");
    expect(job.trace.text()).toContain(id);
    expect([job.status, job.artifacts.length, job.traceCheck?.matches]).toEqual(["success", 1, true]);
    expect(await bench.store.job(job.id)).toMatchObject({ state: "finished", result: "success" });
    expect(first.end).toBe("orderly");
    expect(bench.relay.endOf(id)).toBe("restarted");
    expect(remote.console()).toContain("firerunner: this disk was booted before");
    expect(remote.console()).not.toContain(machine.link?.secret.reveal());
  });

  test("asks for its address where it was given none, and keeps what proves it for root only", async () => {
    const { bench, machine, remote } = await prepare(byDhcp, {
      variables: { GIT_STRATEGY: "none" },
      script: [
        "ip -4 addr show eth1 2>/dev/null || busybox ip -4 addr show eth1",
        "stat -c '%a %U' /run/firerunner/preamble",
      ],
    });
    await remote.boot(LIFE_MS);

    expect(machine.job.status).toBe("success");
    expect(machine.job.trace.text()).toMatch(/inet 10\.77\.0\.\d+\/24/);
    expect(machine.job.trace.text()).toMatch(/600 root/);
    expect(bench.relay.endOf(machine.id)).toBe("orderly");
  });
});
