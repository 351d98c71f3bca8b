import { isIP } from "node:net";
import { json, type Reply } from "../exchange.ts";
import type { Hook } from "../hooks/hook.ts";
import { isSigning } from "../hooks/sender.ts";
import { readSigningToken } from "../hooks/signature.ts";
import type { Group, Project } from "../model.ts";
import type { RestCall } from "./access.ts";
import { hookEntity } from "./hook-entity.ts";
import type { Input } from "./input.ts";
import { page } from "./pages.ts";
import { notFound, Refused } from "./refused.ts";
import { groupOf, projectOf } from "./scopes.ts";

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
export function hookOf(call: RestCall, homeOf: HomeOf): Hook {
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
