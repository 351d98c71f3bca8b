import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { silentLog } from "../base/log.ts";
import { createManualClock, type ManualClock } from "../base/manual-clock.ts";
import { GitLabError } from "../gitlab/errors.ts";
import type { Scope, TokenFacts } from "../gitlab/rest-api.ts";
import { createTokenCheck, reviewRole, reviewToken, type TokenCheck } from "./token-review.ts";

const DAY = 86_400_000;
const group: Scope = { kind: "group", id: 3, path: "example" };

let clock: ManualClock;
let facts: TokenFacts;
let level: number | undefined;
let failure: Error | undefined;
let asked: number;
let logged: string[];
let check: TokenCheck | undefined;

beforeEach(() => {
  clock = createManualClock();
  const own = { name: "ci", username: "bot", userId: 7, isAdmin: false };
  facts = { ...own, scopes: ["api"], active: true, expiresAt: null };
  level = 50;
  failure = undefined;
  asked = 0;
  logged = [];
});

afterEach(async () => {
  await check?.stop();
});

/** What is wrong with the token, once it has been looked at. */
async function problems(scope: Scope = group): Promise<string[] | undefined> {
  const note = (_fields: object, message: string) => void logged.push(message);
  const rest = {
    async tokenFacts() {
      asked++;
      if (failure) throw failure;
      return facts;
    },
    accessLevel: async () => level,
  };
  const log = { ...silentLog, info: note, warn: note };
  check = createTokenCheck({ rest, scope: async () => scope, clock, log });
  expect(check.status()).toBeNull();
  check.start();
  await clock.advance(10);
  return check.status()?.problems;
}

describe("an API token", () => {
  test("that may do everything has no problem, and is looked at once a day", async () => {
    expect(await problems()).toEqual([]);
    await clock.advance(10 * DAY);

    expect(asked).toBe(11);
    expect(check?.status()).toEqual({ summary: "“ci” of bot, without an end", problems: [] });
    expect(logged).toEqual([]);
  });

  test("lacks scopes: each is named, with what it is for", async () => {
    facts = { ...facts, scopes: ["read_api"] };

    expect(await problems()).toEqual([
      expect.stringContaining("lacks the scope create_runner, which is needed to make runners"),
      expect.stringContaining("lacks the scope manage_runner, which is needed to delete runners"),
    ]);
  });

  test.each<[string, Scope, number | undefined, string[]]>([
    ["Owner of a group", group, 50, []],
    ["Maintainer of a group", group, 40, ["has the access level 40 there"]],
    ["no member", group, undefined, ["is no member"]],
    ["Maintainer of a project", { ...group, kind: "project" }, 40, []],
    ["no administrator", { kind: "instance" }, undefined, ["is no administrator"]],
  ])("of a user who is %s", async (_who, scope, has, words) => {
    level = has;

    expect(await problems(scope)).toEqual(words.map((each) => expect.stringContaining(each)));
  });

  test("with narrow scopes has no problem: only the hook's installation needs more", async () => {
    facts = { ...facts, scopes: ["read_api", "create_runner", "manage_runner"] };

    expect(await problems()).toEqual([]);
  });

  test("is judged as the doctor does, word for word", async () => {
    facts = { ...facts, scopes: ["read_api"], expiresAt: clock.now() + DAY };
    level = 40;
    const findings = [...reviewToken(facts, clock.now()), reviewRole(group, facts, level)];

    expect(findings.map((each) => each.level)).toEqual(["warn", "fail", "fail", "warn"]);
    expect(await problems()).toEqual(findings.map(({ message, hint }) => `${message}. ${hint}`));
  });

  test("of an administrator needs no role", async () => {
    facts = { ...facts, isAdmin: true };
    level = undefined;

    expect(await problems({ kind: "instance" })).toEqual([]);
  });
});

describe("the end of an API token", () => {
  test("is warned of from 14 days ahead, and told when it has come", async () => {
    facts = { ...facts, expiresAt: clock.now() + 16.5 * DAY };

    expect(await problems()).toEqual([]);
    await clock.advance(3 * DAY);
    expect(check?.status()?.problems).toEqual([expect.stringContaining("ends soon")]);
    await clock.advance(14 * DAY);
    expect(check?.status()?.problems).toEqual([expect.stringContaining("has expired or was revoked")]);
    expect(logged.length).toBeGreaterThan(0);
  });

  test("is over as soon as somebody has changed the token", async () => {
    facts = { ...facts, active: false };

    expect(await problems()).toEqual([expect.stringContaining("has expired or was revoked")]);
    facts = { ...facts, active: true };
    check?.wake();
    await clock.advance(10);

    expect(check?.status()?.problems).toEqual([]);
    expect(logged).toEqual(["the API token needs attention", "the API token may do what is needed"]);
  });
});

test("a token that cannot be looked at says why, and is looked at again some minutes later", async () => {
  failure = new GitLabError("gitlab_api_token", "GitLab answers 401", { hint: "make another" });

  expect(await problems()).toEqual([expect.stringContaining("GitLab answers 401 (make another)")]);
  await clock.advance(DAY / 24);
  expect(asked).toBeLessThan(20);
  failure = undefined;
  await clock.advance(300_000);

  expect(check?.status()?.problems).toEqual([]);
});
