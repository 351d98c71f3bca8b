import { describe, expect, test } from "vitest";
import { createMachineUsers } from "./users.ts";

describe("the users of machines", () => {
  const range = { firstUserId: 5_000, userIds: 3 };

  test("are separate and unprivileged when started by root", () => {
    const users = createMachineUsers(range, 0);

    expect(users.separate).toBe(true);
    expect(users.choose(new Set([5_000, 5_002]))).toBe(5_001);
    expect([4_999, 5_000, 5_002, 5_003, 0].map(users.isOurs)).toEqual([false, true, true, false, false]);
  });

  test("run out with words", () => {
    const users = createMachineUsers(range, 0);

    expect(() => users.choose(new Set([5_000, 5_001, 5_002]))).toThrow(/all 3 user ids/);
  });

  test("are ourselves otherwise", () => {
    const users = createMachineUsers(range, 1_000);

    expect(users.separate).toBe(false);
    expect(users.choose(new Set())).toBeUndefined();
    expect([1_000, 5_000].map(users.isOurs)).toEqual([true, false]);
  });
});
