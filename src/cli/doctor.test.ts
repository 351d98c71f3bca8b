import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Config, loadConfig } from "../config/load.ts";
import type { DoctorCheck, Finding } from "../operations/doctor/findings.ts";
import { hostChecks, programChecks } from "../operations/doctor/host.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-doctor-"));
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function find(checks: readonly DoctorCheck[], name: string): Promise<Finding> {
  const check = checks.find((each) => each.name === name);
  if (!check) throw new Error(`there is no check ${name}`);
  return await check.run(AbortSignal.timeout(15_000));
}

async function config(more: string): Promise<Config> {
  const text = `gitlab: { url: http://127.0.0.1:9 }\npools: { big: { runner: { token: t }, ${more} } }`;
  return await loadConfig({ file: "/f.yaml", env: {}, readFile: async () => ({ text, mode: 0o600 }) });
}

describe("programs", () => {
  test("those that are missing are named with their packages", async () => {
    const checks = programChecks({ PATH: directory });

    const tools = await find(checks, "image tools");

    expect(tools.level).toBe("warn");
    expect(tools.message).toContain("mmdebstrap");
    expect(tools.hint).toMatch(/^apt-get install .*squashfs-tools/);
    expect(tools.hint?.match(/squashfs-tools/g)).toHaveLength(1);
  });

  test("those in the PATH are found", async () => {
    for (const program of [
      "mmdebstrap",
      "mksquashfs",
      "unsquashfs",
      "newuidmap",
      "gpgv",
      "cpio",
      "xz",
      "zstd",
    ]) {
      await writeFile(join(directory, program), "", { mode: 0o755 });
    }

    expect(await find(programChecks({ PATH: directory }), "image tools")).toMatchObject({ level: "ok" });
  });
});

describe("the host", () => {
  test("a machine larger than the computer can never run", async () => {
    const finding = await find(
      hostChecks({ state: directory }, await config("size: { memory: 9TiB }")),
      "memory",
    );

    expect(finding).toMatchObject({ level: "fail", hint: expect.stringContaining("pools.big.size.memory") });
  });

  test("memory and disk are told when they suffice", async () => {
    const checks = hostChecks({ state: directory }, await config("size: { memory: 128MiB }"));

    expect(await find(checks, "memory")).toMatchObject({ level: "ok" });
    expect((await find(checks, "disk")).message).toContain(`free for ${directory}`);
  });

  test("too little disk stops claiming, and says so", async () => {
    const vm = { ...(await config("concurrency: 1")).vm, minFreeDisk: 1024 ** 3 };
    const checks = hostChecks({ state: directory }, { ...(await config("concurrency: 1")), vm });

    expect(await find(checks, "disk")).toMatchObject({
      level: "fail",
      message: expect.stringContaining("minFreeDisk"),
    });
  });

  test("a state directory that others may write to is refused", async () => {
    const state = join(directory, "state");
    await mkdir(state);
    await chmod(state, 0o777);

    expect(await find(hostChecks({ state }, undefined), "state")).toMatchObject({
      level: "fail",
      hint: `chmod go-w ${state}`,
    });
  });

  test("a state directory that is not there yet will be made", async () => {
    const finding = await find(hostChecks({ state: join(directory, "a/b") }, undefined), "state");

    expect(finding).toMatchObject({ level: "ok", message: expect.stringContaining("will be made") });
  });

  test("many machines need many open files", async () => {
    const vm = { ...(await config("concurrency: 1")).vm, maxMachines: 10_000_000 };
    const checks = hostChecks({ state: directory }, { ...(await config("concurrency: 1")), vm });

    expect(await find(checks, "open files")).toMatchObject({
      level: "warn",
      hint: expect.stringContaining("LimitNOFILE"),
    });
  });
});
