import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type CpioEntry, moduleName, planModules, writeCpio } from "./initramfs.ts";

const dep = [
  "kernel/drivers/virtio/virtio_ring.ko:",
  "kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko",
  "kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko",
  "kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko",
  "kernel/net/core/failover.ko:",
  "kernel/fs/overlayfs/overlay.ko.xz:",
  "",
].join("\n");

describe("the modules of an initramfs", () => {
  test("come with what they need, each after its needs and once", () => {
    const plan = planModules(["virtio_net"], dep, "");

    const names = plan.files.map(moduleName);
    expect(names.toSorted()).toEqual(["failover", "net_failover", "virtio", "virtio_net", "virtio_ring"]);
    expect(names.indexOf("virtio_ring")).toBeLessThan(names.indexOf("virtio"));
    expect(names.indexOf("failover")).toBeLessThan(names.indexOf("net_failover"));
    expect(names.at(-1)).toBe("virtio_net");
  });

  test("leave out what the kernel has built in", () => {
    const plan = planModules(["ext4", "overlay"], dep, "kernel/fs/ext4/ext4.ko\n");

    expect(plan.names).toEqual(["overlay"]);
  });

  test("get a modules.dep for one flat directory without compression", () => {
    expect(planModules(["overlay", "virtio_net"], dep, "").dependencies.split("\n")).toContain("overlay.ko:");
    expect(planModules(["net_failover"], dep, "").dependencies).toBe(
      "failover.ko:\nnet_failover.ko: failover.ko\n",
    );
  });

  test("that the kernel package lacks are an error", () => {
    expect(() => planModules(["squashfs"], dep, "")).toThrow("no module squashfs");
  });
});

const entries: CpioEntry[] = [
  { kind: "directory", path: "bin" },
  { kind: "file", path: "bin/tool", mode: 0o755, bytes: Buffer.from("abc") },
  { kind: "file", path: "empty", bytes: new Uint8Array(0) },
  { kind: "symlink", path: "bin/sh", target: "tool" },
  { kind: "character-device", path: "console", major: 5, minor: 1 },
];

/** Reads newc back, field by field, as the kernel does. */
function readCpio(archive: Buffer) {
  const found: { name: string; mode: number; content: string; device: string; mtime: number }[] = [];
  for (let at = 0; ; ) {
    expect(archive.toString("latin1", at, at + 6)).toBe("070701");
    const field = (index: number) =>
      Number.parseInt(archive.toString("latin1", at + 6 + index * 8, at + 14 + index * 8), 16);
    const nameEnd = at + 110 + field(11);
    const name = archive.toString("utf8", at + 110, nameEnd - 1);
    const start = Math.ceil(nameEnd / 4) * 4;
    if (name === "TRAILER!!!") return found;
    const content = archive.toString("utf8", start, start + field(6));
    found.push({ name, mode: field(1), content, device: `${field(9)}:${field(10)}`, mtime: field(5) });
    at = Math.ceil((start + field(6)) / 4) * 4;
  }
}

describe("the cpio writer", () => {
  test("writes what the kernel reads: types, modes, contents, devices", () => {
    expect(readCpio(writeCpio(entries))).toEqual([
      { name: "bin", mode: 0o040755, content: "", device: "0:0", mtime: 0 },
      { name: "bin/tool", mode: 0o100755, content: "abc", device: "0:0", mtime: 0 },
      { name: "empty", mode: 0o100644, content: "", device: "0:0", mtime: 0 },
      { name: "bin/sh", mode: 0o120777, content: "tool", device: "0:0", mtime: 0 },
      { name: "console", mode: 0o020600, content: "", device: "5:1", mtime: 0 },
    ]);
  });

  test("gives the same bytes for the same entries", () => {
    expect(writeCpio(entries).equals(writeCpio(structuredClone(entries)))).toBe(true);
  });
});

describe("busybox", () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "cpio-"));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  test.skipIf(!hasBusybox())("lists the archive", () => {
    writeFileSync(join(directory, "a.cpio"), writeCpio(entries));

    const list = execFileSync("sh", ["-c", `busybox cpio -t < ${directory}/a.cpio 2>/dev/null`], {
      encoding: "utf8",
    });

    expect(list.trim().split("\n")).toEqual(["bin", "bin/tool", "empty", "bin/sh", "console"]);
  });
});

function hasBusybox(): boolean {
  try {
    execFileSync("sh", ["-c", "command -v busybox"]);
    return true;
  } catch {
    return false;
  }
}
