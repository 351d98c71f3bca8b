import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { GuestEnd } from "../domain/events.ts";
import type { EventStore } from "../store/store.ts";
import type { Guest } from "./guest.ts";

/** Ends that one guest may tell: who tells more has no end to tell. */
const MOST_ENDS = 4;

/** A guest told of its end. Its event wakes whoever draws conclusions. Never rejects. */
export type RecordEnd = (guest: Guest, end: GuestEnd) => Promise<void>;

export function createEndRecorder({ store, log }: { store: Pick<EventStore, "note">; log: Log }): RecordEnd {
  return async (guest, end) => {
    // A guest may say both in turn, for ever.
    if (guest.end === end || guest.ends >= MOST_ENDS) return;
    guest.end = end;
    guest.ends += 1;
    const { machineId } = guest;
    await store.note("machine:ended", { machineId }, { end }).catch((error: unknown) => {
      log.warn({ machineId, error: describeError(error) }, "event not recorded");
    });
  };
}
