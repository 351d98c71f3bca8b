import { describe, expect, test } from "vitest";
import { FireRunnerError } from "../../base/errors.ts";
import { createManualClock } from "../../base/manual-clock.ts";
import { Secret } from "../../base/secret.ts";
import type { ApiHook, HookSettings, NamedScope, TokenFacts } from "../../gitlab/rest-api.ts";
import { installHook } from "./hook-installer.ts";
import type { HookInstallOptions, Step } from "./step.ts";

const url = "https://firerunner.example.org/webhook";
const clock = createManualClock();
const facts: TokenFacts = {
  name: "firerunner",
  scopes: ["api"],
  expiresAt: null,
  active: true,
  userId: 7,
  username: "bot",
  isAdmin: false,
};
const goodHook: ApiHook = {
  id: 3,
  url,
  alertStatus: "executable",
  disabledUntil: undefined,
  jobEvents: true,
  pipelineEvents: true,
  sslVerification: true,
  signingTokenPresent: true,
};

/** A GitLab in memory: what it answers may be changed, and what it was asked is kept. */
function aGitLab(change: Partial<HookInstallOptions["rest"]> = {}, hooks: ApiHook[] = []) {
  const asked: string[] = [];
  const given: HookSettings[] = [];
  const rest: HookInstallOptions["rest"] = {
    tokenFacts: async () => facts,
    findScope: async (named) =>
      named.kind === "instance" ? named : { kind: named.kind, id: 12, path: named.name },
    accessLevel: async () => 50,
    hooksOf: async () => hooks,
    async createHook(_scope, settings) {
      given.push(settings);
      asked.push("create");
      return goodHook;
    },
    async updateHook(_scope, id, settings) {
      given.push(settings);
      asked.push(`update ${id}`);
      return goodHook;
    },
    testHook: async (_scope, _id, event) => void asked.push(`test ${event}`),
    ...change,
  };
  return { rest, asked, given };
}

async function install(
  rest: HookInstallOptions["rest"],
  change: Partial<HookInstallOptions> = {},
): Promise<{ steps: Step[]; last: Step | undefined; of: (name: string) => Step | undefined }> {
  const scope: NamedScope = { kind: "project", name: "group/app" };
  const steps: Step[] = [];
  const options = { scope, url, signingKey: new Secret("whsec_PLANTED"), token: undefined, clock };
  const arrivals = async () => [{ event: "Job Hook" }];
  for await (const step of installHook({ rest, ...options, arrivals, ...change })) steps.push(step);
  return { steps, last: steps.at(-1), of: (name) => steps.find((step) => step.name === name) };
}

function refusal(words: string, code = "gitlab_refused") {
  return async () => {
    throw new FireRunnerError(code, `GitLab refused to test the hook: ${words}`);
  };
}

describe("installing the hook", () => {
  test("makes it, has GitLab test it, and sees the event arrive", async () => {
    const gitlab = aGitLab();

    const { steps } = await install(gitlab.rest);

    expect(steps.map(({ level }) => level)).toEqual(Array(7).fill("ok"));
    expect(gitlab.asked).toEqual(["create", "test job_events"]);
    expect(gitlab.given[0]?.signingToken?.reveal()).toBe("whsec_PLANTED");
    expect(JSON.stringify(steps)).not.toContain("PLANTED");
  });

  test("repairs one that is there, and says what was wrong", async () => {
    const bad = { ...goodHook, id: 9, jobEvents: false, sslVerification: false, alertStatus: "disabled" };
    const gitlab = aGitLab({}, [{ ...goodHook, id: 8, url: "https://other.example.org/" }, bad, goodHook]);

    const { of } = await install(gitlab.rest);

    expect(gitlab.asked[0]).toBe("update 9");
    expect(of("hook")).toMatchObject({ level: "warn", message: expect.stringContaining("also hooks 3") });
    expect(of("hook")?.message).toMatch(/job events switched on, certificates are verified, GitLab had/);
  });

  test("names the missing scope of the token, and asks for nothing more", async () => {
    const gitlab = aGitLab({ tokenFacts: async () => ({ ...facts, scopes: ["read_api"] }) });

    const { steps } = await install(gitlab.rest);

    expect(steps).toHaveLength(1);
    expect(steps[0]).toMatchObject({ level: "fail", message: expect.stringContaining("read_api") });
    expect(gitlab.asked).toEqual([]);
  });

  test("warns of a token that ends within two weeks", async () => {
    const expiresAt = clock.now() + 24 * 3_600_000;
    const { of } = await install(aGitLab({ tokenFacts: async () => ({ ...facts, expiresAt }) }).rest);

    expect(of("API token")).toMatchObject({ level: "warn", message: expect.stringContaining("24h0m") });
  });

  test("explains that a whole instance has no hook", async () => {
    const { last } = await install(aGitLab().rest, { scope: { kind: "instance" } });

    expect(last).toMatchObject({
      name: "scope",
      level: "fail",
      hint: expect.stringContaining("--group PATH"),
    });
  });

  test("offers hooks of projects where those of groups are refused", async () => {
    const gitlab = aGitLab({
      hooksOf: refusal("403 Forbidden", "gitlab_forbidden"),
      accessLevel: async () => 40,
    });

    const { last, of } = await install(gitlab.rest, { scope: { kind: "group", name: "group" } });

    expect(of("role")).toMatchObject({ level: "warn", message: expect.stringContaining("Owner") });
    expect(last).toMatchObject({ level: "fail", hint: expect.stringContaining("--project group/PROJECT") });
  });

  test.each([
    ["http://firerunner.example.org/webhook", "not encrypted"],
    ["https://proxy.example.org/ci", "does not end with /webhook"],
  ])("warns of the address %s", async (address, words) => {
    const { of } = await install(aGitLab().rest, { url: address });

    expect(of("address")).toMatchObject({ level: "warn", message: expect.stringContaining(words) });
  });
});

