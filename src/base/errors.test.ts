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

  test.each([
    ["the proxy cannot be reached: the connection was refused", { syscall: "connect", code: "ECONNREFUSED" }],
    ["the certificate is not trusted (SELF_SIGNED_CERT)", { code: "SELF_SIGNED_CERT" }],
    ["asking: no", { code: "X" }],
  ])("whose causes say nothing more are described without them: %s", (message, system) => {
    const cause = Object.assign(new Error("no"), { address: "127.0.0.1", port: 9, ...system });

    expect(describeError(new RoomError("room_failed", message, { cause }))).toBe(message);
  });

  test("are told without advice that is for those who start Node themselves", () => {
    const advice = "if the root CA is installed locally, try running Node.js with --use-system-ca";

    expect(describeError(new Error(`self-signed certificate; ${advice}`))).toBe("self-signed certificate");
  });

  test("the code of a system error is found, anything else has none", () => {
    expect(systemCode(Object.assign(new Error("no"), { code: "ENOENT" }))).toBe("ENOENT");
    expect(systemCode(Object.assign(new Error("no"), { code: 5 }))).toBeUndefined();
    expect(systemCode({ code: "ENOENT" })).toBeUndefined();
  });
});
