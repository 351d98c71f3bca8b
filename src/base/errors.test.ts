import { describe, expect, test } from "vitest";
import { describeError, FireRunnerError, systemCode } from "./errors.ts";

class RoomError extends FireRunnerError {}

describe("errors", () => {
  test("keep code, hint, cause and the name of their class", () => {
    const cause = new Error("disk gone");
    const error = new RoomError("room_failed", "saving failed", {
      cause,
      hint: "free space",
      retryable: true,
    });

    expect(error).toMatchObject({
      name: "RoomError",
      code: "room_failed",
      message: "saving failed",
      hint: "free space",
      retryable: true,
      cause,
    });
  });

  test("are not worth another try unless their thrower says so", () => {
    const error = new RoomError("room_failed", "saving failed");

    expect(error.retryable).toBe(false);
    expect("cause" in error).toBe(false);
  });

  test("are described with all their causes", () => {
    const refused = Object.assign(new Error(""), { code: "ECONNREFUSED" });
    const error = new RoomError("room_failed", "asking GitLab failed", {
      cause: new Error("fetch failed", { cause: refused }),
    });

    expect(describeError(error)).toBe("asking GitLab failed: fetch failed: ECONNREFUSED");
    expect(describeError("just text")).toBe("just text");
  });

  test("the code of a system error is found, anything else has none", () => {
    expect(systemCode(Object.assign(new Error("no"), { code: "ENOENT" }))).toBe("ENOENT");
    expect(systemCode(Object.assign(new Error("no"), { code: 5 }))).toBeUndefined();
    expect(systemCode({ code: "ENOENT" })).toBeUndefined();
  });
});
