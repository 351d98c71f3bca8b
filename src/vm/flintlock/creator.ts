import type { Clock } from "../../base/clock.ts";
import { formatDuration, SECOND_MS } from "../../base/units.ts";
import { type AskRegistry, type PublishedImage, pushAgain } from "../../domain/images.ts";
import type { MachineSpec } from "../driver.ts";
import { VmError } from "../errors.ts";
import type { Addresses } from "./addresses.ts";
import type { FlintlockClient } from "./client.ts";
import type { FlintlockHost } from "./config.ts";
import { FlintlockError } from "./errors.ts";
import type { Pace } from "./health.ts";
import { restartDaemon } from "./health.ts";
import type { Pauses } from "./listing.ts";
import { type Listing, listAges, type RemoteMachine, remoteMachine } from "./listing.ts";
import type { Remover } from "./remover.ts";
import { checkRequest, machineRequest, publishedImage } from "./request.ts";

const POLL_MS = SECOND_MS;
/** flintlockd tries ten times over 22 minutes; another host is quicker. */
const MOST_RETRIES = 2;
/** How often a machine is looked for whose create had no answer. */
const LOOKS = 3;
/** Bad lists that a create outlives. */
const LIST_PATIENCE_MS = 30 * SECOND_MS;

export interface CreatorDeps {
  readonly host: FlintlockHost;
  readonly namespace: string;
  readonly client: Pick<FlintlockClient, "create">;
  readonly listing: Listing;
  readonly remover: Pick<Remover, "remove">;
  readonly addresses: Addresses;
  readonly clock: Clock;
  readonly pauses: Pauses;
  readonly pullTimeoutMs: number;
  readonly pace: Pace;
  /** The host takes orders and carries out none. */
  readonly isDeaf: () => boolean;
  readonly askRegistry: AskRegistry | undefined;
  /** A call to the host that is under way is not ended by those who wait for it. */
  readonly callsEnd: AbortSignal;
  /** The machines that are known to be ours, by uid: of several with one id they are the ones to keep. */
  readonly made: Set<string>;
}

/** Makes one machine: looks for it, asks for it, and waits until it runs. */
export async function createMachine(
  deps: CreatorDeps,
  spec: MachineSpec,
  signal: AbortSignal,
): Promise<void> {
  const { listing, pace } = deps;
  const image = publishedImage(spec);
  const { machines } = await listing.after(listing.mark(), signal);
  const found = pick(machines.get(spec.id), deps.made);
  pace.begin(spec.id, image);
  try {
    const machine = found ?? (await send(deps, spec, signal));
    deps.made.add(machine.uid);
    await untilRunning(deps, machine, image, signal);
    pace.made(spec.id);
    await removeOthers(deps, machine, signal);
  } finally {
    pace.end(spec.id);
  }
}

async function removeOthers(
  { listing, remover }: CreatorDeps,
  machine: RemoteMachine,
  signal: AbortSignal,
): Promise<void> {
  const others = listing.latest()?.machines.get(machine.id) ?? [];
  if (others.length > 1) await remover.remove(machine.id, machine.uid, signal);
}

/** The machine to keep of those with one id: the one whose making we know of, else the newest. */
export function pick(
  machines: readonly RemoteMachine[] = [],
  made: ReadonlySet<string>,
): RemoteMachine | undefined {
  const staying = machines.filter(({ state }) => state !== "deleting");
  return staying.find(({ uid }) => made.has(uid)) ?? staying[0] ?? machines[0];
}

async function send(deps: CreatorDeps, spec: MachineSpec, signal: AbortSignal): Promise<RemoteMachine> {
  const { addresses, host, namespace, client, callsEnd, listing } = deps;
  if (!spec.link) throw new VmError("vm_bad_spec", `machine ${spec.id} has no way to the relay`);
  const address = await addresses.choose(spec.id, signal);
  let isKnown = true;
  try {
    const link = await spec.link();
    const request = machineRequest({ spec, namespace, network: host.network, address, link });
    checkRequest(request);
    signal.throwIfAborted();
    const secrets = [link.secret.reveal(), ...Object.values(request.metadata ?? {})];
    const answer = await listing.making(() =>
      client
        .create(request, secrets, callsEnd)
        .catch((error: unknown) => lookFor(deps, spec.id, error, signal)),
    );
    const machine = "uid" in answer ? answer : remoteMachine(answer);
    if (!machine) throw nameless(host.name, spec.id);
    return machine;
  } catch (error) {
    isKnown = !(error instanceof FlintlockError && error.mayHaveWorked);
    throw error;
  } finally {
    addresses.release(spec.id, isKnown);
  }
}

