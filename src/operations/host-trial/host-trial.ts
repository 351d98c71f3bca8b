/**
 * The trial of one host, from the connection to a machine whose guest speaks to the relay. `hosts check`, `image verify --flintlock`
 * and (its first steps) `doctor` are this. It has a namespace of its own at flintlockd, so that the scheduler does not see its
 * machine, and removes it whatever happens.
 */
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { type AskRegistry, type BootImage, pushAgain } from "../../domain/images.ts";
import type { TrialStep } from "../../views/trial-api.ts";
import type { VmDriver } from "../../vm/driver.ts";
import { createFlintlockClient } from "../../vm/flintlock/client.ts";
import type { FlintlockHost } from "../../vm/flintlock/config.ts";
import type { FlintlockDriverOptions } from "../../vm/flintlock/driver.ts";
import { createFlintlockDriver } from "../../vm/flintlock/driver.ts";
import { type Found, reachHost, type StepContext, step, tryMachine } from "./steps.ts";
import type { TrialEndpoint } from "./trial-order.ts";

export interface HostTrialOptions {
  readonly host: FlintlockHost;
  /** This installation's at flintlockd; the trial's is derived from it. */
  readonly namespace: string;
  readonly settings: FlintlockDriverOptions["settings"];
  readonly image: { readonly name: string; resolve(): Promise<BootImage> };
  readonly askRegistry: AskRegistry;
  readonly endpoint: TrialEndpoint;
  readonly bootDeadlineMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** Each step as it is known. Throws only when the signal aborts, and not before what was made is removed. */
export async function* tryHost(options: HostTrialOptions, signal: AbortSignal): AsyncGenerator<TrialStep> {
  const { host, settings, clock, log, endpoint, bootDeadlineMs, askRegistry } = options;
  const namespace = trialNamespace(options.namespace);
  const client = createFlintlockClient({ host, clock, callTimeoutMs: settings.callTimeout });
  const driver = createFlintlockDriver({
    ...{ host, namespace, settings, clock, log, askRegistry, random: Math.random },
  });
  const context = { clock, signal };
  try {
    if (!(yield* reachHost({ ...context, host, client, namespace }))) return;
    if (!(yield* removeLeftovers(driver, context))) return;
    const found = yield* step("image", context, async () => await checkImage(options, signal));
    if (found) yield* tryMachine({ ...context, driver, image: found.value, endpoint, bootDeadlineMs, log });
  } finally {
    client.close();
    await driver.close();
  }
}

/** The first steps alone: nothing is made. */
export async function* tryReach(
  { host, namespace, settings, clock }: Pick<HostTrialOptions, "host" | "namespace" | "settings" | "clock">,
  signal: AbortSignal,
): AsyncGenerator<TrialStep> {
  const client = createFlintlockClient({ host, clock, callTimeoutMs: settings.callTimeout });
  try {
    yield* reachHost({ host, client, namespace: trialNamespace(namespace), clock, signal });
  } finally {
    client.close();
  }
}

function trialNamespace(namespace: string): string {
  return `${namespace}-trial`;
}

/** What an earlier trial could not remove. Says nothing where there is nothing. */
async function* removeLeftovers(driver: VmDriver, context: StepContext): AsyncGenerator<TrialStep, boolean> {
  const { signal } = context;
  const left = await driver.list(signal).catch(() => {
    signal.throwIfAborted();
    return [];
  });
  if (left.length === 0) return true;
  const ids = left.map(({ id }) => id);
  const removed = yield* step("leftovers", context, async (): Promise<Found<true>> => {
    await Promise.all(ids.map((id) => driver.destroy(id, signal)));
    return { value: true, message: `removed what an earlier trial left: ${ids.join(", ")}` };
  });
  return removed !== undefined;
}

/** What the registry says counts, not what was once pushed there. */
async function checkImage(
  { image: { name, resolve }, askRegistry }: Pick<HostTrialOptions, "image" | "askRegistry">,
  signal: AbortSignal,
): Promise<Found<BootImage>> {
  const image = await resolve();
  if (image.published === undefined)
    return {
      level: "fail",
      message: `${name} is on this computer only, and hosts of a fleet pull images from a registry`,
      hint: `firerunner image push REGISTRY/NAME${name === "base" ? "" : ` --name ${name}`}`,
    };
  const { state, words } = await askRegistry(image.published, signal);
  if (state === "gone" || state === "locked")
    return { level: "fail", message: `hosts cannot pull ${name}: ${words}`, hint: pushAgain };
  const { kernel, root } = image.published;
  const message = `hosts pull ${name} as ${kernel} and ${root}`;
  const unknown = `whether the registry has it is not known: ${words}`;
  return {
    value: image,
    message: state === "there" ? `${message}, and the registry has both` : `${message}; ${unknown}`,
  };
}
