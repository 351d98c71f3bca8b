import { describe, expect, test } from "vitest";
import { createMachineUsers } from "./users.ts";

describe("the users of machines", () => {
  const range = { first: 5_000, count: 3 };

  test("are separate and unprivileged when started by root, also those of an earlier range", async () => {
    const users = createMachineUsers(async () => [range, { first: 7_000, count: 1 }], 0, "vm.qemu");
    const known = await users.known();

    expect(users.separate).toBe(true);
    expect(known.choose(new Set([5_000, 5_002]))).toBe(5_001);
    expect(known.forTrials).toBe(5_002);
    expect([4_999, 5_000, 5_002, 5_003, 7_000, 0].map(known.isOurs)).toEqual([
      ...[false, true, true, false, true, false],
    ]);
  });

  test("run out with words", async () => {
    const { choose } = await createMachineUsers(async () => [range], 0, "vm.qemu").known();

    expect(() => choose(new Set([5_000, 5_001, 5_002]))).toThrow(/all 3 user ids/);
  });

  test("are claimed once, and again after a failure", async () => {
    let claims = 0;
    const users = createMachineUsers(
      async () => {
        if (claims++ === 0) throw new Error("not now");
        return [range];
      },
      0,
      "vm.qemu",
    );

    await expect(users.known()).rejects.toThrow("not now");
    await users.known();
    await users.known();

    expect(claims).toBe(2);
  });

  test("are ourselves otherwise", async () => {
    const users = createMachineUsers(async () => [range], 1_000, "vm.qemu");
    const known = await users.known();

    expect(users.separate).toBe(false);
    expect(known.choose(new Set())).toBeUndefined();
    expect([1_000, 5_000].map(known.isOurs)).toEqual([true, false]);
  });
});
