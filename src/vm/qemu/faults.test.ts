import { expect, test } from "vitest";
import { faultOfEvent, faultOfStatus } from "./control.ts";

const failedWrite = { device: "scratch", operation: "write", action: "report", nospace: false };

test.each([
  ["BLOCK_IO_ERROR", { ...failedWrite, nospace: true, reason: "No space left on device" }, "host-disk"],
  ["BLOCK_IO_ERROR", { ...failedWrite, reason: "Disk quota exceeded" }, "host-disk"],
  ["BLOCK_IO_ERROR", { ...failedWrite, action: "stop", nospace: true }, "host-disk"],
  ["BLOCK_IO_ERROR", { ...failedWrite, reason: "Input/output error" }, "disk-error"],
  ["BLOCK_IO_ERROR", { ...failedWrite, reason: 7 }, "disk-error"],
  ["BLOCK_IO_ERROR", { ...failedWrite, operation: "read", reason: "Input/output error" }, undefined],
  ["BLOCK_IO_ERROR", { ...failedWrite, action: "ignore" }, undefined],
  ["STOP", {}, undefined],
  ["RTC_CHANGE", { offset: 1 }, undefined],
])("%s %j ends the machine as %s", (event, data, exit) => {
  expect(faultOfEvent(event, data)?.exit).toBe(exit);
});

test.each([
  [{ running: false, status: "io-error" }, "host-disk"],
  [{ running: false, status: "internal-error" }, "crash"],
  [{ running: true, status: "running" }, undefined],
  [{ running: false, status: "prelaunch" }, undefined],
  ["nonsense", undefined],
  [undefined, undefined],
])("a hypervisor that is %j has a machine that ends as %s", (answer, exit) => {
  expect(faultOfStatus(answer)?.exit).toBe(exit);
});
