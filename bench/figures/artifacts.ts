import { rm } from "node:fs/promises";
import type { Job } from "@firerunner/gitlab-stand-in/model";
import { MIB_BYTES } from "../../src/base/units.ts";
import { compare, type Figure, type Row } from "../core/figure.ts";
import { summarize } from "../core/statistics.ts";
import { createFakeInstallation } from "../parts/installation.ts";

export const artifacts: Figure = {
  name: "artifacts",
  title: "Artifacts through the relay",
  about:
    "One archive of 256 MiB, uploaded straight to the stand-in GitLab (which writes it to its disk) and through the relay, in turns, each time by another job. GitLab, FireRunner and the client are three processes that share the cores.",
  machines: false,
  limitMs: 240_000,
  async measure(context) {
    const installation = await createFakeInstallation(context, { pools: [1], unpaced: true });
    const bytes = (context.quick ? 8 : 256) * MIB_BYTES;
    const count = context.quick ? 2 : 10;
    const rates: Rates = { relay: [], direct: [] };
    for (let turn = 0; turn < count; turn++) {
      context.progress(`upload ${turn + 1} of ${count}, both ways`);
      const { relayJobId, direct, relayJob, directJob } = await installation.addPair();
      const took = await installation.guests.call("uploads", {
        relayJobId,
        direct,
        bytes,
        relayFirst: turn % 2 === 0,
      });
      rates.relay.push(bytes / MIB_BYTES / (took.relay / 1_000));
      rates.direct.push(bytes / MIB_BYTES / (took.direct / 1_000));
      await forget([relayJob, directJob]);
    }
    return [summarizeUploads(rates)];
  },
};

interface Rates {
  readonly relay: number[];
  readonly direct: number[];
}

export function summarizeUploads({ relay, direct }: Rates): Row {
  const row = {
    what: "upload of an archive",
    unit: "MiB/s",
    measured: summarize(relay),
    promised: { of: "ratio", bound: "at least", value: 0.6 },
  } as const;
  return compare(row, "direct", summarize(direct));
}

/** The disk need not hold them all. */
async function forget(jobs: readonly Job[]): Promise<void> {
  for (const { path } of jobs.flatMap((job) => job.artifacts)) await rm(path, { force: true });
}
