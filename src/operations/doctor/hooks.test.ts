import { describe, expect, test } from "vitest";
import type { ApiHook } from "../../gitlab/rest-api.ts";
import { evaluateHooks, type HookExpectations } from "./tagged.ts";

const url = "https://firerunner.example.org/webhook";
const hook: ApiHook = {
  id: 3,
  url,
  alertStatus: "executable",
  disabledUntil: undefined,
  jobEvents: true,
  pipelineEvents: true,
  sslVerification: true,
  signingTokenPresent: true,
};
const wanted: HookExpectations = {
  scope: { kind: "group", id: 12, path: "example/apps" },
  url,
  isOpen: true,
  keys: 1,
  tokens: 0,
  pollMs: 60_000,
  now: Date.parse("2026-01-01T00:00:00Z"),
};

test("a hook that leads here and sends what is wanted is well", () => {
  const other = { ...hook, id: 4, url: "https://elsewhere.example.org/webhook", jobEvents: false };

  expect(evaluateHooks([other, { ...hook, url: `${url}/` }], wanted)).toEqual({
    level: "ok",
    message: "hook 3 leads here and works",
  });
});

describe("a hook with a problem is a warning, with the command that repairs it", () => {
  const disabledUntil = Date.parse("2026-01-01T01:00:00Z");
  test.each<[string, Partial<ApiHook>]>([
    ["does not send job events", { jobEvents: false }],
    ["does not send pipeline events", { pipelineEvents: false }],
    ["does not verify the public server's certificate", { sslVerification: false }],
    ["switched off by GitLab after many", { alertStatus: "disabled" }],
    ["until 2026-01-01T01:00:00.000Z", { alertStatus: "temporarily_disabled", disabledUntil }],
    ["does not sign what it sends", { signingTokenPresent: false }],
    ["GitLab is older than 19.0", { signingTokenPresent: undefined }],
  ])("%s", (words, changes) => {
    const finding = evaluateHooks([{ ...hook, ...changes }], wanted);

    expect(finding).toMatchObject({ level: "warn", hint: expect.stringContaining("webhook install") });
    expect(finding.message).toContain(words);
  });
});

describe("what proves a delivery", () => {
  test.each<[number, number, boolean | undefined, "ok" | "warn"]>([
    [1, 0, true, "ok"],
    [1, 1, false, "ok"],
    [0, 1, false, "ok"],
    [0, 1, undefined, "ok"],
    [1, 0, false, "warn"],
    [0, 0, true, "warn"],
  ])("with %i keys, %i tokens and a hook that says %s", (keys, tokens, signingTokenPresent, level) => {
    const finding = evaluateHooks([{ ...hook, signingTokenPresent }], { ...wanted, keys, tokens });

    expect(finding.level).toBe(level);
  });
});

describe("without a hook that leads here jobs are found by looking", () => {
  test.each<[string, Partial<HookExpectations>, string]>([
    ["none", { scope: { kind: "project", id: 7, path: "example/app" } }, "project example/app has none"],
    ["a closed server", { url: undefined, isOpen: false }, "http.listen is empty"],
    ["no address", { url: undefined }, "webhook.url is missing"],
    ["a whole GitLab", { scope: { kind: "instance" } }, "no webhook for the jobs of all"],
  ])("%s", (_what, changes, words) => {
    const finding = evaluateHooks([], { ...wanted, ...changes });

    expect(finding.level).toBe("warn");
    expect(finding.message).toContain(words);
    expect(finding.hint).toContain("webhook install");
  });
});

test("two hooks that lead here are one too many", () => {
  expect(evaluateHooks([hook, { ...hook, id: 9 }], wanted)).toEqual({
    level: "warn",
    message: "2 hooks lead here (3, 9): every event comes 2 times",
    hint: "Delete all but one in GitLab.",
  });
});