describe("a GitLab that cannot sign", () => {
  const old = { createHook: async () => ({ ...goodHook, signingTokenPresent: undefined }) };

  test("is of no use without a secret token", async () => {
    const { last } = await install(aGitLab(old).rest);

    expect(last).toMatchObject({ name: "proof", level: "fail" });
    expect(last?.hint).toContain("webhook.tokenFile");
  });

  test("is warned of when a secret token stands in", async () => {
    const { of, last } = await install(aGitLab(old).rest, { token: new Secret("word") });

    expect(of("proof")?.level).toBe("warn");
    expect(last?.level).toBe("ok");
  });
});

describe("the test event", () => {
  test("is one of a pipeline where there is no job yet", async () => {
    const asked: string[] = [];
    const { rest } = aGitLab({
      async testHook(_scope, _id, event) {
        asked.push(event);
        if (event === "job_events") await refusal("Ensure the project has CI jobs.")();
      },
    });

    const { last } = await install(rest, { arrivals: async () => [{ event: "Pipeline Hook" }] });

    expect(asked).toEqual(["job_events", "pipeline_events"]);
    expect(last).toMatchObject({ level: "ok", message: expect.stringContaining("there is no job yet") });
  });

  test("cannot be had from an empty project, which is no failure", async () => {
    const { last } = await install(
      aGitLab({ testHook: refusal("Ensure the project has CI pipelines.") }).rest,
    );

    expect(last).toMatchObject({
      level: "warn",
      message: expect.stringContaining("neither a job nor a pipeline"),
    });
  });

  test("is not asked for while no FireRunner runs", async () => {
    const gitlab = aGitLab();

    const { last } = await install(gitlab.rest, { arrivals: async () => undefined });

    expect(gitlab.asked).toEqual(["create"]);
    expect(last).toMatchObject({ level: "warn", hint: expect.stringContaining("firerunner start") });
  });

  test.each([
    ["URL is blocked: Requests to the local network are not allowed", "Outbound requests"],
    ["SSL_connect returned=1 errno=0: certificate verify failed (self-signed certificate)", "certificate"],
    ["Failed to open TCP connection to 203.0.113.9:8443 (Connection refused)", "firewalls"],
    ["Net::OpenTimeout: execution expired", "firewalls"],
    ["getaddrinfo: Name or service not known", "DNS"],
    ['{"message":"webhook-signature does not fit the body"}', "firerunner reload"],
    ['{"message":"its X-Gitlab-Token is wrong"}', "firerunner reload"],
    ['{"message":"its webhook-timestamp is 400 s old: check the clocks"}', "time service"],
    ['{"message":"10.0.0.1 may not deliver webhooks here (http.allow)"}', "http.trustedProxies"],
    ['{"message":"too many requests without a valid token or signature"}', "Wait a minute"],
    ["<html>It works!</html>", "firerunner webhook send --url"],
  ])("that fails with “%s” says what to do", async (words, hint) => {
    const { last } = await install(aGitLab({ testHook: refusal(words) }).rest);

    expect(last).toMatchObject({ name: "test event", level: "fail", hint: expect.stringContaining(hint) });
    expect(last?.message).toContain(words);
  });

  test("that was asked for too often says when to try again", async () => {
    const testHook = refusal("429", "gitlab_rate_limited");
    const { last } = await install(aGitLab({ testHook }).rest);

    expect(last).toMatchObject({ level: "fail", hint: expect.stringContaining("in a minute") });
  });

  test("that went elsewhere is missed", async () => {
    const clockOfItsOwn = createManualClock();
    const installing = install(aGitLab().rest, { arrivals: async () => [], clock: clockOfItsOwn });
    await clockOfItsOwn.advance(16_000);

    expect((await installing).last).toMatchObject({
      level: "fail",
      message: expect.stringContaining("received nothing"),
    });
  });

  test("ends with the signal", async () => {
    const controller = new AbortController();
    const testHook = async () => {
      controller.abort(new Error("interrupted"));
      throw new Error("aborted");
    };

    await expect(install(aGitLab({ testHook }).rest, { signal: controller.signal })).rejects.toThrow(
      "interrupted",
    );
  });
});
