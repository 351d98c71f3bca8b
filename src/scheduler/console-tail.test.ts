import { describe, expect, test } from "vitest";
import { aPayload } from "../../test/builders/payload.ts";
import { consoleTail, memoryKills, memoryLine, tellingLines } from "./console-tail.ts";

const payload = aPayload();

test("terminal sequences and control characters are removed, line ends made equal", () => {
  const text = "\u001b[1;31mred\u001b[0m\u0007\r\nnext\rlast\u001b]0;title\u0007!\u0000\u009b";

  expect(consoleTail(text, payload, "machine-token-1")).toBe("red\nnext\nlast!");
});

test("secrets are masked, also when colours are put into their midst, and the machine's own token too", () => {
  const coloured = "masked-secret-\u001b[31mof-the-job";

  const words = consoleTail(
    `${coloured}\ntoken ${payload.token}\nmine machine-token-1\n`,
    payload,
    "machine-token-1",
  );

  expect(words).toBe("[MASKED]\ntoken [MASKED]\nmine [MASKED]");
});

test("the first line is dropped when the console was cut, since it may hold half a secret", () => {
  const cut = `secret-of-the-job\n${"x\n".repeat(8_192)}end\n`;

  expect(consoleTail(cut, payload, "machine-token-1")).not.toContain("secret-of-the-job");
});

test("only the last lines are kept, none of them endless", () => {
  const lines = Array.from({ length: 50 }, (_, index) => `line ${index} ${"y".repeat(1_000)}`);

  const words = consoleTail(lines.join("\n").slice(0, 16_000), payload, "machine-token-1").split("\n");

  expect(words.length).toBeLessThanOrEqual(20);
  expect(Math.max(...words.map((line) => line.length))).toBeLessThanOrEqual(240);
});

describe("of a machine's console", () => {
  test.each([
    "PCI: Fatal: No config space access function found",
    "[    0.084231] PCI: Fatal: No config space access function found",
    "[    0.084231][    T1] PCI: Fatal: No config space access function found",
    "Runtime platform                                    arch=amd64 os=linux pid=164 revision=0 version=18.5.0",
    "Checking for jobs... received                       correlation_id= job=42 repo_url=http://10.0.2.100/group/project.git runner=frmt-aaaa",
    "Added job to processing list                        builds=1 job=42 max_builds=1 project=7 repo_url=",
    "Appending trace to coordinator...ok                 code=202 job=42 job-log=0-1460 job-status=running runner=frmt-aaaa sent-log=0-1459 status=202 Accepted",
    "Updating job...                                     bytesize=1461 checksum=crc32:f1ac329d job=42 runner=frmt-aaaa",
    "WARNING: Job failed: exit status 3                  duration_s=1.02 job=42 project=7 runner=frmt-aaaa",
    "Version: 18.5.0 (FireRunner's stand-in runner)",
    "Job 42: success, GitLab answered 200",
  ])("%j is not shown as a cause", (line) => {
    expect(tellingLines([line])).toEqual([]);
  });

  test.each([
    "[   12.345678] Out of memory: Killed process 212 (node) total-vm:2097152kB, anon-rss:900000kB",
    "[   12.345678] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009",
    "[   12.345678] I/O error, dev vda, sector 2048 op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 2",
    "[   12.345678] EXT4-fs error (device vda): ext4_journal_check_start:83: Detected aborted journal",
    "firerunner: the runner ended with status 137",
    "PANIC: Failed to create executor",
    "FATAL: Runner is not healthy and will be disabled!",
    "what a script wrote to /dev/console",
  ])("%j is", (line) => {
    expect(tellingLines([line])).toEqual([line]);
  });
});

describe("memory is to blame", () => {
  test.each([
    ["[    9.1] Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled", true],
    ["[    9.1] Kernel panic - not syncing: System is deadlocked on memory", true],
    ["[    9.1] Out of memory: Killed process 164 (gitlab-runner) total-vm:1236000kB", true],
    ["[    9.1] Out of memory: Killed process 212 (node) total-vm:2097152kB", false],
    ["[    9.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009", false],
    ["firerunner: the runner ended with status 137", false],
  ])("for %j: %s", (line, isMemory) => {
    const found = memoryLine(["before", line, "firerunner: after"]);

    expect(found !== undefined).toBe(isMemory);
    if (isMemory) expect(found).not.toMatch(/^\[/);
  });
});

test("the kernel's kills for want of memory are counted, and nothing that only looks like one", () => {
  const lines = [
    "[   30.841187] Out of memory: Killed process 99 (tail) total-vm:436600kB, anon-rss:433712kB",
    "[   31.1] Memory cgroup out of memory: Killed process 5 (a) total-vm:1kB",
    "a script said: Out of memory: Killed process 99 (tail)",
    "[   32.000001][ T99] Out of memory: Killed process 101 (python3) total-vm:436600kB",
  ];

  expect(memoryKills(lines)).toBe(2);
});
