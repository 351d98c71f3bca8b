import { afterEach, expect, test } from "vitest";
import type { Daemon } from "../../harness/daemon.ts";
import { createInstallation, type Installation } from "../../harness/installation.ts";

/** Measured three minutes with a busy computer around; one of them goes by while the program loads. */
const JOB_MS = 400_000;

let installation: Installation | undefined;
let daemon: Daemon | undefined;

afterEach(async () => {
  await daemon?.stop();
  await installation?.close();
});

test(
  "a job runs in a machine that KVM drives, from the claim to the end",
  async () => {
    installation = await createInstallation({
      settings: { vm: { memoryReserve: "1GiB", qemu: { trialBoot: "3m" } } },
    });
    daemon = await installation.start();
    const { gitlab } = installation;
    const project = await gitlab.projects.add({
      path: "group/metal",
      repository: { files: { "word.txt": "from git\n" } },
    });

    const job = await gitlab.addJob(project, {
      timeoutSeconds: 600,
      // Long enough for its log to be sent while it runs.
      script: ["cat word.txt", "sleep 15"],
    });
    await gitlab.waitForJob(job, ({ trace }) => trace.text().includes("from git\n"), JOB_MS);
    const accelerated = installation.processes().filter(({ command }) => command.includes("-accel kvm"));
    await gitlab.waitForJob(job, "success", JOB_MS);
    await installation.expectNothingLeft();

    expect(accelerated).toHaveLength(1);
    expect(gitlab.violations).toEqual([]);
  },
  2 * JOB_MS,
);
