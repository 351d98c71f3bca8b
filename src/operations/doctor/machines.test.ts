import { expect, test } from "vitest";
import { aHostCapacity } from "../../../test/builders/host-capacity.ts";
import { aPool } from "../../../test/builders/pool.ts";
import { aSize } from "../../../test/builders/size.ts";
import { evaluateCapacity } from "./machines.ts";

const pool = aPool({ size: aSize({ diskMib: 10_240 }) });
const host = (diskMib: number | undefined, driver = "fake") =>
  aHostCapacity({
    key: `${driver}/metal-1`,
    driver,
    capacity: { cpus: 4, memoryMib: 65_536, machines: 4, diskMib },
  });

test("disk that allows fewer machines than all else is a warning with the keys, and none at all a failure", () => {
  expect(evaluateCapacity(pool, [host(102_400)])).toEqual({
    level: "ok",
    message: "4 machines at one time, disk for 10",
  });
  expect(evaluateCapacity(pool, [host(25_600)])).toMatchObject({
    level: "warn",
    message: expect.stringMatching(
      /^disk allows 2 machines .*pools\.small\.size\.disk.*vm\.overcommit\.disk/,
    ),
  });
  expect(evaluateCapacity(pool, [host(5_120)])).toMatchObject({
    level: "fail",
    message: expect.stringContaining("disk allows no machine"),
  });
});

test("a host of a fleet without a disk is said to be unlimited", () => {
  expect(evaluateCapacity({ ...pool, driver: "flintlock" }, [host(undefined, "flintlock")])).toEqual({
    level: "ok",
    message: "4 machines at one time, no limit by disk",
    hint: expect.stringContaining("No disk is configured for metal-1"),
  });
});
