import { afterEach, expect, test } from "vitest";
import type { Daemon } from "../../harness/daemon.ts";
import { createInstallation, type Installation } from "../../harness/installation.ts";

const JOB_MS = 200_000;

let installation: Installation | undefined;
let daemon: Daemon | undefined;

afterEach(async () => {
  await daemon?.stop();
  await installation?.close();
});

test("a job runs in a machine that KVM drives, from the claim to the end", async () => {
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
    script: [
      "cat word.txt",
      "echo hypervisor: $(cat /sys/hypervisor/type 2>/dev/null || grep -c hypervisor /proc/cpuinfo)",
    ],
  });
  await gitlab.waitForJob(job, ({ trace }) => trace.text().includes("from git\n"), JOB_MS);
  const accelerated = installation.processes().filter(({ command }) => command.includes("-accel kvm"));
  await gitlab.waitForJob(job, "success", JOB_MS);
  await installation.expectNothingLeft();

  expect(accelerated).toHaveLength(1);
  expect(gitlab.violations).toEqual([]);
});
