import { readFile, writeFile } from "node:fs/promises";
import { afterEach, describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { smallVolume } from "../builders/small-volume.ts";
import type { Daemon } from "../harness/daemon.ts";
import { createInstallation, type Installation } from "../harness/installation.ts";

const DONE_MS = 150_000;
const asRoot = process.getuid?.() === 0;

/** Text, because zeros become holes. */
const write = (file: string, mib: number) =>
  `yes "a line that no disk takes for a hole" | dd of=${file} bs=1M count=${mib} iflag=fullblock status=none`;

// Only root may mount the small volume.
describe.runIf(asRoot && process.env["FIRERUNNER_SLOW_MACHINES"])(
  "when more disk is promised than there is",
  () => {
    let installation: Installation | undefined;
    let daemon: Daemon | undefined;

    afterEach(async () => {
      await daemon?.stop();
      await installation?.expectNothingLeft();
      await installation?.close();
      [installation, daemon] = [undefined, undefined];
    });

    test("who fills it is ended with the reason, a neighbour succeeds, and nothing is forgotten", async () => {
      await using volume = await smallVolume(512);
      installation = await createInstallation({
        state: volume.path,
        pool: { size: { cpus: 1, memory: "512MiB", disk: "1GiB" } },
        settings: {
          vm: { cpuOvercommit: 4, memoryReserve: "1GiB", minFreeDisk: "128MiB", overcommit: { disk: 12 } },
        },
      });
      const { gitlab } = installation;
      await addPool(installation, "own", { cpus: 1, memory: "512MiB", disk: "160MiB" });
      daemon = await installation.start();
      const project = await gitlab.projects.add();
      const base = { variables: { GIT_STRATEGY: "none" }, timeoutSeconds: 300 };
      const filler = await gitlab.addJob(project, { ...base, script: [write("big", 900), "echo it fitted"] });
      const steps = "for i in $(seq 60); do echo $i >> small; sync; sleep 0.5; done";
      const neighbour = await gitlab.addJob(project, { ...base, script: [steps, "wc -l < small"] });
      const own = await gitlab.addJob(project, { ...base, tags: ["own"], script: [write("big", 300)] });

      await gitlab.waitForJob(own, "failed", DONE_MS);
      await gitlab.waitForJob(filler, "failed", DONE_MS);
      await gitlab.waitForJob(neighbour, "success", DONE_MS);

      // Its own disk is its own business.
      expect(own).toMatchObject({ failureReason: "script_failure" });
      expect(own.trace.text()).toContain("No space left on device");
      expect(filler).toMatchObject({ failureReason: "runner_system_failure" });
      expect(filler.trace.text()).toMatch(/the disk of its host is full.*this one held \d+ MiB/);
      expect(filler.trace.text()).toContain("vm.overcommit.disk");
      expect(filler.trace.text()).not.toContain("it fitted");
      expect(neighbour.trace.text()).toMatch(/^60$/m);
      expect(gitlab.violations).toEqual([]);
      const kinds = await Promise.all(
        [filler, neighbour, own].map(async ({ id }) => eventKinds(await daemon?.get(`/v1/jobs/${id}`))),
      );
      expect(kinds.map((each) => each.at(0))).toEqual(Array(3).fill("job:claimed"));
      expect(kinds.every((each) => each.includes("job:finished"))).toBe(true);
    });
  },
);

/** A pool for the tag of its name. */
async function addPool({ gitlab, configFile, directory }: Installation, name: string, size: object) {
  const runner = gitlab.runners.add({ tags: [name], runUntagged: false });
  const tokenFile = `${directory}/${name}.token`;
  await writeFile(tokenFile, runner.token, { mode: 0o600 });
  const settings = parse(await readFile(configFile, "utf8"));
  settings.pools[name] = { ...settings.pools.small, size, runner: { tokenFile } };
  await writeFile(configFile, stringify(settings), { mode: 0o600 });
}

function eventKinds(story: unknown): string[] {
  return (story as { events: { kind: string }[] }).events.map(({ kind }) => kind);
}
