import { outOfTime } from "../../base/deadline.ts";
import { splitHostPort } from "../../base/host-port.ts";
import { failureOf } from "./errors.ts";
import { type Failure, type HostFacts, hostFailure } from "./failure.ts";
import type { FlintlockHost } from "./host.ts";
import { sniff } from "./sniff.ts";
import { closedAtOnce, connectionEnded, speaksOther } from "./transport-failures.ts";

const tooLate = hostFailure(
  "vm_host_timeout",
  "it did not answer in time",
  "look at the load of the host and at its flintlockd; the limit is vm.flintlock.callTimeout",
);

export function factsOf({ tls, token }: FlintlockHost): HostFacts {
  return { tls: tls !== undefined, certificate: tls?.certificate !== undefined, token: token !== undefined };
}

/** What made a call at this address fail. A connection that ends without a word says more when it never carried an answer. */
export async function diagnose(
  error: unknown,
  address: string,
  facts: HostFacts,
  hasAnswered: boolean,
): Promise<Failure> {
  if (error === outOfTime) return tooLate;
  const failure = failureOf(error, facts);
  if (hasAnswered || (failure !== connectionEnded && failure !== speaksOther)) return failure;
  if (facts.tls) return failure === connectionEnded ? closedAtOnce(facts) : failure;
  const { host, port } = splitHostPort(address);
  return (await sniff(host, port)) ?? failure;
}
