/**
 * How long this host takes to make a machine, by those that it made. A host that has the image is done in seconds, always; one that
 * may have to pull it first tells nothing of its progress, and has the time that is configured for a pull.
 */
import type { Clock } from "../../base/clock.ts";
import { SECOND_MS } from "../../base/units.ts";
import type { PublishedImage } from "../../domain/images.ts";

/** Machines whose times are remembered. */
const MOST_TIMES = 20;
/** A busy host may take so many times as long as it usually does. */
const FACTOR = 5;
const LEAST_MS = 10 * SECOND_MS;
/** Images of which it is remembered that the host has them. */
const MOST_IMAGES = 100;

export interface Pace {
  /** A machine is asked for, or was found to be on its way. */
  begin(id: string, image: PublishedImage): void;
  made(id: string): void;
  /** Nobody waits for it any more. */
  end(id: string): void;
  /** Whether the host is known to have made a machine of the image. */
  has(image: PublishedImage): boolean;
  /** How long the host may take for this machine while it does nothing else; for one not under way the time of a pull. */
  patienceMs(id: string): number;
}

export function createPace({ clock, pullTimeoutMs }: { clock: Clock; pullTimeoutMs: number }): Pace {
  const underWay = new Map<string, { readonly image: string; readonly since: number }>();
  const images = new Set<string>();
  let times: number[] = [];
  /** The host makes one machine after the other. */
  let lastMadeAt = Number.NEGATIVE_INFINITY;

  return {
    begin: (id, image) => void underWay.set(id, { image: keyOf(image), since: clock.now() }),
    made(id) {
      const machine = underWay.get(id);
      if (!machine) return;
      const now = clock.now();
      // What took a pull says nothing of how long it takes without.
      if (images.has(machine.image))
        times = [...times.slice(1 - MOST_TIMES), now - Math.max(machine.since, lastMadeAt)];
      lastMadeAt = now;
      images.delete(machine.image);
      images.add(machine.image);
      for (const oldest of [...images].slice(0, -MOST_IMAGES)) images.delete(oldest);
    },
    end: (id) => void underWay.delete(id),
    has: (image) => images.has(keyOf(image)),
    patienceMs(id) {
      const machine = underWay.get(id);
      if (!machine || !images.has(machine.image)) return pullTimeoutMs;
      const usualMs = median(times);
      // One that was made with a pull, or before this program started, says no more than that the image is there.
      return usualMs === undefined
        ? Math.min(pullTimeoutMs, 6 * LEAST_MS)
        : Math.min(pullTimeoutMs, Math.max(LEAST_MS, FACTOR * usualMs));
    },
  };
}

function keyOf({ kernel, root }: PublishedImage): string {
  return `${kernel} ${root}`;
}

function median(values: readonly number[]): number | undefined {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}
