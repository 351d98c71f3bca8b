import { isIP } from "node:net";
import type { Core } from "../core.ts";
import { json, type Reply, refuse } from "../exchange.ts";
import type { Hook } from "../hooks/hook.ts";
import { isSigning, readSigningToken } from "../hooks/hook.ts";
import type { HookMessage } from "../hooks/hooks.ts";
import { jobMessage, pipelineMessage, pushMessage } from "../hooks/notify.ts";
import type { Group, Job, Project } from "../model.ts";
import { isWithin } from "../projects.ts";
import { groupOf, projectOf, type RestCall, tooManyRequests } from "./access.ts";
import { type Input, invalidParameter, notFound, page, Refused } from "./input.ts";

const HOOKS_PER_PROJECT = 100;
const HOOKS_PER_GROUP = 50;

type Home = Hook["home"];
type HomeOf = (call: RestCall) => Home;

/** Hooks of a project are its maintainers'; those of a group are its owners', from the Premium plan on. */
export function projectHome(call: RestCall): Home {
  return { project: projectOf(call, "maintainer") };
}

export function groupHome(call: RestCall): Home {
  const group = groupOf(call, "owner");
  if (!call.core.behaviour.hooks.groupHooks) throw notFound();
  return { group };
}

export function listHooks(call: RestCall, homeOf: HomeOf): Reply {
  return page(call, hooksAt(call, homeOf(call)), (hook) => hookEntity(call.core, hook));
}

export function showHook(call: RestCall, homeOf: HomeOf): Reply {
  return json(200, hookEntity(call.core, hookOf(call, homeOf)));
}

export function createHook(call: RestCall, homeOf: HomeOf): Reply {
  const home = homeOf(call);
  const settings = readSettings(call);
  const most = "project" in home ? HOOKS_PER_PROJECT : HOOKS_PER_GROUP;
  if (hooksAt(call, home).length >= most)
    throw unprocessable({ message: { base: [`Maximum number of hooks (${most}) exceeded`] } });
  const hook = call.core.hooks.add({
    home,
    name: undefined,
    description: undefined,
    token: undefined,
    signingKey: undefined,
    pushEvents: true,
    jobEvents: false,
    pipelineEvents: false,
    sslVerification: true,
    ...settings,
  });
  return json(201, hookEntity(call.core, hook));
}

/** A change does not switch a hook on again. */
export function updateHook(call: RestCall, homeOf: HomeOf): Reply {
  const hook = hookOf(call, homeOf);
  Object.assign(hook, readSettings(call));
  return json(200, hookEntity(call.core, hook));
}

export function deleteHook(call: RestCall, homeOf: HomeOf): Reply {
  call.core.hooks.remove(hookOf(call, homeOf).id);
  return { status: 204 };
}

/** The hook of the path, which must be of this project or group itself. */
function hookOf(call: RestCall, homeOf: HomeOf): Hook {
  const id = Number(call.params[1]);
  const hook = hooksAt(call, homeOf(call)).find((each) => each.id === id);
  if (!hook) throw notFound();
  return hook;
}

function hooksAt({ core }: RestCall, home: Home): Hook[] {
  return core.hooks.all().filter((hook) => ownerOf(hook.home) === ownerOf(home));
}

function ownerOf(home: Home): Project | Group {
  return "project" in home ? home.project : home.group;
}

type Settings = { [K in keyof Omit<Hook, "id" | "home" | "createdAt">]?: Hook[K] };

function readSettings(call: RestCall): Settings & { url: string } {
  const { input } = call;
  const url = input.requiredText("url");
  if (!isReachable(url, call.core.behaviour.hooks.localReceivers))
    throw unprocessable({ error: "Invalid url given" });
  const settings = {
    url,
    name: input.text("name"),
    description: input.text("description"),
    token: input.text("token"),
    jobEvents: input.boolean("job_events"),
    pipelineEvents: input.boolean("pipeline_events"),
    pushEvents: input.boolean("push_events"),
    sslVerification: input.boolean("enable_ssl_verification"),
    signingKey: readSigningKey(input, isSigning(call.core.behaviour.hooks)),
  };
  // An older GitLab takes a signing token without a word and does nothing with it.
  return { ...withoutGaps(settings), url };
}

function withoutGaps(settings: { [K in keyof Settings]: Hook[K] | undefined }): Settings {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
}

function readSigningKey(input: Input, isKnown: boolean): Buffer | undefined {
  const text = input.text("signing_token");
  if (text === undefined || !isKnown) return undefined;
  const key = readSigningToken(text);
  if (!key) throw unprocessable({ message: { signing_token: ["is invalid"] } });
  return key;
}

