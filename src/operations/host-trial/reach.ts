import type { TrialStep } from "../../views/trial-api.ts";
import { VmError, type VmErrorCode } from "../../vm/errors.ts";
import type { FlintlockClient } from "../../vm/flintlock/client.ts";
import type { FlintlockHost } from "../../vm/flintlock/config.ts";
import { failureOf, type StepContext, step } from "./step.ts";

/** Failures of a call that never came to the daemon behind the address. */
const unreached: readonly VmErrorCode[] = [
  "vm_host_unreachable",
  "vm_host_certificate",
  "vm_host_protocol",
  "vm_host_timeout",
];

export interface ReachOptions extends StepContext {
  readonly host: FlintlockHost;
  readonly client: Pick<FlintlockClient, "list">;
  readonly namespace: string;
}

/** Connects, proves who we are and has the host's machines listed. Answers whether all went well. */
export async function* reachHost(options: ReachOptions): AsyncGenerator<TrialStep, boolean> {
  const { host, client, namespace, signal } = options;
  // One call does both: flintlockd says who it takes calls from with its first answer and not before.
  const first = yield* connecting(options);
  if (first === undefined) return false;
  const known = yield* step("authenticate", options, () =>
    isRefusal(first.error) ? failureOf(first.error) : { value: true, message: provenBy(host) },
  );
  if (!known) return false;
  const listed = yield* step("list", options, async () => {
    if (first.error !== undefined) throw first.error;
    const all = await client.list({ namespace: "" }, signal);
    const ours = all.filter(({ spec }) => spec?.namespace === namespace).length;
    const left = ours === 0 ? "" : `, ${ours} of them left by an earlier trial`;
    return { value: true, message: `flintlockd lists ${machines(all.length)}${left}` };
  });
  return listed !== undefined;
}

interface Answer {
  readonly error: unknown;
}

async function* connecting(options: ReachOptions): AsyncGenerator<TrialStep, Answer | undefined> {
  const { host, client, namespace, signal } = options;
  const connected = yield* step("connect", options, async () => {
    const error = await client.list({ namespace }, signal).then(
      () => undefined,
      (failure: unknown) => failure,
    );
    signal.throwIfAborted();
    if (error instanceof VmError && unreached.includes(error.code as VmErrorCode)) return failureOf(error);
    const way = host.tls === undefined ? "in plain text" : "by TLS";
    return { value: { error }, message: `${host.addresses.join(", ")} answers ${way}` };
  });
  return connected?.value;
}

function isRefusal(error: unknown): boolean {
  return error instanceof VmError && error.code === "vm_host_credentials";
}

function provenBy({ tls, token }: FlintlockHost): string {
  const proofs = [
    ...(tls?.certificate === undefined ? [] : ["our certificate"]),
    ...(token === undefined ? [] : ["our token"]),
  ];
  if (proofs.length > 0) return `it takes ${proofs.join(" and ")}`;
  return "it takes calls without a token or a certificate: from everybody who reaches it";
}

function machines(count: number): string {
  return `${count} ${count === 1 ? "machine" : "machines"}`;
}
