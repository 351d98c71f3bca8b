import { z } from "zod";
import { durationMs } from "../domain/config.ts";

/** `scheduler`: how patient FireRunner is, and how much it does at one time. */
export const SchedulerConfig = z
  .strictObject({
    tick: durationMs()
      .prefault("1s")
      .meta({ description: "Longest time between two looks at everything, when nothing else asks for one." }),
    attempts: z.number().int().min(1).max(10).default(3).meta({
      description:
        "Machines tried for one job, as long as none of them has taken the job's payload. One that its host did not make counts for none.",
    }),
    startLimit: durationMs().prefault("10m").meta({
      description: "Longest wait of a claimed job for a machine of its own; then it fails and says why.",
    }),
    createTimeout: durationMs()
      .prefault("1m")
      .meta({ description: "Longest time a driver may take to start a machine." }),
    destroyTimeout: durationMs()
      .prefault("1m")
      .meta({ description: "Longest time one try to destroy a machine may take; it is tried again." }),
    bootDeadline: durationMs().prefault("2m").meta({
      description: "Longest time from the start of a machine until it takes its job. Generous for emulation.",
    }),
    silenceLimit: durationMs().prefault("5m").meta({
      description: "A machine that said nothing for this long is lost. The runner in it speaks every 30 s.",
    }),
    timeoutGrace: durationMs().prefault("2m").meta({
      description: "Time beyond the job's own limit before its machine is ended from outside.",
    }),
    standingInterval: durationMs().prefault("10s").meta({
      description:
        "How often GitLab is asked whether a job is still wanted while its runner is silent, and so how late a cancel may be heard. Never while the runner speaks: at least three times relay.traceInterval. With more than 200 jobs less often: 20 questions a second in all.",
    }),
    healthInterval: durationMs()
      .prefault("15s")
      .meta({ description: "How often hosts, images and disk space are looked at." }),
    createsPerHost: z
      .number()
      .int()
      .min(1)
      .default(4)
      .meta({ description: "Machines being started at one time on one host." }),
    destroysPerHost: z
      .number()
      .int()
      .min(1)
      .default(8)
      .meta({ description: "Machines being destroyed at one time on one host." }),
  })
  .meta({ reload: "restart" });
export type SchedulerConfig = z.infer<typeof SchedulerConfig>;

/** `shutdown`: what happens to running jobs when FireRunner is told to end. */
export const ShutdownConfig = z
  .strictObject({
    drainLimit: durationMs()
      .prefault("10s")
      .meta({ description: "How long running jobs may go on before FireRunner ends, from the signal on." }),
    pollLimit: durationMs().prefault("1m").meta({
      description:
        "How long FireRunner, told to end, waits for GitLab's answer to open requests for jobs. GitLab holds them for up to 50 s; with less, a job that it gives to one of them in that moment is lost: GitLab calls it running until it ends it itself.",
    }),
    onLimit: z.enum(["leave", "end"]).default("leave").meta({
      description:
        "What happens to jobs that run longer: leave (machines go on, the next start takes over) or end (they fail).",
    }),
  })
  .meta({ reload: "restart" });
export type ShutdownConfig = z.infer<typeof ShutdownConfig>;
