import { systemClock } from "../../base/clock.ts";
import { formatDuration } from "../../base/units.ts";
import type { Config } from "../../config/load.ts";
import type { Pool } from "../../domain/pool.ts";
import { connectGitLab } from "../../gitlab/http.ts";
import { createRunnerApi } from "../../gitlab/runner-client.ts";
import { oneUserProblem } from "../one-user.ts";
import { cacheChecks } from "./caches.ts";
import { egressChecks } from "./egress.ts";
import type { DoctorCheck, Finding, RunningFireRunner } from "./findings.ts";
import { answer } from "./findings.ts";
import { fleetChecks, relayChecks } from "./fleet.ts";
import { answerOfGitLab, gitlabChecks } from "./gitlab.ts";
import { jobImageChecks } from "./job-images.ts";
import { listenerChecks } from "./listener.ts";
import { capacityChecks, machineChecks } from "./machines.ts";
import { metricsChecks } from "./metrics.ts";
import { taggedChecks } from "./tagged.ts";

/** Tokens, logs and payloads carry times; a clock that is off by more than this confuses people and certificates. */
const CLOCK_TOLERANCE_MS = 5_000;

/**
 * The questions that need the configuration: are the images intact, can machines run, does GitLab know the tokens and tell of jobs, is the
 * clock right. None of them disturbs the FireRunner that runs.
 */
export function doctorChecks(config: Config, running?: RunningFireRunner): readonly DoctorCheck[] {
  const { webhook } = config;
  return [
    ...gitlabChecks({ config, clock: systemClock }),
    ...egressChecks({ config }),
    { name: "user", run: answer(async () => userFinding(config)) },
    ...machineChecks(config),
    ...capacityChecks(config),
    ...jobImageChecks(config),
    ...cacheChecks(config),
    ...[...config.pools.values()].map((pool) => tokenCheck(config, pool)),
    ...(webhook ? taggedChecks({ config, webhook, clock: systemClock }) : []),
    ...fleetChecks(config, systemClock),
    ...relayChecks({ config, running, clock: systemClock }),
    ...listenerChecks({ config, url: webhook?.url, running, clock: systemClock }),
    ...metricsChecks({ config, running, clock: systemClock }),
    clockCheck(config),
  ];
}

function userFinding(config: Config): Finding {
  const found = oneUserProblem(config, process.getuid?.() ?? 0);
  if (found) return { level: "warn", message: found.problem, hint: found.hint };
  return { level: "ok", message: "machines run as other users than FireRunner, or on other hosts" };
}

function tokenCheck(config: Config, pool: Pool): DoctorCheck {
  return {
    name: `runner of pool ${pool.name}`,
    run: answerOfGitLab(async (signal) => {
      const http = await connectGitLab(config);
      try {
        const api = createRunnerApi({ http, clock: systemClock, version: "doctor", systemId: "" });
        const { id } = await api.verify(pool.runnerToken, signal);
        return { level: "ok", message: `${config.gitlab.url} knows the token: runner ${id}` };
      } finally {
        await http.close();
      }
    }),
  };
}

function clockCheck(config: Config): DoctorCheck {
  return {
    name: "clock",
    run: answerOfGitLab(async (signal) => {
      const http = await connectGitLab(config);
      try {
        const { headers, body } = await http.request({ method: "GET", path: "/api/v4/version", signal });
        await body.dump();
        const theirs = Date.parse(String(headers["date"]));
        if (Number.isNaN(theirs)) return { level: "warn", message: "GitLab did not say what time it has" };
        // The header has whole seconds.
        const offMs = Math.abs(systemClock.now() - theirs - 500);
        if (offMs <= CLOCK_TOLERANCE_MS) return { level: "ok", message: "agrees with GitLab's" };
        const message = `is ${formatDuration(offMs)} off GitLab's`;
        return { level: "warn", message, hint: "Let a time service set it (timedatectl set-ntp true)." };
      } finally {
        await http.close();
      }
    }),
  };
}
