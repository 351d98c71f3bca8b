/** Plays GitLab's side of webhooks in a process of its own. */
import { Secret } from "../../src/base/secret.ts";
import { type HookLoad, sendHooks } from "../../test/harness/hook-load.ts";
import { serveParent } from "./child.ts";

let ending = new AbortController();

async function send({ key, ...load }: Omit<HookLoad, "signingKey"> & { readonly key: string }) {
  ending = new AbortController();
  return await sendHooks({ ...load, signingKey: new Secret(key) }, ending.signal);
}

/** Nothing more is sent, and what is not answered is given up. */
function giveUp(_: undefined): void {
  ending.abort();
}

const handlers = { send, giveUp };
export type SenderHandlers = typeof handlers;

serveParent<never>(handlers, async () => ending.abort());
