import { EventEmitter } from "node:events";
import type { Socket } from "node:net";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { silentLog } from "../../base/log.ts";
import { createManualClock } from "../../base/manual-clock.ts";
import { RelaySettings } from "../config.ts";
import { createAdmission } from "./admission.ts";
import { createGuest } from "./guest.ts";
import { routeRules, type Served } from "./routes.ts";

const DAY_MS = 24 * 3_600_000;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test.each(Object.keys(routeRules) as Served[])(
  "a request of %s ends when its route's time is up",
  (served) => {
    const settings = RelaySettings.parse({});
    const admission = createAdmission({ settings, machines: () => 1 });
    const about = { machineId: "m", isRemote: false, clock: createManualClock(), settings, log: silentLog };
    const end = Object.assign(new EventEmitter(), { destroyed: false }) as unknown as Socket;
    const onLate = vi.fn();
    const { signal } = admission.admit(createGuest(about), served, end, onLate);
    const { endsAfterMs } = routeRules[served];
    vi.advanceTimersByTime((endsAfterMs ?? DAY_MS) - 1);

    expect([signal.aborted, onLate.mock.calls.length]).toEqual([false, 0]);

    vi.advanceTimersByTime(1);
    const isLate = endsAfterMs !== undefined;
    expect([signal.aborted, onLate.mock.calls.length]).toEqual([isLate, isLate ? 1 : 0]);
  },
);

test("the time of what is answered from here, of reports and of caches, is limited; that of other bodies is not", () => {
  const limited = Object.entries(routeRules).filter(([, { endsAfterMs }]) => endsAfterMs !== undefined);

  expect(limited.map(([served]) => served).toSorted()).toEqual(
    [
      ...["append-trace", "boot", "end", "nothing", "request-job", "tell-use", "update-job"],
      ...["fetch-cache", "store-cache"],
      ...["registry-check", "registry-token", "registry-manifest", "registry-other"],
    ].toSorted(),
  );
});
