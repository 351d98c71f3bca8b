import type { Command } from "commander";
import { systemClock } from "../base/clock.ts";
import { withDeadline } from "../base/deadline.ts";
import { describeError, hintOf } from "../base/errors.ts";
import type { Config } from "../config/load.ts";
import type { DoctorCheck, Finding, RunningFireRunner } from "../operations/doctor/findings.ts";
import { hostChecks, programChecks } from "../operations/doctor/host.ts";
import { createDaemonClient } from "./client.ts";
import type { Context, Run } from "./context.ts";
import { signalOnInterrupt } from "./context.ts";
import { exitCodes } from "./errors.ts";
import { printFinding } from "./messages.ts";

/** A driver proves itself by booting a machine, perhaps under emulation. */
const CHECK_LIMIT_MS = 150_000;

export function addDoctor(program: Command, run: Run): void {
  program
    .command("doctor")
    .description("whether this computer can run jobs, and what to do about it")
    .action(
      run(async (context) => {
        const { output } = context;
        using interrupt = signalOnInterrupt();
        const checks = await allChecks(context);
        const running = checks.map(async (check) => ({
          name: check.name,
          ...(await runCheck(check, interrupt.signal)),
        }));
        // In the order of the list, each as soon as those before it are there.
        if (!output.json) for (const each of running) printFinding(output, await each);
        const findings = await Promise.all(running);
        const failed = findings.filter(({ level }) => level === "fail").length;
        const warned = findings.filter(({ level }) => level === "warn").length;
        output.result({ ok: failed === 0, findings }, () => output.line(`\n${conclusion(failed, warned)}`));
        return failed === 0 ? exitCodes.ok : exitCodes.failed;
      }),
    );
}

async function allChecks(context: Context): Promise<DoctorCheck[]> {
  const { config, finding } = await tryConfig(context);
  const local = config ?? (await context.loadLocalConfig().catch(() => undefined));
  return [
    { name: "configuration", run: async () => finding },
    ...programChecks(context.env),
    ...(local ? hostChecks(local, config) : []),
    ...(config ? await configuredChecks(config) : []),
  ];
}

/** Loaded only here: the other commands should not cost the loading of every driver. */
async function configuredChecks(config: Config): Promise<readonly DoctorCheck[]> {
  const { doctorChecks } = await import("../operations/doctor/doctor-checks.ts");
  return doctorChecks(config, await askRunning(config));
}

/** What cannot be asked counts as not running: then more is tried out, and nothing is disturbed by it. */
async function askRunning({ state }: Config): Promise<RunningFireRunner | undefined> {
  const daemon = createDaemonClient(state);
  try {
    const { publicServer } = await daemon.status();
    return { addresses: publicServer?.addresses ?? [] };
  } catch {
    return undefined;
  } finally {
    await daemon.close();
  }
}

async function tryConfig(context: Context): Promise<{ config?: Config; finding: Finding }> {
  try {
    const config = await context.loadConfig();
    const message = `${config.file ?? "the environment"} is in order`;
    const [note, ...others] = config.notes;
    if (!note) return { config, finding: { level: "ok", message } };
    const more = others.length === 0 ? "" : `, and ${others.length} more like it (firerunner config check)`;
    return {
      config,
      finding: { level: "warn", message: `${message}, but ${note.problem}${more}`, hint: note.hint },
    };
  } catch (error) {
    return { finding: findingOf(error) };
  }
}

async function runCheck(check: DoctorCheck, interrupt: AbortSignal): Promise<Finding> {
  try {
    const limit = { limitMs: CHECK_LIMIT_MS, parent: interrupt };
    return await withDeadline(systemClock, limit, check.run);
  } catch (error) {
    return findingOf(error);
  }
}

function findingOf(error: unknown): Finding {
  const hint = hintOf(error);
  return { level: "fail", message: describeError(error), ...(hint === undefined ? {} : { hint }) };
}

function conclusion(failed: number, warned: number): string {
  if (failed > 0) return `${failed} of these must be put right before jobs can run.`;
  return warned > 0 ? "Jobs can run; what is marked could be better." : "Everything is as it should be.";
}
