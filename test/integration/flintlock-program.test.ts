/** The whole program on a fleet: a process of its own, two hosts over TLS, guests over the relay's TLS, a GitLab over HTTP. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { imageOf, tarOf } from "../builders/layer.ts";
import type { Daemon } from "../harness/daemon.ts";
import { eventually } from "../harness/eventually.ts";
import { createFleetInstallation, type FleetInstallation, hostToken } from "../harness/fleet-installation.ts";
import { linkOfBoot } from "../harness/metadata-guest.ts";
import { unbroken } from "../harness/unbroken.ts";
import { startImageRegistry } from "../servers/image-registry.ts";
import { bridgeTo, dialLink, preambleOf } from "./relay-bench.ts";

/** Generous: a create takes some seconds, and the machine that runs this may be slow. */
const LIMIT_MS = 180_000;

let fleet: FleetInstallation;
let daemon: Daemon | undefined;

beforeEach(async () => {
  fleet = await createFleetInstallation();
});

afterEach(async () => {
  await daemon?.stop();
  daemon = undefined;
  await fleet[Symbol.asyncDispose]();
});

async function start(): Promise<Daemon> {
  daemon = await fleet.start();
  return daemon;
}

const bootedOn = (host: string) => fleet.guests.boots.filter((each) => each.host === host).length;

