/** The steps of a trial: reaching the host, and making, hearing and removing one machine. */
import type { Clock } from "../../base/clock.ts";
import { withDeadline } from "../../base/deadline.ts";
import { describeError, hintOf } from "../../base/errors.ts";
import { newMachineId } from "../../base/ids.ts";
import type { Log } from "../../base/log.ts";
import { formatDuration } from "../../base/units.ts";
import type { BootImage } from "../../domain/images.ts";
import type { TrialStep } from "../../views/trial-api.ts";
import type { RelayLink, VmDriver } from "../../vm/driver.ts";
import { VmError, type VmErrorCode } from "../../vm/errors.ts";
import type { FlintlockClient } from "../../vm/flintlock/client.ts";
import type { FlintlockHost } from "../../vm/flintlock/config.ts";
import type { TrialEndpoint } from "./trial-order.ts";

export interface StepContext {
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** What a step found out, for the steps after it: a value, unless it failed. */
export type Found<Value> =
  | (Words & { readonly level?: "ok" | "skip"; readonly value: Value })
  | (Words & { readonly level: "fail" });

interface Words extends Pick<TrialStep, "message" | "hint" | "relayMs"> {}

/** Tries one thing and tells of it. What goes wrong is told as its failure; throws only when the signal aborts. */
export async function* step<Value>(
  name: string,
  { clock, signal }: StepContext,
  work: () => Promise<Found<Value>> | Found<Value>,
): AsyncGenerator<TrialStep, { readonly value: Value } | undefined> {
  const beganAt = clock.now();
  let found: Found<Value>;
  try {
    signal.throwIfAborted();
    found = await work();
  } catch (error) {
    signal.throwIfAborted();
    found = failureOf(error);
  }
  const { level = "ok", message, hint, relayMs } = found;
  const tookMs = Math.round(clock.now() - beganAt);
  yield {
    ...{ name, level, message, tookMs },
    ...(hint === undefined ? {} : { hint }),
    ...(relayMs === undefined ? {} : { relayMs }),
  };
  return "value" in found ? { value: found.value } : undefined;
}

function failureOf(error: unknown): Words & { readonly level: "fail" } {
  const hint = hintOf(error);
  return { level: "fail", message: describeError(error), ...(hint === undefined ? {} : { hint }) };
}

/** Failures of a call that never came to the daemon behind the address. */
const unreached: readonly VmErrorCode[] = [
  "vm_host_unreachable",
  "vm_host_certificate",
  "vm_host_protocol",
  "vm_host_timeout",
];

interface ReachOptions extends StepContext {
  readonly host: FlintlockHost;
  readonly client: Pick<FlintlockClient, "list">;
  readonly namespace: string;
}

/** Connects, proves who we are and has the host's machines listed. Returns whether all went well. */
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
    const transport = host.tls === undefined ? "in plain text" : "by TLS";
    return { value: { error }, message: `${host.addresses.join(", ")} answers ${transport}` };
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

/** The least that flintlockd takes. */
const size = { cpus: 1, memoryMib: 1_024, diskMib: 1_024 };
const POLL_MS = 50;
/** How long what was made may take to go once nobody waits for the trial any more. */
const QUIET_REMOVAL_MS = 120_000;

interface MachineTrialOptions extends StepContext {
  readonly driver: VmDriver;
  readonly image: BootImage;
  readonly endpoint: TrialEndpoint;
  /** How long a guest may take until it speaks. */
  readonly bootDeadlineMs: number;
  readonly log: Log;
}

/** A machine under trial. */
interface Tried extends MachineTrialOptions {
  readonly id: string;
  /** When its create was really sent. */
  sentAt: number | undefined;
}

/** Makes a machine, hears its guest, and removes it. It is removed whatever happens, also when nobody asks for further steps. */
export async function* tryMachine(options: MachineTrialOptions): AsyncGenerator<TrialStep> {
  const tried: Tried = { ...options, id: newMachineId(), sentAt: undefined };
  let isRemovalTried = false;
  try {
    if (yield* step("create", tried, () => create(tried)))
      yield* step("guest", tried, () => hearGuest(tried));
    const removed = yield* step("delete", tried, () => remove(tried));
    isRemovalTried = true;
    if (removed) yield* step("gone", tried, () => checkGone(tried));
  } finally {
    if (!isRemovalTried) await removeQuietly(tried);
    await options.endpoint.close(tried.id);
  }
}

async function create(tried: Tried): Promise<Found<true>> {
  const { driver, endpoint, image, id, clock, signal } = tried;
  const link = async (): Promise<RelayLink> => {
    const relayLink = await endpoint.open(id);
    tried.sentAt = clock.now();
    return relayLink;
  };
  await driver.create({ id, size, image, link }, signal);
  return { value: true, message: `machine ${id} was made: 1 CPU, 1 GiB` };
}

async function hearGuest(tried: Tried): Promise<Found<true>> {
  const { endpoint, id, clock, signal, bootDeadlineMs } = tried;
  if (!endpoint.isOpen) {
    const message =
      "not tried: the relay listens nowhere on the network, so the guest has nobody to speak to";
    return { level: "skip", value: true, message, hint: "set relay.listen and relay.advertise" };
  }
  const sentAt = tried.sentAt ?? clock.now();
  while (clock.now() - sentAt < bootDeadlineMs) {
    const firstWordAt = endpoint.firstWordAt(id);
    if (firstWordAt !== undefined) {
      const relayMs = Math.round(firstWordAt - sentAt);
      const message = `spoke to the relay ${formatDuration(relayMs)} after the create`;
      return { value: true, message, relayMs };
    }
    await clock.sleep(POLL_MS, signal);
  }
  return {
    level: "fail",
    message: `has not spoken to the relay at ${endpoint.address} within ${formatDuration(bootDeadlineMs)} (scheduler.bootDeadline)`,
    hint: "From the host's bridge this address must be reachable: look at relay.advertise, routes and firewalls, at the addresses of vm.flintlock.hosts.NAME.network or the bridge's DHCP, and at firecracker.stdout of the machine under /var/lib/flintlock/vm on the host, while a trial runs.",
  };
}

async function remove({ driver, id, signal }: Tried): Promise<Found<true>> {
  await driver.destroy(id, signal);
  return { value: true, message: `machine ${id} was deleted` };
}

async function checkGone({ driver, signal }: Tried): Promise<Found<true>> {
  const left = await driver.list(signal);
  if (left.length === 0) return { value: true, message: "the host lists nothing of this trial any more" };
  const ids = left.map(({ id }) => id).join(", ");
  return {
    level: "fail",
    message: `the host still lists ${ids}`,
    hint: "run the trial again: it begins by removing what is left; if it stays, restart flintlockd",
  };
}

async function removeQuietly({ driver, id, log, clock }: Tried): Promise<void> {
  try {
    await withDeadline(clock, { limitMs: QUIET_REMOVAL_MS }, (late) => driver.destroy(id, late));
  } catch (error) {
    log.warn(
      { machineId: id, host: driver.host, problem: describeError(error) },
      "a trial's machine is left; the next trial of this host removes it",
    );
  }
}