/** Nobody knows whether a create without a good answer was carried out: look before anything else is done. */
async function lookFor(
  deps: CreatorDeps,
  id: string,
  error: unknown,
  signal: AbortSignal,
): Promise<RemoteMachine> {
  if (!(error instanceof FlintlockError) || !(error.mayHaveWorked || error.about === "call")) throw error;
  for (let look = 1; look <= LOOKS; look++) {
    const found = await findAgain(deps, id, signal);
    if (found) return found;
    // A refusal that comes with an answer is true; one look is enough.
    if (error.about === "call" || look === LOOKS) break;
    await deps.pauses.pause(POLL_MS, signal);
  }
  throw error;
}

async function findAgain(
  { listing, made }: CreatorDeps,
  id: string,
  signal: AbortSignal,
): Promise<RemoteMachine | undefined> {
  try {
    return pick((await listing.after(listing.mark(), signal)).machines.get(id), made);
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}

/** CREATED means that a process was started and no more; that the guest lives is for the relay to hear. */
async function untilRunning(
  deps: CreatorDeps,
  machine: RemoteMachine,
  image: PublishedImage,
  signal: AbortSignal,
): Promise<void> {
  const { listing, clock, pauses, pullTimeoutMs } = deps;
  const beganAt = clock.now();
  const mark = listing.mark();
  for (;;) {
    const snapshot = await patientList(deps, signal);
    const seen = snapshot?.machines.get(machine.id)?.find(({ uid }) => uid === machine.uid);
    if (seen?.state === "created") return;
    const end = snapshot && snapshot.number > mark ? endOf(seen) : undefined;
    const isLate = clock.now() - beganAt > pullTimeoutMs;
    if (end !== undefined || isLate)
      throw await unmade(
        deps,
        machine.id,
        image,
        end ?? `not within ${formatDuration(pullTimeoutMs)}`,
        signal,
      );
    if (deps.isDeaf()) throw notCarriedOut(deps.host.name, machine.id);
    await pauses.pause(POLL_MS, signal);
  }
}

async function patientList({ listing, clock }: CreatorDeps, signal: AbortSignal) {
  try {
    return await listing.recent(listAges.busyMs, signal);
  } catch (error) {
    signal.throwIfAborted();
    const failing = listing.failing();
    const isLeftAlone = error instanceof FlintlockError && error.code === "vm_host_avoided";
    if (isLeftAlone || (failing && clock.now() - failing.since > LIST_PATIENCE_MS)) throw error;
    return undefined;
  }
}

/** flintlockd tells nobody why. Whether the host could pull the image somebody else can tell. */
async function unmade(
  { host, pace, askRegistry }: CreatorDeps,
  id: string,
  image: PublishedImage,
  because: string,
  signal: AbortSignal,
): Promise<VmError> {
  const message = `the host ${host.name} did not make machine ${id}: ${because}`;
  const holding = pace.has(image) ? undefined : await askRegistry?.(image, signal);
  if (holding?.state === "gone" || holding?.state === "locked")
    return new VmError(
      "vm_image_gone",
      `${message}; it is not known to have the image, and ${holding.words}`,
      {
        hint: pushAgain,
        retryable: true,
      },
    );
  return new VmError("vm_create_failed", message, {
    hint: `flintlockd tells its log alone why: mostly an image that cannot be pulled (${image.root}), or containerd's thin pool; vm.flintlock.pullTimeout is the limit of a pull`,
    retryable: true,
  });
}

function notCarriedOut(host: string, id: string): VmError {
  const message = `the host ${host} took the order for machine ${id} and does not carry it out, nor anything else`;
  return new VmError("vm_host_sick", message, { hint: restartDaemon, retryable: true });
}

function endOf(seen: RemoteMachine | undefined): string | undefined {
  if (!seen) return "it is not there any more";
  if (seen.state === "deleting") return "it is being deleted";
  if (seen.state === "failed") return `it failed for good after ${seen.retry} tries`;
  return seen.retry >= MOST_RETRIES ? `${seen.retry} tries failed` : undefined;
}

function nameless(host: string, id: string): VmError {
  return new VmError("vm_host_refused", `the host ${host} made machine ${id} without a name`, {
    hint: "look at flintlockd's version: 0.11 is the one that is known",
    retryable: true,
  });
}
