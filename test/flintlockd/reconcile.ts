/** One look at one machine: what the daemon's only worker does with an entry of its queue. */
import { MicroVMStatus_State as State } from "../../src/vm/flintlock/gen/types_pb.js";
import type { StoredMachine } from "./content.ts";
import type { Host } from "./host.ts";

/** What the worker has to do after a look. */
export type Outcome =
  | { readonly kind: "done" }
  | { readonly kind: "again"; readonly afterMs: number }
  /** There is no such machine: an error, and errors are queued again at once. */
  | { readonly kind: "gone" }
  /** A nil pointer: the daemon's end. */
  | { readonly kind: "panic" };

const done: Outcome = { kind: "done" };

export async function reconcile(host: Host, uid: string, signal: AbortSignal): Promise<Outcome> {
  const machine = host.content.get(uid);
  if (!machine) return { kind: "gone" };
  if (hasSlash(machine)) return done;
  const { clock } = host.settings;
  const waitMs = machine.notBeforeAt - clock.now();
  if (waitMs > 0) return { kind: "again", afterMs: waitMs };
  if (machine.state === State.DELETING) return await carryOutDelete(host, machine, signal);
  if (machine.state === State.FAILED) return done;
  return await carryOutCreate(host, machine, signal);
}

/** `namespace/id/uid` cannot be taken apart again. */
export function hasSlash({ spec }: StoredMachine): boolean {
  return `${spec.namespace}${spec.id}`.includes("/");
}

async function carryOutDelete(host: Host, { uid }: StoredMachine, signal: AbortSignal): Promise<Outcome> {
  const { clock, times } = host.settings;
  await clock.sleep(times.deleteMs, signal);
  await host.processes.destroy(uid);
  signal.throwIfAborted();
  host.content.remove(uid);
  return done;
}

async function carryOutCreate(host: Host, machine: StoredMachine, signal: AbortSignal): Promise<Outcome> {
  const { settings, processes } = host;
  const { clock, times, misbehaviour } = settings;
  const { uid, spec } = machine;
  const isCreated = machine.state === State.CREATED;
  if (processes.isAlive(uid) || (isCreated && !misbehaviour.rebootsExitedGuests)) {
    await clock.sleep(times.lookMs, signal);
    if (!isCreated) finish(host, uid);
    return done;
  }
  // cloud-hypervisor's program is not on this host.
  if (spec.provider === "cloudhypervisor" || !(await pullAll(host, machine, signal))) {
    await clock.sleep(times.lookMs, signal);
    return fail(host, machine);
  }
  await clock.sleep(times.createMs, signal);
  // Images and network are ready by now: it is the process's configuration that cannot do without a kernel.
  if (!spec.kernel) return { kind: "panic" };
  await processes.boot(machine);
  // A daemon that was killed just now has started a machine that it does not call created: the next one adopts it.
  signal.throwIfAborted();
  finish(host, uid);
  return done;
}

/** The worker saves what it knows of the machine; a DELETING that came meanwhile is overwritten. */
function finish({ content, settings }: Host, uid: string): void {
  const latest = content.get(uid);
  if (!latest) return;
  const isDeleted = latest.state === State.DELETING;
  if (isDeleted && !settings.misbehaviour.losesDeletes) return;
  if (latest.state === State.CREATED) return;
  content.save({ ...latest, state: State.CREATED, retry: 0, notBeforeAt: 0 });
}

async function pullAll(host: Host, { spec }: StoredMachine, signal: AbortSignal): Promise<boolean> {
  const sources = [spec.rootVolume, ...spec.additionalVolumes].map((each) => each?.source?.containerSource);
  for (const image of [...sources, spec.kernel?.image, spec.initrd?.image])
    if (image && !(await pull(host, image, signal))) return false;
  return true;
}

async function pull({ images, settings }: Host, image: string, signal: AbortSignal): Promise<boolean> {
  if (images.has(image)) return true;
  const { clock, times, registryHas } = settings;
  // `lab/kernel:v1` is taken for a host of the name `lab`, which there is not.
  const registry = image.split("/")[0] ?? "";
  if (!image.includes("/") || !/[.:]|^localhost$/.test(registry) || !registryHas(image)) return false;
  await clock.sleep(times.pullMs, signal);
  images.add(image);
  return true;
}

function fail({ content, settings }: Host, { uid }: StoredMachine): Outcome {
  const latest = content.get(uid);
  if (!latest) return done;
  const retry = latest.retry + 1;
  const afterMs = retry * settings.times.backOffStepMs;
  const isDeleted = latest.state === State.DELETING && !settings.misbehaviour.losesDeletes;
  const failed = !isDeleted && retry > settings.maximumRetry;
  const state = isDeleted ? State.DELETING : failed ? State.FAILED : State.PENDING;
  content.save({ ...latest, retry, state, notBeforeAt: settings.clock.now() + afterMs });
  return failed ? done : { kind: "again", afterMs };
}
