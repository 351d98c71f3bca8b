import { spawn } from "node:child_process";
import { once } from "node:events";
import { afterEach, describe, expect, test } from "vitest";
import { systemClock } from "../../base/clock.ts";
import {
  hostBootId,
  hostProcesses,
  isAlive,
  killProcess,
  processMark,
  processStartedAt,
} from "./processes.ts";

describe("processes of the host", () => {
  const children: ReturnType<typeof spawn>[] = [];
  const own = process.getuid?.() ?? 0;

  afterEach(() => {
    for (const child of children.splice(0)) child.kill("SIGKILL");
  });

  async function started(directory: string) {
    const child = spawn("/bin/sh", ["-c", "sleep 60 & wait"], { env: processMark(directory) });
    children.push(child);
    await once(child, "spawn");
    await expect.poll(() => marked(directory), { timeout: 5_000 }).toHaveLength(2);
    return child;
  }

  async function marked(directory: string) {
    return (await hostProcesses((uid) => uid === own)).filter((each) => each.machine === directory);
  }

  test("are found by their mark, with their children", async () => {
    const child = await started("/nowhere/fr-aaaaaaaa");
    const found = await marked("/nowhere/fr-aaaaaaaa");

    expect(found.map((each) => each.pid)).toContain(child.pid);
    expect(found.map((each) => each.args[0])).toContain("sleep");
    expect(await hostProcesses(() => false)).toEqual([]);
    for (const each of found) await killProcess(each);
    await expect.poll(() => marked("/nowhere/fr-aaaaaaaa"), { timeout: 5_000 }).toEqual([]);
  });

  test("are told apart from later ones with the same number", async () => {
    const child = await started("/nowhere/fr-bbbbbbbb");
    const found = (await marked("/nowhere/fr-bbbbbbbb")).find((each) => each.pid === child.pid)!;

    await killProcess({ ...found, startTicks: found.startTicks - 1 });

    expect(await isAlive({ ...found, startTicks: found.startTicks - 1 })).toBe(false);
    expect(await isAlive(found)).toBe(true);
    for (const each of await marked("/nowhere/fr-bbbbbbbb")) await killProcess(each);
  });

  test("say when they began", async () => {
    const before = Date.now();
    const child = await started("/nowhere/fr-cccccccc");
    const found = (await marked("/nowhere/fr-cccccccc")).find((each) => each.pid === child.pid)!;

    const startedAt = await processStartedAt(found, systemClock);

    expect(Math.abs(startedAt - before)).toBeLessThan(5_000);
    expect(await hostBootId()).toMatch(/^[0-9a-f-]{36}$/);
    for (const each of await marked("/nowhere/fr-cccccccc")) await killProcess(each);
  });
});
