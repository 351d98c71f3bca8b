import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aRestGitLab, type RestGitLab } from "../../test/builders/rest-gitlab.ts";
import { silentLog } from "../base/log.ts";
import { createManualClock, type ManualClock } from "../base/manual-clock.ts";
import { GitLabError } from "../gitlab/errors.ts";
import type { ApiHook, Scope } from "../gitlab/rest-api.ts";
import { createHookHealth, type HookHealth, type HookHealthOptions } from "./hook-health.ts";

const MINUTE = 60_000;
const url = "https://firerunner.example.org/webhook";

let clock: ManualClock;
let gitlab: RestGitLab;
let logged: string[];
let health: HookHealth;

function aHook(overrides: Partial<ApiHook> = {}): ApiHook {
  return {
    id: 5,
    url,
    alertStatus: "executable",
    disabledUntil: undefined,
    jobEvents: true,
    pipelineEvents: true,
    sslVerification: true,
    signingTokenPresent: true,
    ...overrides,
  };
}

async function start(overrides: Partial<HookHealthOptions> = {}): Promise<void> {
  const scope: Scope = { kind: "group", id: 3, path: "group" };
  const note = (_fields: object, message: string) => void logged.push(message);
  const log = { ...silentLog, warn: note, info: note };
  const own = {
    rest: gitlab.rest,
    hookedProjects: () => [],
    scope: async () => scope,
    url,
    clock,
    random: () => 0.5,
    log,
  };
  health = createHookHealth({ ...own, ...overrides });
  health.start();
  await clock.advance(10);
}

beforeEach(() => {
  clock = createManualClock();
  gitlab = aRestGitLab(clock);
  logged = [];
});

afterEach(async () => {
  await health.stop();
});

describe("the hook that leads here", () => {
  test.each([url, `${url}/`, "https://FireRunner.example.org:443/webhook"])(
    "is known by its address %s",
    async (own) => {
      gitlab.hooks = [aHook({ id: 4, url: "https://elsewhere.example.org/webhook" }), aHook({ url: own })];
      await start();

      expect(health.status()).toEqual({
        hooks: [{ id: 5, url: own, ok: true, words: "works" }],
        problem: null,
      });
      expect(logged).toEqual([]);
    },
  );

  test("is told of when GitLab switches it off, and on again", async () => {
    gitlab.hooks = [aHook()];
    await start();
    const disabledUntil = clock.now() + 8 * MINUTE;
    gitlab.hooks = [aHook({ alertStatus: "temporarily_disabled", disabledUntil })];
    await clock.advance(12 * MINUTE);
    const words = expect.stringContaining(new Date(disabledUntil).toISOString());
    expect(health.status().hooks).toMatchObject([{ ok: false, words }]);

    gitlab.hooks = [aHook()];
    await clock.advance(6 * MINUTE);
    expect(health.status().hooks).toMatchObject([{ ok: true }]);
    expect(logged).toEqual(["the webhook does not work", "the webhook works again"]);
  });

  test.each([
    [{ alertStatus: "disabled" }, "switched off by GitLab after many failed deliveries"],
    [{ jobEvents: false }, "does not send job events"],
  ])("with %j has something to be done", async (change, words) => {
    gitlab.hooks = [aHook(change)];
    await start();

    expect(health.status().hooks).toMatchObject([{ ok: false, words: expect.stringContaining(words) }]);
  });

  test("of a GitLab that does not say how it is counts as working", async () => {
    gitlab.hooks = [aHook({ alertStatus: undefined })];
    await start();

    expect(health.status().hooks).toMatchObject([{ ok: true }]);
  });
});

describe("hooks of single projects", () => {
  const hookedProjects = () => [
    { id: 7, path: "group/one" },
    { id: 8, path: "group/two" },
  ];
  const hooksOf = async (scope: Scope): Promise<ApiHook[]> => {
    const refusal = scope.kind === "group" ? "gitlab_not_found" : "gitlab_forbidden";
    if (scope.kind !== "project" || scope.id === 7) throw new GitLabError(refusal, "listing hooks: no");
    return [
      aHook({ id: 6, alertStatus: "disabled" }),
      aHook({ id: 9, url: "https://elsewhere.example.org" }),
    ];
  };

  test.each<Scope>([{ kind: "group", id: 3, path: "group" }, { kind: "instance" }])(
    "are watched where %j can have none",
    async (scope) => {
      await start({ scope: async () => scope, rest: { hooksOf }, hookedProjects });

      const words = expect.stringContaining("of group/two: switched off by GitLab");
      expect(health.status()).toEqual({ hooks: [{ id: 6, url, ok: false, words }], problem: null });
      expect(logged).toEqual(["the webhook does not work"]);
    },
  );

  test("are not asked for while what is served has one, and are few", async () => {
    const asked: string[] = [];
    const many = () => Array.from({ length: 100 }, (_, id) => ({ id, path: `group/${id}` }));
    let hasOwn = true;
    const rest = {
      async hooksOf(scope: Scope): Promise<ApiHook[]> {
        asked.push(scope.kind);
        return scope.kind === "group" && hasOwn ? [aHook()] : [];
      },
    };
    await start({ rest, hookedProjects: many });
    expect(asked).toEqual(["group"]);

    hasOwn = false;
    await clock.advance(5 * MINUTE);

    expect(asked).toHaveLength(22);
    expect(health.status().problem).toContain("“firerunner webhook install” makes it");
  });
});

describe("where there is no hook to watch", () => {
  test("it is said once, with what to do, and that it is there later", async () => {
    await start();
    await clock.advance(30 * MINUTE);
    expect(health.status().problem).toContain("“firerunner webhook install”");

    gitlab.hooks = [aHook()];
    await clock.advance(6 * MINUTE);
    expect(health.status().problem).toBeNull();
    expect(logged).toEqual(["the webhook cannot be watched", "the webhook can be watched again"]);
  });

  test.each([
    [{ url: undefined }, "webhook.url is not configured"],
    [
      { scope: async (): Promise<Scope> => ({ kind: "instance" }) },
      "GitLab has no webhook for the jobs of all",
    ],
  ])("because of the configuration it is said without asking GitLab", async (options, words) => {
    await start(options);

    expect(health.status().problem).toContain(words);
    expect(gitlab.asked).toEqual([]);
  });

  test("because GitLab does not show it, the words say what is missing, and it is asked ever less often", async () => {
    gitlab.before = () => {
      throw new GitLabError("gitlab_forbidden", "listing hooks: GitLab does not allow it (403)", {
        hint: "the API token needs the role Owner in the group",
      });
    };
    await start();
    await clock.advance(60 * MINUTE);

    expect(health.status().problem).toBe(
      "listing hooks: GitLab does not allow it (403); the API token needs the role Owner in the group",
    );
    expect(logged).toHaveLength(1);
    expect(gitlab.count("hooksOf")).toBeLessThan(16);
  });
});
