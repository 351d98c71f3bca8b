import { describe, expect, test } from "vitest";
import { refusal, registryErrorFrom } from "./errors.ts";

const answer = (status: number, text: unknown, headers: Record<string, string> = {}) => ({
  status,
  text: typeof text === "string" ? text : JSON.stringify(text),
  header: (name: string) => headers[name],
});
const errors = (code: string, message?: string, detail?: unknown) => ({
  errors: [{ code, message, detail }],
});

describe("an answer that is no success", () => {
  test.each([
    [answer(401, errors("UNAUTHORIZED")), "registry_unauthorized"],
    [answer(403, errors("DENIED")), "registry_unauthorized"],
    [answer(404, errors("NAME_UNKNOWN")), "registry_name_unknown"],
    [answer(400, errors("NAME_INVALID")), "registry_name_unknown"],
    [answer(404, "<html>"), "registry_refused"],
    [answer(405, errors("UNSUPPORTED")), "registry_refused"],
    [answer(413, "too large"), "registry_refused"],
    [
      answer(500, errors("UNKNOWN", "unknown error", { Op: "write", Path: "/x", Err: 28 })),
      "registry_no_space",
    ],
    [answer(500, "write /x: no space left on device"), "registry_no_space"],
    [answer(507, ""), "registry_no_space"],
    [answer(500, errors("UNKNOWN", "boom", { Err: 283 })), "registry_unavailable"],
    [answer(503, ""), "registry_unavailable"],
    [answer(400, "Client sent an HTTP request to an HTTPS server.\n"), "registry_tls"],
    [answer(400, "The plain HTTP request was sent to HTTPS port"), "registry_tls"],
  ])("%j is %s", (given, code) => {
    expect(refusal(given, "https://r.example.org", "pushing x")).toMatchObject({
      code,
      hint: expect.any(String),
      message: expect.stringMatching(/^pushing x: .*https:\/\/r\.example\.org/),
    });
  });

  test("is told in the registry's own words, on one line", () => {
    const given = answer(403, errors("DENIED", "quota\n\u001b[31mexceeded"));

    expect(refusal(given, "https://r", "pushing").message).toBe(
      "pushing: https://r answers 403 (DENIED: quota  [31mexceeded)",
    );
  });

  test("says how long to wait", () => {
    expect(refusal(answer(429, "", { "retry-after": "7" }), "https://r", "pushing")).toMatchObject({
      retryable: true,
      retryAfterMs: 7_000,
    });
    expect(refusal(answer(429, ""), "https://r", "pushing").retryAfterMs).toBeUndefined();
  });
});

describe("a failed exchange", () => {
  const failure = (code: string) => Object.assign(new Error("x"), { code });

  test.each([
    ["ECONNREFUSED", "registry_unreachable", /the connection was refused/, true],
    ["ENOTFOUND", "registry_unreachable", /cannot be resolved/, true],
    ["SELF_SIGNED_CERT_IN_CHAIN", "registry_tls", /certificate .* is not trusted/, false],
    ["ERR_TLS_CERT_ALTNAME_INVALID", "registry_tls", /certificate .* is not trusted/, false],
    ["ERR_SSL_WRONG_VERSION_NUMBER", "registry_tls", /does not speak TLS/, false],
    ["EIO", "registry_unreachable", /the exchange failed/, false],
  ])("with %s", (code, expected, message, retryable) => {
    const error = registryErrorFrom(new Error("outer", { cause: failure(code) }), "https://r", "pushing");

    expect(error).toMatchObject({ code: expected, retryable, message: expect.stringMatching(message) });
  });
});
