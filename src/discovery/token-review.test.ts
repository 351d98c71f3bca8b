import { describe, expect, test } from "vitest";
import type { Scope, TokenFacts } from "../gitlab/rest-api.ts";
import { reviewHookScope, reviewRole, reviewToken } from "./token-review.ts";

const now = Date.parse("2030-01-01T00:00:00Z");
const DAY_MS = 24 * 3_600_000;
const facts: TokenFacts = {
  name: "ci",
  scopes: ["api"],
  expiresAt: null,
  active: true,
  userId: 7,
  username: "bot",
  isAdmin: false,
};
const group: Scope = { kind: "group", id: 1, path: "g" };
const words = (given: Partial<TokenFacts>) =>
  reviewToken({ ...facts, ...given }, now).map(({ level, message }) => `${level}: ${message}`);

describe("a token", () => {
  test("with the scope api and no end is all that is wanted", () => {
    expect(words({})).toEqual(["ok: the token “ci” of bot is valid for ever"]);
  });

  test.each([
    [15 * DAY_MS, "ok: the token “ci” of bot is valid until 2030-01-16"],
    [14 * DAY_MS, "warn: the token “ci” of bot ends soon, on 2030-01-15"],
    [1, "warn: the token “ci” of bot ends soon, on 2030-01-01"],
    [0, "fail: the token “ci” of bot has expired or was revoked"],
  ])("that ends in %d ms: %s", (leftMs, expected) => {
    expect(words({ expiresAt: now + leftMs })).toEqual([expected]);
  });

  test("that was revoked is refused", () => {
    expect(words({ active: false })).toEqual(["fail: the token “ci” of bot has expired or was revoked"]);
  });

  test("is told each scope that it lacks", () => {
    expect(words({ scopes: ["read_user"] }).slice(1)).toEqual([
      "fail: the token lacks the scope read_api, which is needed to find waiting jobs",
      "fail: the token lacks the scope create_runner, which is needed to make runners",
      "fail: the token lacks the scope manage_runner, which is needed to delete runners",
    ]);
    expect(words({ scopes: ["read_api", "create_runner"] })).toHaveLength(2);
  });

  test("with narrow scopes is enough for all but the hook", () => {
    const narrow = { ...facts, scopes: ["read_api", "create_runner", "manage_runner"] };

    expect(reviewToken(narrow, now).map(({ level }) => level)).toEqual(["ok"]);
    expect(reviewHookScope(narrow)).toMatchObject([
      { level: "warn", message: expect.stringContaining("“firerunner webhook install”") },
    ]);
    expect(reviewHookScope(facts)).toEqual([]);
  });
});

describe("the role of its user", () => {
  test.each<[Scope, number | undefined, string]>([
    [group, 50, "ok"],
    [group, 40, "warn"],
    [group, undefined, "warn"],
    [{ kind: "project", id: 1, path: "g/p" }, 40, "ok"],
    [{ kind: "project", id: 1, path: "g/p" }, 30, "warn"],
    [{ kind: "instance" }, undefined, "fail"],
  ])("in %j with level %s: %s", (scope, level, expected) => {
    expect(reviewRole(scope, facts, level).level).toBe(expected);
  });

  test("says what is needed and what is there", () => {
    expect(reviewRole(group, facts, 30)).toMatchObject({
      message: "runners of group g need the role Owner, and bot has the access level 30 there",
      hint: expect.stringContaining("the role Owner"),
    });
    expect(reviewRole(group, facts, undefined).message).toContain("bot is no member of it");
  });

  test("of an administrator is enough everywhere", () => {
    expect(reviewRole({ kind: "instance" }, { ...facts, isAdmin: true }, undefined).level).toBe("ok");
  });
});