describe("a fleet of two hosts", { timeout: LIMIT_MS }, () => {
  test("runs jobs on both, leaves nothing there, and tells them no secret but the machine's own", async () => {
    const jobs = await fleet.addJobs(6, { variables: { PLANTED: "a-planted-job-variable" } });
    await start();
    await fleet.succeed(jobs);
    await fleet.empty();

    expect(fleet.guests.failures).toEqual([]);
    expect(bootedOn("metal-1")).toBeGreaterThan(0);
    expect(bootedOn("metal-2")).toBeGreaterThan(0);
    expect(fleet.guests.boots).toHaveLength(6);
    expect(fleet.guests.given).toHaveLength(6);

    const wires = Object.values(fleet.hosts).map(({ wire }) => wire);
    const found = (secret: string) => wires.flatMap((wire) => wire.find(secret));
    const stored = JSON.stringify(
      fleet.guests.boots.map(({ boot }) => [boot.metadata, String(boot.spec.kernel?.cmdline)]),
    );
    const secrets = [
      fleet.runnerToken,
      fleet.apiToken,
      "a-planted-job-variable",
      "a-planted-variable-value",
      ...fleet.guests.given.flatMap(({ machineToken, jobToken }) => [machineToken, jobToken]),
    ];
    for (const secret of secrets) {
      expect(secret.length).toBeGreaterThan(10);
      expect(found(secret)).toEqual([]);
      expect(stored).not.toContain(secret);
    }
    // That it would be found: the machine's secret and the host's token are there.
    for (const { boot } of fleet.guests.boots)
      expect(found(linkOfBoot(boot).secret.reveal())).not.toEqual([]);
    expect(found(hostToken)).not.toEqual([]);
  });

  test("has a job's machine pull what the job names through the relay, and nothing else", async () => {
    await using registry = await startImageRegistry();
    const image = imageOf([tarOf([{ path: "a", content: "a" }])]);
    for (const name of ["team/tool", "team/other"]) registry.put(name, "1", image);
    fleet.settings["containers"] = { registries: { [registry.host]: { plaintext: true } } };
    await fleet.configure("metal-1");
    const named = { name: `${registry.host}/team/tool:1` };
    const [job] = await fleet.addJobs(1, { image: named, script: ["hold"] });
    await start();
    await eventually("the job runs", () => job && fleet.guests.holding.has(job.id), LIMIT_MS);
    const { boot } = fleet.guests.boots[0] ?? {};
    if (boot === undefined) throw new Error("no machine was booted");
    const link = linkOfBoot(boot);
    const bridge = await bridgeTo(() => dialLink(link, preambleOf(boot.id, link)));
    const ask = async (path: string) => {
      const accept = "application/vnd.oci.image.manifest.v1+json";
      const answer = await fetch(`${bridge.url}${path}`, { headers: { accept } });
      return [answer.status, await answer.text()] as const;
    };
    const prefix = `/v2/${registry.host.replace(":", "__")}`;

    const [, told] = await ask("/firerunner/boot");
    const given = await ask(`${prefix}/team/tool/manifests/1`);
    const refused = await ask(`${prefix}/team/other/manifests/1`);
    await bridge.close();
    fleet.guests.release();
    await fleet.succeed(job ? [job] : []);
    const [lost] = await fleet.addJobs(1, { image: { name: `${registry.host}/team/nothing:1` } });
    await eventually("the other job fails", () => lost?.status === "failed", LIMIT_MS);

    expect([lost?.failureReason, fleet.guests.boots.length]).toEqual(["script_failure", 1]);
    expect(lost?.trace.text()).toMatch(/there is no image \S+team\/nothing:1/);
    expect(told).toMatch(/^executor=docker$/m);
    expect(told).toMatch(/^images=0$/m);
    expect(told).toContain(`\nregistries=${registry.host}\n`);
    expect(given).toEqual([200, image.manifest.body.toString()]);
    expect(refused).toEqual([403, expect.stringContaining("egress: none")]);
    expect(job?.trace.text()).toMatch(
      /image \S+team\/tool:1 is sha256:\w+, pulled in the machine, through the relay/,
    );
  });

  test("that loses a host in between goes on with the other one within seconds, and says what is wrong", async () => {
    const running = await start();
    await fleet.succeed(await fleet.addJobs(2));
    await fleet.hosts["metal-1"].vanish();
    const before = bootedOn("metal-2");
    const jobs = await fleet.addJobs(3);
    await fleet.succeed(jobs);
    const sick = await eventually("the host is called sick", async () => {
      const status = await fleet.hostStatus(running, "metal-1");
      return status?.problem ? status : undefined;
    });
    const { out } = await fleet.cli("hosts");
    // One more, now that it is known: not even tried on the host that is away.
    const [late] = await fleet.addJobs(1);
    await fleet.succeed(late ? [late] : []);
    await fleet.hosts["metal-1"].comeBack();
    await eventually("it is well again", async () => !(await fleet.hostStatus(running, "metal-1"))?.problem);
    await fleet.empty();

    expect(bootedOn("metal-2") - before).toBeGreaterThanOrEqual(4);
    expect(sick.problem).toContain("metal-1");
    expect(sick.hint).toBeTruthy();
    expect(out).toMatch(/metal-1 +flintlock +avoided/);
    expect(out).toMatch(/metal-2 +flintlock +ready/);
    expect(unbroken(out)).toContain(`→ ${sick.hint}`);
  });

  test("explains a job by tag that waits because of its hosts", async () => {
    await start();
    await fleet.hosts["metal-1"].vanish();
    await fleet.hosts["metal-2"].vanish();
    await eventually(
      "both are called sick",
      async () => (await fleet.cli("hosts")).out.match(/avoided/g)?.length === 2,
    );
    const [job] = await fleet.addJobs(1, { tags: ["firecracker-2cpu-2gb"] });
    const told = await eventually(
      "why tells of the hosts",
      async () => {
        const { out } = await fleet.cli("why", String(job?.id));
        return /metal-[12]/.test(out) ? out : undefined;
      },
      120_000,
    );
    await fleet.hosts["metal-1"].comeBack();
    await fleet.succeed(job ? [job] : []);
    await fleet.empty();

    expect(told).toMatch(/metal-1/);
  });

  test("changes with the configuration, is drained host by host, and is adopted after a kill", async () => {
    await fleet.configure("metal-1");
    const first = await start();
    const [early] = await fleet.addJobs(1, { script: ["hold"] });
    await eventually("a job runs on the only host", () => fleet.guests.holding.size === 1);
    expect(bootedOn("metal-1")).toBe(1);

    await fleet.configure("metal-2");
    first.signal("SIGHUP");
    await eventually("metal-2 is there", () => fleet.hostStatus(first, "metal-2"));
    const [second] = await fleet.addJobs(1, { script: ["hold"] });
    await eventually("the next job runs on the new one", () => fleet.guests.holding.size === 2);
    const leaving = await fleet.hostStatus(first, "metal-1");
    expect([bootedOn("metal-1"), bootedOn("metal-2")]).toEqual([1, 1]);
    expect(leaving?.problem).toContain("removed from the configuration");

    await fleet.configure("metal-1", "metal-2");
    first.signal("SIGHUP");
    await eventually("metal-1 is back", async () => !(await fleet.hostStatus(first, "metal-1"))?.problem);
    await first.kill9();
    daemon = undefined;
    expect(fleet.hosts["metal-1"].machines()).toHaveLength(1);

    const next = await start();
    await fleet.cli("hosts", "drain", "metal-1", "--no-wait");
    const drained = fleet.cli("hosts", "drain", "metal-1");
    fleet.guests.release();
    await fleet.succeed([early, second].flatMap((job) => job ?? []));
    expect(await drained).toMatchObject({ code: 0, out: expect.stringContaining("no machine is left") });
    await fleet.succeed(await fleet.addJobs(2));
    await fleet.empty();

    expect(bootedOn("metal-1")).toBe(1);
    expect(fleet.guests.boots).toHaveLength(4);
    expect((await fleet.hostStatus(next, "metal-1"))?.drained).toBe(true);
    expect(fleet.guests.failures).toEqual([]);
  });

  test("tries a host out beside its jobs, and one without a FireRunner that runs", async () => {
    const alone = await fleet.cli("image", "verify", "tiny", "--flintlock", "metal-2");
    const running = await start();
    const [held] = await fleet.addJobs(1, { script: ["hold"] });
    await eventually("a job runs", () => fleet.guests.holding.size === 1);
    const checked = await fleet.cli("hosts", "check", "metal-1", "--json");
    const machines = await running.machines();
    fleet.guests.release();
    await fleet.succeed(held ? [held] : []);
    await fleet.empty();

    expect(alone).toMatchObject({ code: 0, err: "" });
    expect(alone.out).toContain("tiny is intact");
    expect(unbroken(alone.out)).toMatch(/guest +spoke to the relay .+ after the create/);
    const trial = JSON.parse(checked.out) as { ok: boolean; relayMs: number };
    expect(trial).toMatchObject({ ok: true, host: "metal-1", image: "tiny" });
    expect(trial.relayMs).toBeGreaterThan(0);
    // The scheduler has seen nothing of it.
    expect(machines).toHaveLength(1);
    const namespaces = fleet.guests.boots.map(({ boot }) => boot.namespace.endsWith("-trial"));
    expect(namespaces.filter(Boolean)).toHaveLength(2);
  });
});
