import { expect, test } from "vitest";
import { silentLog } from "../base/log.ts";
import { createManualClock } from "../base/manual-clock.ts";
import type { Store } from "../store/store.ts";
import { RelaySettings } from "./config.ts";
import { createAudit } from "./gateway/audit.ts";
import { createGuest } from "./gateway/guest.ts";
import { createEndRecorder } from "./job/job-session.ts";

/** One guest, and what is recorded of it. */
function recorded() {
  const clock = createManualClock();
  const settings = RelaySettings.parse({});
  const guest = createGuest({ machineId: "m", isRemote: false, clock, settings, log: silentLog });
  const notes: unknown[] = [];
  const note = async (_kind: string, _about: unknown, detail: unknown) => void notes.push(detail);
  const store = { note } as unknown as Store;
  return { clock, guest, notes, store };
}

test("of one guest 2,000 events are recorded, and that there were more", async () => {
  const { clock, guest, notes, store } = recorded();
  const audit = createAudit({ store, clock });
  for (let minute = 0; minute < 4; minute++) {
    for (let rule = 0; rule < 1_500; rule++) audit.ruleBroken(guest, `rule ${rule}`);
    await clock.advance(60_000);
  }

  expect(notes).toHaveLength(2_001);
  expect(notes.slice(-2)).toContainEqual({ rule: "too-many-records" });
});

test("of one guest that tells of its end in turn, four are recorded", async () => {
  const { guest, notes, store } = recorded();
  const noteEnd = createEndRecorder({ store, log: silentLog });
  for (let round = 0; round < 10; round++) {
    await noteEnd(guest, "orderly");
    await noteEnd(guest, "orderly");
    await noteEnd(guest, "restarted");
  }

  expect(notes).toEqual(["orderly", "restarted", "orderly", "restarted"].map((end) => ({ end })));
});
