import { describe, expect, test } from "vitest";
import { createManualClock } from "../base/manual-clock.ts";
import { createFakeDriver } from "./fake/driver.ts";
import { createFakeHost } from "./fake/host.ts";
import { checkImageDisks, unusableSize } from "./spec.ts";

const limits = { mostCpus: 64, leastMemoryMib: 128 };
const size = { cpus: 2, memoryMib: 2_048, diskMib: 1_024 };

describe("a size that a driver cannot give", () => {
  test.each([
    [{ cpus: 0.5 }, "the qemu driver gives whole CPUs only"],
    [{ cpus: 0 }, "the qemu driver gives 1 to 64 CPUs"],
    [{ cpus: 65 }, "the qemu driver gives 1 to 64 CPUs"],
    [{ cpus: Number.NaN }, "the qemu driver gives whole CPUs only"],
    [{ memoryMib: 64 }, "the qemu driver needs 128 MiB of memory"],
    [{ memoryMib: 1_000.5 }, "the qemu driver gives whole MiB of memory only"],
  ])("is explained: %o", (change, problem) => {
    expect(unusableSize("qemu", { ...size, ...change }, limits)).toBe(problem);
  });

  test("is none within the limits", () => {
    expect(unusableSize("qemu", size, limits)).toBeUndefined();
    expect(unusableSize("qemu", { ...size, cpus: 64, memoryMib: 128 }, limits)).toBeUndefined();
  });

  test("can be refused by a fake host as a stricter hypervisor would", () => {
    const oddRefused = (asked: typeof size) =>
      asked.cpus > 1 && asked.cpus % 2 === 1 ? "this driver gives 1 CPU or an even number" : undefined;
    const driver = createFakeDriver({
      host: createFakeHost(createManualClock()),
      sizeProblem: oddRefused,
    });

    expect(driver.sizeProblem({ ...size, cpus: 3 })).toContain("even number");
    expect(driver.sizeProblem({ ...size, cpus: 4 })).toBeUndefined();
  });
});

describe("disks with container images", () => {
  const image = { digest: "sha256:0", architecture: "amd64", kernel: "/k", initramfs: "/i", layers: [] };
  const check = (imageDisks: readonly string[], most: number) => () =>
    checkImageDisks("qemu", { id: "fr-abcdefgh", size, image, imageDisks }, most);

  test("are taken up to the number that the driver says", () => {
    expect(check([], 0)).not.toThrow();
    expect(check(["/a", "/b"], 2)).not.toThrow();
  });

  test.each([
    [["/a"], 0, "cannot give machine fr-abcdefgh disks"],
    [["/a", "/b"], 1, "gives 1 at most"],
    [["a"], 1, "not an absolute path"],
  ])("%o of at most %i are refused", (disks, most, words) => {
    expect(check(disks, most)).toThrow(
      expect.objectContaining({ code: "vm_bad_spec", message: expect.stringContaining(words) }),
    );
  });
});
