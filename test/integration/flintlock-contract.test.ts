/**
 * The contract of drivers on a flintlockd: as it was measured, with all its faults at once, and with those of the network.
 *
 * On a real one as well when FIRERUNNER_TEST_FLINTLOCK gives its host:port (plaintext, no token), with three more that it needs:
 * FIRERUNNER_TEST_FLINTLOCK_SHELL, a program that runs its one argument in a root's shell on that host, and
 * FIRERUNNER_TEST_FLINTLOCK_KERNEL and _ROOT, the references by digest of a pushed image.
 */
import { describe } from "vitest";
import { run } from "../../src/base/process.ts";
import { describeVmDriver } from "../../src/vm/driver.contract.ts";
import {
  createFlintlockHarness,
  type FlintlockHarnessOptions,
  flintlockSight,
} from "../flintlockd/harness.ts";
import { atItsWorst } from "../flintlockd/options.ts";
import { createRealHarness } from "../flintlockd/real-harness.ts";

const kinds: Readonly<Record<string, FlintlockHarnessOptions>> = {
  "as measured": {},
  "at its worst": { misbehaviour: atItsWorst },
  "at its worst, that has to pull each image first": {
    misbehaviour: atItsWorst,
    localImages: [],
    times: { pullMs: 3_000 },
  },
  "at its worst, whose answers to creates and deletes are lost": {
    misbehaviour: atItsWorst,
    prepare(flintlockd) {
      flintlockd.always("create", { fault: "drop", work: "done" });
      flintlockd.always("delete", { fault: "drop", work: "done" });
    },
  },
  "at its worst, behind an address that is dead": {
    misbehaviour: atItsWorst,
    host: (address) => ({ addresses: ["127.0.0.1:1", address] }),
  },
  "at its worst, on a network without DHCP": {
    misbehaviour: atItsWorst,
    host: () => ({
      network: {
        bridge: "fl0",
        addresses: { first: "10.77.0.10", last: "10.77.0.13", prefixLength: 24 },
        gateway: "10.77.0.1",
        nameservers: ["10.77.0.1"],
      },
    }),
  },
};

describe.each(Object.entries(kinds))("a flintlockd %s", (_, options) => {
  describeVmDriver("flintlock", () => createFlintlockHarness(options), flintlockSight);
});

const address = process.env["FIRERUNNER_TEST_FLINTLOCK"];
if (address !== undefined) {
  const setting = (name: string) => process.env[`FIRERUNNER_TEST_FLINTLOCK_${name}`] ?? "";
  const onHost = (command: string) => run(setting("SHELL"), [command]);
  const real = { address, onHost, kernel: setting("KERNEL"), root: setting("ROOT") };
  describe("a real flintlockd", { timeout: 600_000 }, () => {
    describeVmDriver("flintlock", async () => createRealHarness(real), flintlockSight);
  });
}
