import { globSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Daemon } from "../harness/daemon.ts";
import { eventually } from "../harness/eventually.ts";
import { createInstallation, type Installation } from "../harness/installation.ts";

const PLANTED = "pl4nted-s3cret-value-0123456789";

describe("planted secrets across a whole run", () => {
  let installation: Installation;
  let daemon: Daemon;
  const commandLines: string[] = [];
  const consoles: string[] = [];

  beforeAll(async () => {
    installation = await createInstallation({ settings: { log: { level: "debug" } } });
    daemon = await installation.start();
    const { gitlab } = installation;
    const project = await gitlab.projects.add({
      variables: [{ key: "PLANTED", value: PLANTED, masked: true }],
    });
    const job = await gitlab.addJob(project, {
      script: [
        'test -n "$PLANTED" && echo it says $PLANTED',
        // What a curious job can find: every process's environment, arguments and every readable file that is not the image's.
        'cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr "\\0" "\\n" > /tmp/seen',
        'grep -c . /tmp/seen | sed "s/^/lines seen: /"',
        'if grep -rEqs "glrt-[A-Za-z0-9_-]{15,}" /etc /run /root /tmp /builds; then echo runner token: $((40 + 2)); fi',
        "sleep 2",
      ],
      variables: { GIT_STRATEGY: "none" },
    });
    await gitlab.waitForJob(job, "running", 30_000);
    const watch = setInterval(() => {
      commandLines.push(...installation.processes().map(({ command }) => command));
      for (const path of globSync(`${installation.state}/machines/*/console*`)) {
        consoles.push(readFileSync(path, "latin1"));
      }
    }, 200);
    await gitlab.waitForJob(job, "success", 150_000).finally(() => clearInterval(watch));
    await installation.expectNothingLeft();
  });

  afterAll(async () => {
    await daemon?.stop();
    await installation?.close();
  });

  test("the job saw its secret, and its log does not show it", () => {
    const [job] = installation.gitlab.jobs.all();

    expect(job?.trace.text()).toContain("it says [MASKED]");
    expect(job?.trace.text()).not.toContain(PLANTED);
  });

  test("FireRunner's own output names neither the secret nor any token", () => {
    const [job] = installation.gitlab.jobs.all();
    const output = daemon.output();

    expect(output).toContain(String(job?.id));
    expect(output).not.toContain(PLANTED);
    expect(output).not.toContain(installation.runnerToken);
    expect(output).not.toContain(job?.token);
  });

  test("no process of the installation carries a secret on its command line", () => {
    const [job] = installation.gitlab.jobs.all();

    expect(commandLines.length).toBeGreaterThan(0);
    for (const secret of [PLANTED, installation.runnerToken, job?.token ?? ""]) {
      expect(commandLines.filter((line) => line.includes(secret))).toEqual([]);
    }
  });

  test("the store's files hold neither payload nor token in clear", async () => {
    const [job] = installation.gitlab.jobs.all();
    await eventually("the job is finished", async () => (await daemon.jobs())[0]?.state === "finished");

    for (const path of globSync(`${installation.state}/firerunner.db*`)) {
      const bytes = readFileSync(path, "latin1");
      for (const secret of [PLANTED, installation.runnerToken, job?.token ?? ""]) {
        expect(bytes.includes(secret), `${path} holds a secret`).toBe(false);
      }
    }
  });

  test("the machine never had a runner token, and its console shows no secret", () => {
    const [job] = installation.gitlab.jobs.all();

    expect(job?.trace.text()).toMatch(/^lines seen: [1-9]\d+$/m);
    expect(job?.trace.text()).not.toContain("runner token: 42");
    expect(consoles.length).toBeGreaterThan(0);
    expect(consoles.filter((text) => text.includes(PLANTED))).toEqual([]);
  });
});
