import { isVariable, type JobVariable } from "./job-variables.ts";

/**
 * Proxies that a job sets itself. The runner's git and its uploads go by them too, and must reach the relay all the same: what the job
 * exempts is given on, in both spellings, with the relay added.
 */

const PROXY = /^(?:https?|all|ftp)_proxy$/i;
const EXEMPT = /^no_proxy$/i;

/** The variables, and behind them, where later ones count, what the job exempts from its proxies. */
export function withRelayExempt(variables: readonly unknown[], relayHost: string): readonly unknown[] {
  const own = plainOnes(variables);
  if (!own.some(({ key }) => PROXY.test(key) || EXEMPT.test(key))) return variables;
  const relay = URL.parse(`http://${relayHost}`)?.hostname ?? relayHost;
  const exempt = (key: "no_proxy" | "NO_PROXY") => {
    const said = own.findLast((each) => each.key === key) ?? own.findLast((each) => EXEMPT.test(each.key));
    const value = said?.value ? `${said.value},${relay}` : relay;
    return { public: true, masked: false, ...said, key, value };
  };
  return [...variables, exempt("no_proxy"), exempt("NO_PROXY")];
}

/** Proxies of the job's own that are neither the relay nor in the job itself, as `name (host)`. */
export function foreignProxies(variables: readonly unknown[], relayAddress: string): string[] {
  return plainOnes(variables).flatMap(({ key, value }) => {
    if (!PROXY.test(key) || value.trim() === "") return [];
    const url = URL.parse(/^[a-z0-9]+:\/\//i.test(value) ? value : `http://${value}`);
    if (url === null) return [key];
    const isOwn = /^(?:localhost|127\..*|\[::1\])$/.test(url.hostname) || url.hostname === relayAddress;
    return isOwn ? [] : [`${key} (${url.host})`];
  });
}

/** A variable of the kind `file` holds a path, which is no proxy. */
function plainOnes(variables: readonly unknown[]): JobVariable[] {
  return variables.filter(isVariable).filter(({ file }) => file !== true);
}
