import { describeError } from "../base/errors.ts";
import { MIB_BYTES } from "../base/units.ts";
import { createAppendTrace } from "./append-trace.ts";
import { createDownload, createUpload } from "./artifacts.ts";
import type { Audit } from "./audit.ts";
import { awaitCancel } from "./await-cancel.ts";
import type { ChunkedWork } from "./chunked-work.ts";
import type { Handle } from "./dispatcher.ts";
import type { Dialer } from "./egress-dialer.ts";
import type { RecordEnd } from "./end-recorder.ts";
import { Refusal } from "./errors.ts";
import { type Exchange, reply } from "./exchange.ts";
import { createGit } from "./git.ts";
import type { Guest } from "./guest.ts";
import { createGuestCalls } from "./guest-calls.ts";
import { createJobCaller } from "./job-call.ts";
import { createJobDelivery } from "./job-delivery.ts";
import { createJobEnd } from "./job-end.ts";
import type { JobSession } from "./job-session.ts";
import { createRedirects } from "./redirects.ts";
import type { RelayOptions } from "./relay.ts";
import { ensureHead } from "./trace-head.ts";
import { createUpdateJob } from "./update-job.ts";

export interface HandlersContext {
  readonly dialer: Dialer;
  readonly audit: Audit;
  readonly noteEnd: RecordEnd;
  readonly pieces: ChunkedWork;
  /** Waited for at the stop. */
  readonly track: (work: Promise<void>) => void;
}

/** One handler for each route: the parts list of everything that is served to a guest, but for the proxy. */
export function createHandlers(
  options: RelayOptions,
  { dialer, audit, noteEnd, pieces, track }: HandlersContext,
): Handle {
  const { store, http, api, clock, config } = options;
  const jobEnd = createJobEnd({ store, clock });
  const reports = {
    store,
    api,
    clock,
    jobEnd,
    caller: createJobCaller({ http, clock }),
    intervalSeconds: Math.max(1, Math.ceil(config.traceInterval / 1_000)),
    traceLimitBytes: config.traceLimit * MIB_BYTES,
  };
  const appendTrace = createAppendTrace(reports);
  const updateJob = createUpdateJob(reports);
  const { objectStorage, idleTimeout: idleTimeoutMs } = config;
  const redirects = createRedirects({ http, dialer, audit, objectStorage, idleTimeoutMs });
  const calls = createGuestCalls({ http, clock });
  const artifacts = { store, http, calls, dialer, redirects, jobEnd, idleTimeoutMs };
  const uploadArtifacts = createUpload(artifacts);
  const downloadArtifacts = createDownload(artifacts);
  const git = createGit({ store, http, calls, redirects, idleTimeoutMs, pieces });
  const redeliverAfterMs = config.redeliverAfter;
  const requestJob = createJobDelivery({ store, http, clock, redeliverAfterMs, onHandOver: openTrace });

  /** Our own lines reach GitLab at once; what fails here is made up for before the runner's first byte. */
  function openTrace(guest: Guest, session: JobSession): void {
    const onOver = (status: string | undefined) => jobEnd.over(session, status);
    const opened = guest.inTurn(() => ensureHead({ api, store }, session, onOver));
    track(
      opened.catch((error: unknown) =>
        guest.log.write("info", "trace", { error: describeError(error) }, "trace not opened yet"),
      ),
    );
  }

  return async (exchange, route) => {
    switch (route.kind) {
      case "boot":
        return await sendBootData(exchange, options.bootData);
      case "await-cancel":
        return awaitCancel(exchange, clock);
      case "end":
        await noteEnd(exchange.guest, "orderly");
        return reply(exchange.response, 204, {});
      case "request-job":
        return await requestJob(exchange);
      case "update-job":
        return await updateJob(exchange, route.jobId);
      case "append-trace":
        return await appendTrace(exchange, route.jobId);
      case "upload-artifacts":
        return await uploadArtifacts(exchange, route.jobId);
      case "download-artifacts":
        return await downloadArtifacts(exchange, route.jobId);
      case "git":
        return await git.forward(exchange);
      case "lfs-batch":
        return await git.lfsBatch(exchange);
      case "lfs-object":
        return await git.lfsObject(exchange);
    }
  };
}

async function sendBootData(
  { guest, response }: Exchange,
  bootData: RelayOptions["bootData"],
): Promise<void> {
  const text = await bootData(guest.machineId);
  if (text === undefined) throw new Refusal(404, "this machine is not to run");
  reply(response, 200, { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store" }, text);
}
