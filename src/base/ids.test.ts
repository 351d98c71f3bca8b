import { describe, expect, test } from "vitest";
import { isMachineId, newMachineId } from "./ids.ts";

describe("machine ids", () => {
  test("are what isMachineId accepts, and short enough for the name of a network interface", () => {
    for (let round = 0; round < 1_000; round++) {
      const id = newMachineId();
      expect(isMachineId(id)).toBe(true);
      expect(id.length).toBeLessThanOrEqual(15);
    }
  });

  test("differ", () => {
    expect(new Set(Array.from({ length: 1_000 }, () => newMachineId())).size).toBe(1_000);
  });

  test("come from the randomness that is given", () => {
    const random = (size: number) => Uint8Array.from({ length: size }, (_, index) => index * 32 + 25 + index);

    expect(newMachineId(random)).toBe("fr-z234567a");
  });

  test.each([
    "",
    "fr-",
    "fr-aaaaaaa",
    "fr-aaaaaaaaa",
    "fr-AAAAAAAA",
    "fr-aaaaaaa1",
    "fr-../../aa",
    "fr-aaaaaaaa\n",
  ])("“%s” is no machine id", (text) => {
    expect(isMachineId(text)).toBe(false);
  });
});
