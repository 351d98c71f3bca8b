import { json, type Reply, refuse } from "../exchange.ts";
import type { Hook, HookSettings } from "../hooks/book.ts";
import type { RestCall } from "./access.ts";
import { invalidParameter, notFound } from "./refused.ts";
import { groupOf, projectOf } from "./scopes.ts";

/** Whose hooks a call is about: a project's for its maintainers, a group's for its owners. */
function pathOf(call: RestCall): string {
  const isGroup = call.exchange.url.pathname.startsWith("/api/v4/groups/");
  return isGroup ? groupOf(call, "owner").path : projectOf(call, "maintainer").path;
}

function hookOf(call: RestCall): Hook {
  const path = pathOf(call);
  const hook = call.core.hooks.all().find((each) => each.path === path && String(each.id) === call.params[1]);
  if (!hook) throw notFound("Webhook");
  return hook;
}

/** `GET /projects/:id/hooks`, `GET /groups/:id/hooks`. */
export function listHooks(call: RestCall): Reply {
  const path = pathOf(call);
  const hooks = call.core.hooks.all().filter((hook) => hook.path === path);
  return json(
    200,
    hooks.map((hook) => entity(call, hook)),
  );
}

export function createHook(call: RestCall): Reply {
  const path = pathOf(call);
  const url = urlIn(call) ?? call.input.requiredText("url");
  return json(201, entity(call, call.core.hooks.add(path, { ...settingsIn(call), url })));
}

export function updateHook(call: RestCall): Reply {
  const hook = hookOf(call);
  const url = urlIn(call);
  Object.assign(hook, settingsIn(call), url === undefined ? {} : { url });
  return json(200, entity(call, hook));
}

export function deleteHook(call: RestCall): Reply {
  call.core.hooks.remove(hookOf(call));
  return { status: 204, headers: {}, body: "" };
}

/** `POST …/hooks/:hook_id/test/job_events`: sends one at once; 422 tells what the receiver said. */
export async function testHook(call: RestCall): Promise<Reply> {
  const hook = hookOf(call);
  const job = call.core.jobs.all().find((each) => each.project.path.startsWith(hook.path));
  if (!job) return refuse(422, "Ensure the project has CI jobs.");
  const status = await call.core.hooks.test(hook, job.project, job);
  return status >= 200 && status < 300
    ? json(201, { message: "201 Created" })
    : refuse(422, `Hook execution failed: the receiver answered ${status}`);
}

function urlIn({ input }: RestCall): string | undefined {
  const url = input.text("url");
  if (url !== undefined && !/^https?:\/\/[^\s]+$/.test(url)) throw invalidParameter("url is invalid");
  return url;
}

function settingsIn({ input, core }: RestCall): HookSettings {
  const signing =
    Number.parseInt(core.behaviour.hooks.version, 10) >= 19 ? input.text("signing_token") : undefined;
  if (signing !== undefined && !isSigningToken(signing)) throw invalidParameter("signing_token is invalid");
  const given = {
    token: input.text("token"),
    signingToken: signing,
    jobEvents: input.boolean("job_events"),
    pipelineEvents: input.boolean("pipeline_events"),
    pushEvents: input.boolean("push_events"),
    sslVerification: input.boolean("enable_ssl_verification"),
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

function isSigningToken(text: string): boolean {
  return text.startsWith("whsec_") && Buffer.from(text.slice(6), "base64").length === 32;
}

function entity({ core }: RestCall, hook: Hook): object {
  const { disabledUntil } = hook;
  const signs = Number.parseInt(core.behaviour.hooks.version, 10) >= 19;
  return {
    id: hook.id,
    url: hook.url,
    job_events: hook.jobEvents,
    pipeline_events: hook.pipelineEvents,
    push_events: hook.pushEvents,
    enable_ssl_verification: hook.sslVerification,
    alert_status: core.hooks.alertStatus(hook),
    disabled_until: disabledUntil === undefined ? null : new Date(disabledUntil).toISOString(),
    ...(signs
      ? { token_present: hook.token !== undefined, signing_token_present: hook.signingToken !== undefined }
      : {}),
  };
}
