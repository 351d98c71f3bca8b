import { Resolver, lookup as systemLookup } from "node:dns/promises";

const TRY_MS = 2_500;
const TRIES = 2;

/** All addresses of a host name. Throws when it has none. */
export type Resolve = (host: string) => Promise<readonly string[]>;

/**
 * For names that guests choose: asks DNS, at `servers` (`address[:port]`) or those of the system. Not by the system's resolver, which works
 * in few threads: one guest's slow names would take them away from everybody.
 */
export function resolveByDns(servers?: readonly string[]): Resolve {
  return async (host) => {
    const resolver = new Resolver({ timeout: TRY_MS, tries: TRIES });
    if (servers) resolver.setServers(servers);
    const answers = await Promise.allSettled([resolver.resolve4(host), resolver.resolve6(host)]);
    const addresses = answers.flatMap((answer) => (answer.status === "fulfilled" ? answer.value : []));
    if (addresses.length > 0) return addresses;
    throw answers.find((answer) => answer.status === "rejected")?.reason ?? new Error("no address");
  };
}

/** For names that the operator wrote: they may stand in this computer's own tables. */
export async function resolveBySystem(host: string): Promise<readonly string[]> {
  const answers = await systemLookup(host, { all: true });
  return answers.map(({ address }) => address);
}
