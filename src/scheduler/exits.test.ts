import { expect, test } from "vitest";
import { failureOfExit } from "./exits.ts";

test("a machine that its host's disk ended is blamed on the host's disk, with what is known of it", () => {
  const words = "60 MiB were left for the disks of all machines, and this one held 3.4 GiB";

  expect(failureOfExit({ exit: "host-disk", words }, true)).toEqual({
    reason: `the disk of its host is full, so the machine was ended: ${words}`,
    cause: "host-disk",
  });
  expect(failureOfExit({ exit: "disk-error", words: "Input/output error" }, true)).toMatchObject({
    reason: expect.stringContaining(
      "did not take what the machine wrote, so it was ended: Input/output error",
    ),
    cause: "host-disk",
  });
});

test("a machine killed on a host without memory is blamed on memory", () => {
  expect(failureOfExit({ exit: "host-memory" }, true)).toMatchObject({
    reason: expect.stringContaining("its host's kernel has killed for want of memory"),
    cause: "memory",
  });
});

test("other ends are the machine's", () => {
  expect(failureOfExit({ exit: "crash" }, true)).toEqual({ reason: "the machine crashed", cause: "machine" });
  expect(failureOfExit({ exit: "orderly" }, false).reason).toContain("before it took the job");
});
