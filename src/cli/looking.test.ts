/** What is looked at from the command line beside `status`: lists with filters, logs of jobs, the verdict for monitoring. */
import { setImmediate } from "node:timers/promises";
import { afterEach, describe, expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { aJobLogs } from "../../test/builders/job-logs.ts";
import { aNewMachine } from "../../test/builders/machine.ts";
import { commandLine } from "../../test/harness/command-line.ts";
import { aControlDaemon, aDaemonStatus, type ControlDaemon } from "../../test/harness/control-daemon.ts";
import { unbroken } from "../../test/harness/unbroken.ts";
import { systemClock } from "../base/clock.ts";
import { visibleWidth } from "../base/text.ts";
import { checkLevels } from "../views/check.ts";
import type { Usage } from "../views/usage.ts";

let daemon: ControlDaemon;

afterEach(async () => {
  await daemon[Symbol.asyncDispose]();
});

async function run(jobId: number, machineId: string): Promise<void> {
  await daemon.store.startJob(jobId, aNewMachine({ id: machineId }));
  await daemon.store.markBooting(machineId);
  await daemon.store.handOver(jobId, machineId);
}

describe("jobs", () => {
  async function fill(): Promise<void> {
    daemon = await aControlDaemon();
    const { store } = daemon;
    await store.claim(aClaim({ jobId: 1, project: "Group/app", pool: "small" }));
    await run(1, "fr-aaaaaaaa");
    await store.finishJob(1, "failed", { cause: "script" });
    await store.claim(aClaim({ jobId: 2, project: "group/sub/lib", pool: "tags:a,b" }));
    await store.finishJob(2, "success");
    await store.claim(aClaim({ jobId: 3, project: "groupother/app", pool: "small" }));
    await run(3, "fr-cccccccc");
  }

  const filters = [
    ["", [3, 2, 1]],
    ["--live", [3]],
    ["-n 1", [3]],
    ["--project group", [2, 1]],
    ["--project group/app", [1]],
    ["--project https://gitlab.example.com/group/app/-/jobs", [1]],
    ["--project nobody/%", []],
    ["--pool small", [3, 1]],
    ["--pool tags:a,b", [2]],
    ["--state running", [3]],
    ["--state running,finished", [3, 2, 1]],
    ["--state running --state finished", [3, 2, 1]],
    ["--result failed", [1]],
    ["--result failed,SUCCESS --pool small", [1]],
    ["--live --pool tags:a,b", []],
    ["--since 1h", [3, 2, 1]],
    ["--since 2020-01-01", [3, 2, 1]],
    ["--since 0s", []],
  ] as const;

  test("are those that the filters leave", async () => {
    await fill();
    while (systemClock.now() === (await daemon.store.job(3))?.claimedAt) await setImmediate();

    for (const [words, expected] of filters) {
      const argv = words.split(" ").filter((word) => word !== "");
      const { code, out } = await daemon.firerunner("jobs", ...argv, "--json");
      const ids = (JSON.parse(out) as { id: number }[]).map(({ id }) => id);
      expect([words, code, ids]).toEqual([words, 0, expected]);
    }
  });

  test("are not listed for filters that make no sense", async () => {
    daemon = await aControlDaemon();

    for (const [words, holds] of [
      ["--state sleeping", "Give some of claimed, starting"],
      ["--result red", "Give some of success, failed"],
      ["--since tomorrow", "Give a time that has passed"],
      ["--since 2999-01-01", "Give a time that has passed"],
      ["--since 2026-13-45", "Give a time that has passed"],
      ["--project /", "Give the path"],
    ] as const) {
      const { code, err } = await daemon.firerunner("jobs", ...words.split(" "));
      expect([words, code]).toEqual([words, 2]);
      expect(unbroken(err)).toContain(holds);
    }
  });

  test("that are not there are not taken for none at all", async () => {
    await fill();

    expect((await daemon.firerunner("jobs", "--pool", "large")).err).toBe("No job is like that.\n");
  });
});

describe("logs of a job", () => {
  const text = "building\u001b[31m red\n";

  test("are what it has written lately, and what comes", async () => {
    daemon = await aControlDaemon({ jobLogs: aJobLogs({ 1: text }) });
    await daemon.store.claim(aClaim({ jobId: 1 }));
    await run(1, "fr-aaaaaaaa");

    expect((await daemon.firerunner("logs", "1")).out).toBe("building red\n");
    expect((await daemon.firerunner("logs", "1", "--raw")).out).toBe(text);
    expect((await daemon.firerunner("logs", "1", "-f")).out).toBe("building red\nand more\n");
    expect(JSON.parse((await daemon.firerunner("logs", "1", "--json")).out)).toEqual({ jobId: 1, text });
    expect((await daemon.firerunner("logs", "https://gl/g/p/-/jobs/1", "--console")).out).toBe("booted\n");
  });

  test("that has not begun are waited for", async () => {
    daemon = await aControlDaemon({ jobLogs: aJobLogs({ 1: text }) });
    await daemon.store.claim(aClaim({ jobId: 1 }));
    const following = daemon.firerunner("logs", "1", "-f");
    await daemon.firerunner("jobs");
    await run(1, "fr-aaaaaaaa");

    expect(await following).toMatchObject({ code: 0, out: "building red\nand more\n" });
  });

  test("say where they are when they are not here", async () => {
    daemon = await aControlDaemon();
    const { store } = daemon;
    await store.claim(aClaim({ jobId: 1, project: "g/app" }));
    await store.finishJob(1, "success");
    await store.claim(aClaim({ jobId: 2 }));
    await store.claim(aClaim({ jobId: 3 }));
    await run(3, "fr-aaaaaaaa");
    const told = async (...argv: string[]) => {
      const { code, err } = await daemon.firerunner("logs", ...argv);
      return `${code} ${unbroken(err)}`;
    };

    expect(await told("1")).toContain("4 firerunner: job 1 has ended, and its log is in GitLab alone");
    expect(await told("1")).toContain("https://gitlab.example.com/g/app/-/jobs/1");
    expect(await told("1", "-f")).toContain("in GitLab alone");
    expect(await told("2")).toContain("4 firerunner: job 2 has no log yet");
    expect(await told("2", "--console")).toContain("4 firerunner: job 2 has no machine");
    expect(await told("3")).toContain("has come by since FireRunner was started");
    expect(await told("4")).toContain("4 firerunner: job 4 is not known here");
    expect(await told("4", "-f")).toContain("4 firerunner: job 4 is not known here");
    expect(await told("nonsense")).toContain("2 firerunner:");
  });
});

describe("status --check", () => {
  test("is a line and an exit code", async () => {
    daemon = await aControlDaemon();

    const { code, out, err } = await daemon.firerunner("status", "--check");

    expect([code, err]).toEqual([0, ""]);
    expect(out).toMatch(/^FIRERUNNER OK - 0 running, .* \| running=0;;;0 .*\n$/);
    expect(out.split("\n")).toHaveLength(2);
  });

  test("is JSON with the same figures", async () => {
    daemon = await aControlDaemon({ status: () => ({ ...aDaemonStatus, mode: "drain" }) });

    const { code, out } = await daemon.firerunner("status", "--check", "--json");

    expect(code).toBe(1);
    expect(JSON.parse(out)).toMatchObject({
      code: 1,
      level: "warning",
      problems: [{ level: "warning", text: expect.stringContaining("draining") }],
      figures: expect.arrayContaining([{ name: "pools_ready", value: 1, most: 1 }]),
    });
  });

  test("goes by how long jobs may wait", async () => {
    daemon = await aControlDaemon();
    await daemon.store.claim(aClaim());

    expect((await daemon.firerunner("status", "--check", "--warning", "0s")).code).toBe(1);
    expect((await daemon.firerunner("status", "--check", "--critical", "0s")).code).toBe(2);
    expect((await daemon.firerunner("status", "--check", "--critical", "soon")).err).toContain("a duration");
  });

  test("is critical when FireRunner does not run, and unknown when nobody can tell", async () => {
    daemon = await aControlDaemon();
    await daemon.close();

    const away = await daemon.firerunner("status", "--check");
    expect(away.code).toBe(checkLevels.indexOf("critical"));
    expect(away.out).toContain("FIRERUNNER CRITICAL - no FireRunner runs with the state directory");

    const lost = await commandLine("status", "--check", "--config", "/nowhere.yaml");
    expect(lost.code).toBe(checkLevels.indexOf("unknown"));
    expect(lost.out).toMatch(/^FIRERUNNER UNKNOWN - .*nowhere.yaml.*\n$/);
  });

  test("is critical when it hangs, and does not hang with it", async () => {
    daemon = await aControlDaemon({ status: () => new Promise(() => {}) });

    const { code, out } = await daemon.firerunner("status", "--check", "--timeout", "300ms");

    expect(code).toBe(2);
    expect(out).toBe("FIRERUNNER CRITICAL - FireRunner does not answer within 300 ms\n");
  });
});

describe("events", () => {
  test("are the last of all, oldest first", async () => {
    daemon = await aControlDaemon();
    for (const jobId of [1, 2, 3]) await daemon.store.claim(aClaim({ jobId }));

    const { out: stdout } = await daemon.firerunner("events", "-n", "2");
    const { out: json } = await daemon.firerunner("events", "-n", "2", "--json");

    expect(stdout.split("\n").filter((line) => /job \d/.test(line))).toEqual([
      expect.stringMatching(/ job 2 .*claimed from GitLab/),
      expect.stringMatching(/ job 3 .*claimed from GitLab/),
    ]);
    expect(JSON.parse(json).events.map(({ jobId }: { jobId: number }) => jobId)).toEqual([2, 3]);
  });
});

describe("retry", () => {
  test("names the job that GitLab has made, and why it may fail again", async () => {
    daemon = await aControlDaemon({
      retryJob: async (id) => ({
        id: id + 1,
        webUrl: "https://gitlab.example.com/-/jobs/8",
        note: "there is none",
      }),
    });

    const { out: stdout } = await daemon.firerunner("retry", "https://gitlab.example.com/group/app/-/jobs/7");

    expect(unbroken(stdout)).toContain("anew as job 8: https://gitlab.example.com/-/jobs/8");
    expect(unbroken(stdout)).toContain("it may fail again: there is none");
  });
});

describe("usage", () => {
  async function fill(): Promise<void> {
    daemon = await aControlDaemon();
    const { store } = daemon;
    for (let jobId = 1; jobId <= 6; jobId++) {
      await store.claim(aClaim({ jobId, project: "group/app", queuedMs: 2_000 }));
      await run(jobId, `fr-aaaaaaa${jobId + 1}`);
      await store.notePeaks(jobId, `fr-aaaaaaa${jobId + 1}`, { memoryMib: 100 * jobId, diskMib: 64 });
    }
    await store.claim(aClaim({ jobId: 7, project: "group/lib", pool: "large" }));
  }

  test("is a table with what was asked for and what would do", async () => {
    await fill();

    const { out, err } = await daemon.firerunner("usage");

    expect(out).toMatch(/^PROJECT +JOBS +.*SUGGESTED\n/);
    expect(out).toMatch(/group\/app +6 .* 2\.\d s +600 MiB\/1 GiB .*768 MiB, 256 MiB\n/);
    expect(out).toMatch(/group\/lib +1 .* -\/1 GiB .*-\n/);
    expect([...out.split("\n"), ...err.split("\n")].filter((line) => visibleWidth(line) > 80)).toEqual([]);
    expect(unbroken(err)).toContain("of memory and of disk that peak and a quarter more");
    expect((await daemon.firerunner("why", "6")).out).toContain(
      "used: 600 MiB of 1 GiB memory, 64 MiB of 4 GiB disk",
    );
  });

  test("is the same as JSON, in units with names", async () => {
    await fill();

    const usage = JSON.parse((await daemon.firerunner("usage", "--by", "pool", "--json")).out);

    expect(usage).toMatchObject({
      by: "pool",
      groups: expect.arrayContaining([
        expect.objectContaining({
          key: "small",
          jobs: 6,
          memory: { asked: { least: 1_024, most: 1_024 }, peak: 600, jobs: 6, suggested: 768 },
          disk: { asked: { least: 4_096, most: 4_096 }, peak: 64, jobs: 6, suggested: 256 },
        }),
      ]),
    });
  });

  test("can be had of one project, pool and time", async () => {
    await fill();
    const keys = async (...argv: string[]) => {
      const { out } = await daemon.firerunner("usage", "--json", ...argv);
      return (JSON.parse(out) as Usage).groups.map(({ key }) => key);
    };

    expect(await keys("--project", "group/lib")).toEqual(["group/lib"]);
    expect(await keys("--pool", "large")).toEqual(["group/lib"]);
    expect(await keys("--by", "tag")).toEqual([null]);
    expect(await keys("--since", "2d", "--until", "1d")).toEqual([]);
    expect((await daemon.firerunner("usage", "--since", "2d", "--until", "1d")).err).toContain(
      "No job was here",
    );
    expect((await daemon.firerunner("usage", "--by", "colour")).code).toBe(2);
  });
});
