import { expect, test } from "vitest";
import { answer, type SeenRequest, startHttpServer } from "../../../test/servers/http-server.ts";
import { directRoutes } from "../../base/proxy/routes.ts";
import { Secret } from "../../base/secret.ts";
import { installConfiguredHook } from "./hook-installer.ts";
import type { HookRequest, Step } from "./step.ts";

const url = "https://firerunner.example.org/webhook";
const hook = {
  id: 3,
  url,
  job_events: true,
  pipeline_events: true,
  enable_ssl_verification: true,
  alert_status: "executable",
  signing_token_present: true,
};

/** What GitLab answers by method and path below /api/v4; anything else is 404. */
const answers: Readonly<Record<string, unknown>> = {
  "GET /personal_access_tokens/self": { name: "ci", scopes: ["api"], active: true, user_id: 7 },
  "GET /user": { username: "bot" },
  "GET /groups/example%2Fapps?with_projects=false": { id: 12, full_path: "example/apps" },
  "GET /groups/12/members/all/7": { access_level: 50 },
  "POST /groups/12/hooks": hook,
  "POST /groups/12/hooks/3/test/job_events": { message: "201 Created" },
};

function answerOf({ method, path }: SeenRequest): unknown {
  const call = `${method} ${path.replace("/api/v4", "")}`;
  return call.startsWith("GET /groups/12/hooks?") ? [] : answers[call];
}

test("the hook is made with the configuration's token, newest key and GitLab", async () => {
  await using gitlab = await startHttpServer((request, response) => {
    const body = answerOf(request);
    answer(response, body === undefined ? 404 : 200, body ?? { message: "404 Not Found" });
  });
  const secrets = {
    apiToken: new Secret("glpat-PLANTED"),
    signingKeys: [new Secret("whsec_new"), new Secret("whsec_old")],
    tokens: [],
  };
  const request: HookRequest = {
    scope: { kind: "group", name: "example/apps" },
    url,
    arrivals: async () => [{ event: "Job Hook" }],
    signal: new AbortController().signal,
  };

  const steps: Step[] = [];
  const config = { gitlab: { url: gitlab.url }, proxy: directRoutes };
  for await (const step of installConfiguredHook(config, { secrets }, request)) steps.push(step);

  expect(steps.map(({ name, level }) => `${name}: ${level}`)).toEqual([
    "API token: ok",
    "scope: ok",
    "role: ok",
    "address: ok",
    "hook: ok",
    "proof: ok",
    "test event: ok",
  ]);
  const made = gitlab.seen.find(({ method, path }) => method === "POST" && path.endsWith("/hooks"));
  expect(made?.json).toMatchObject({
    url,
    signing_token: "whsec_new",
    push_events: false,
    enable_ssl_verification: true,
  });
  expect(made?.headers["private-token"]).toBe("glpat-PLANTED");
});
