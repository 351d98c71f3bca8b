import type { Core } from "../core.ts";
import { type Exchange, json, type Reply, refuse } from "../exchange.ts";

/** `GET /version`: for users only. That it refuses in JSON is how others tell a GitLab. */
export async function version(core: Core, { request }: Exchange): Promise<Reply> {
  const given = request.headers["private-token"];
  const isKnown = typeof given === "string" && core.tokens.byValue(given) !== undefined;
  if (!isKnown) return refuse(401, "401 Unauthorized");
  return json(200, { version: core.behaviour.hooks.version, revision: "0123456789a" });
}
