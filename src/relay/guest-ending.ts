import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { GuestEnd } from "../lifecycle/guest-end.ts";
import type { Store } from "../store/store.ts";
import type { Guest } from "./guest.ts";

/** A guest told of its end. Its event wakes whoever draws conclusions. Never rejects. */
export type NoteEnd = (guest: Guest, end: GuestEnd) => Promise<void>;

export function createNoteEnd({ store, log }: { store: Pick<Store, "note">; log: Log }): NoteEnd {
  return async (guest, end) => {
    if (guest.end === end) return;
    guest.end = end;
    const { machineId } = guest;
    await store.note("machine:ended", { machineId }, { end }).catch((error: unknown) => {
      log.warn({ machineId, error: describeError(error) }, "event not recorded");
    });
  };
}