function isReachable(text: string, local: boolean): boolean {
  const url = URL.parse(text);
  if (!url || !/^https?:$/.test(url.protocol)) return false;
  return local || !isLocal(url.hostname.replace(/^\[|\]$/g, ""));
}

function isLocal(host: string): boolean {
  if (isIP(host) === 0) return host === "localhost";
  return /^(127\.|10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|169\.254\.|::1$|f[cd]|fe80:)/.test(host);
}

function unprocessable(body: object): Refused {
  return new Refused(json(422, body));
}

const triggers = [
  "push_events",
  "tag_push_events",
  "issues_events",
  "confidential_issues_events",
  "note_events",
  "merge_requests_events",
  "job_events",
  "pipeline_events",
  "wiki_page_events",
  "releases_events",
  "emoji_events",
  "resource_access_token_events",
];

/**
 * `POST …/hooks/:hook_id/test/:trigger`: sends an event now, with data of the newest job or pipeline there is, and answers what the
 * receiver said of it. Works for a hook that is switched off, and switches it on when it succeeds.
 */
export async function testHook(call: RestCall, homeOf: (call: RestCall) => Hook["home"]): Promise<Reply> {
  const { core, user, params } = call;
  const hook = hookOf(call, homeOf);
  const trigger = params[2] ?? "";
  if (!triggers.includes(trigger)) throw invalidParameter("trigger does not have a valid value");
  if (!core.limiter.allow(`hook test ${user.id} ${hook.id}`, core.behaviour.limits.hookTestsPerUser))
    throw tooManyRequests(core);
  const receipt = await core.hooks.test(hook, newsFor(call, hook, trigger));
  const isGood = receipt.statusCode !== undefined && receipt.statusCode >= 200 && receipt.statusCode < 300;
  return isGood ? json(201, { message: "201 Created" }) : refuse(422, receipt.text);
}

function newsFor(call: RestCall, hook: Hook, trigger: string): HookMessage {
  const { core } = call;
  const project = projectFor(call, hook);
  const job = newestJob(call, project);
  if (trigger === "push_events") return pushMessage(core, project);
  if (trigger === "job_events") {
    if (!job) throw cannot("Ensure the project has CI jobs.");
    return jobMessage(core, job);
  }
  if (trigger !== "pipeline_events") throw cannot("Testing not available for this hook");
  if (!job) throw cannot("Ensure the project has CI pipelines.");
  return pipelineMessage(core, job.pipeline);
}

function projectFor({ core }: RestCall, { home }: Hook): Project {
  if ("project" in home) return home.project;
  const project = core.projects.all().find(({ path }) => isWithin(path, home.group.path));
  if (!project) throw cannot("Ensure the group has a project with commits.");
  return project;
}

function newestJob({ core }: RestCall, project: Project): Job | undefined {
  return core.jobs.all().findLast((job) => job.project === project);
}

function cannot(reason: string): Refused {
  return new Refused(refuse(422, reason));
}

/** A hook as the API shows it: of its secrets only that they are there, and that since 19.0. */
function hookEntity(core: Core, hook: Hook): Record<string, unknown> {
  const off = hook.disabledUntil;
  const home =
    "project" in hook.home ? { project_id: hook.home.project.id } : { group_id: hook.home.group.id };
  return {
    id: hook.id,
    url: hook.url,
    name: hook.name ?? null,
    description: hook.description ?? null,
    created_at: new Date(hook.createdAt).toISOString(),
    push_events: hook.pushEvents,
    tag_push_events: false,
    merge_requests_events: false,
    repository_update_events: false,
    enable_ssl_verification: hook.sslVerification,
    alert_status: core.hooks.alertStatus(hook),
    disabled_until: off === undefined ? null : new Date(off).toISOString(),
    url_variables: [],
    push_events_branch_filter: null,
    branch_filter_strategy: "wildcard",
    custom_webhook_template: "",
    custom_headers: [],
    ...home,
    issues_events: false,
    confidential_issues_events: false,
    note_events: false,
    confidential_note_events: null,
    pipeline_events: hook.pipelineEvents,
    wiki_page_events: false,
    deployment_events: false,
    feature_flag_events: false,
    job_events: hook.jobEvents,
    releases_events: false,
    milestone_events: false,
    emoji_events: false,
    resource_access_token_events: false,
    ...(isSigning(core.behaviour.hooks)
      ? { token_present: hook.token !== undefined, signing_token_present: hook.signingKey !== undefined }
      : {}),
  };
}
