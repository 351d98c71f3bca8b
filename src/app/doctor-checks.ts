import { systemClock } from "../base/clock.ts";
import { describeError, FireRunnerError } from "../base/errors.ts";
import { silentLog } from "../base/log.ts";
import { formatDuration } from "../base/units.ts";
import type { DoctorCheck, Finding } from "../cli/doctor/check.ts";
import type { Config } from "../config/load.ts";
import { createRunnerApi } from "../gitlab/client.ts";
import { createImageStore } from "../image/store.ts";
import type { Pool } from "../lifecycle/pool.ts";
import { createDrivers } from "../vm/drivers.ts";
import { connectGitLab, imageDirectory } from "./rooms.ts";

/** Tokens, logs and payloads carry times; a clock that is off by more than this confuses people and certificates. */
const CLOCK_TOLERANCE_MS = 5_000;

/** The questions that need the rooms: are the images intact, can machines run, does GitLab know the tokens, is the clock right. */
export function doctorChecks(config: Config): readonly DoctorCheck[] {
  const pools = [...config.pools.values()];
  return [
    ...[...new Set(pools.map(({ image }) => image))].map((name) => imageCheck(config, name)),
    ...pools.map((pool) => machineCheck(config, pool)),
    ...pools.map((pool) => tokenCheck(config, pool)),
    clockCheck(config),
  ];
}

function imageCheck(config: Config, name: string): DoctorCheck {
  return {
    name: `image ${name}`,
    run: answer(async (signal) => {
      const { manifest } = await createImageStore({ directory: imageDirectory(config) }).verify(name, signal);
      const { kind, version } = manifest.runner;
      const message = `present and intact, with ${kind} ${version}`;
      if (kind !== "stand-in") return { level: "ok", message };
      const hint = "For GitLab's own runner: firerunner image build --runner official";
      return { level: "warn", message, hint };
    }),
  };
}

function machineCheck(config: Config, pool: Pool): DoctorCheck {
  return {
    name: `machines of pool ${pool.name}`,
    run: answer(async (signal) => {
      const image = await createImageStore({ directory: imageDirectory(config) }).resolve(pool.image);
      const settings = config.vm;
      const drivers = createDrivers({
        stateDirectory: config.state,
        settings,
        clock: systemClock,
        log: silentLog,
      });
      try {
        const driver = drivers.get(pool.driver);
        if (!driver) return { level: "fail", message: `there is no driver ${pool.driver}` };
        const probe = await driver.probe(image, signal);
        if (!probe.usable) return { level: "fail", message: probe.problem, hint: probe.hint };
        const message = `${driver.name} ${probe.version} with ${probe.accelerator}`;
        return probe.note === undefined
          ? { level: "ok", message }
          : { level: "warn", message: `${message}: ${probe.note}` };
      } finally {
        for (const driver of drivers.values()) await driver.close();
      }
    }),
  };
}

function tokenCheck(config: Config, pool: Pool): DoctorCheck {
  return {
    name: `runner of pool ${pool.name}`,
    run: answer(async (signal) => {
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
    run: answer(async (signal) => {
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

/** What goes wrong with asking is the finding. */
function answer(ask: (signal: AbortSignal) => Promise<Finding>): (signal: AbortSignal) => Promise<Finding> {
  return async (signal) => {
    try {
      return await ask(signal);
    } catch (error) {
      const hint = error instanceof FireRunnerError ? error.hint : undefined;
      return { level: "fail", message: describeError(error), ...(hint === undefined ? {} : { hint }) };
    }
  };
}
