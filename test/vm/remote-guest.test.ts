import { describe, expect, test } from "vitest";
import { createImageStore } from "../../src/image/store.ts";
import { type GuestNetwork, guestCommandLine, renderMetadata } from "../../src/vm/flintlock/request.ts";
import { testImageDirectory } from "../harness/image.ts";
import { type LifeOptions, prepareLife } from "./remote-life.ts";

/** Emulated, on a busy computer. */
const LIFE_MS = 150_000;

/** A machine with an image of ours. */
async function prepare(network: GuestNetwork, definition: LifeOptions["definition"]) {
  return await prepareLife({
    image: await createImageStore({ directory: testImageDirectory() }).resolve("base"),
    commandLine: guestCommandLine,
    documents: (machineId, link) => renderMetadata({ machineId, link, network, cloudInit: false }),
    definition,
  });
}

const withAddress = { address: "10.77.0.12/24", gateway: "10.77.0.2", nameservers: ["10.77.0.3"] };
const byDhcp = { address: undefined, gateway: undefined, nameservers: [] };

describe("a machine on another host", () => {
  test("runs its job by the relay alone, says goodbye and ends; started again, it says so and runs nothing", async () => {
    await using life = await prepare(withAddress, {
      script: [
        "cat word.txt",
        "mkdir out && head -c 3000000 /dev/urandom > out/file",
        "hostname",
        "ls -l /run/firerunner",
      ],
      artifacts: { paths: ["out/"], exclude: [], untracked: false, when: "on_success" },
    });
    const { bench, machine, remote } = life;
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
    await using life = await prepare(byDhcp, {
      variables: { GIT_STRATEGY: "none" },
      script: [
        "ip -4 addr show eth1 2>/dev/null || busybox ip -4 addr show eth1",
        "stat -c '%a %U' /run/firerunner/preamble",
      ],
    });
    const { bench, machine, remote } = life;
    await remote.boot(LIFE_MS);

    expect(machine.job.status).toBe("success");
    expect(machine.job.trace.text()).toMatch(/inet 10\.77\.0\.\d+\/24/);
    expect(machine.job.trace.text()).toMatch(/600 root/);
    expect(bench.relay.endOf(machine.id)).toBe("orderly");
  });
});
