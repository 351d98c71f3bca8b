import { fstatSync } from "node:fs";
import { flushCompileCache } from "node:module";
import type { Command } from "commander";
import type { App } from "../app/app.ts";
import { describeError, hintOf } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { keepMemoryOutOfDumps } from "../base/process.ts";
import type { Run } from "./context.ts";

export function addStart(program: Command, run: Run): void {
  program
    .command("start")
    .description("run FireRunner until it is told to stop (SIGTERM); SIGHUP reads the configuration again")
    .action(
      run(async ({ loadConfig, stdout, version, env }) => {
        const config = await loadConfig();
        // Loaded only here: no other command should take as long to start as the whole program.
        const { createApp } = await import("../app/app.ts");
        const { createLog } = await import("../telemetry/log.ts");
        const { log, setLevel } = createLog({
          ...{ settings: config.log, terminal: stdout.isTTY === true },
          journal: isJournal(env["JOURNAL_STREAM"]),
        });
        const reread = async () => {
          const next = await loadConfig();
          setLevel(next.log.level);
          return next;
        };
        await runApp(createApp({ config, log, version, reread }), log, { version, state: config.state });
        return undefined;
      }),
    );
}

/** systemd names the file that it gave as standard output, `device:inode`; a shell below may have put another in its place. */
function isJournal(given: string | undefined): boolean {
  if (given === undefined) return false;
  const { dev, ino } = fstatSync(1);
  return given === `${dev}:${ino}`;
}

/** Starts, waits for a signal, stops. */
async function runApp(app: App, log: Log, about: object): Promise<void> {
  const hurry = new AbortController();
  const asked = Promise.withResolvers<void>();
  let signals = 0;
  const onStop = (name: NodeJS.Signals) => {
    signals++;
    if (signals === 1) {
      log.info(
        { signal: name },
        "stopping: no new jobs; a second signal leaves at once, and machines run on",
      );
      asked.resolve();
    } else {
      log.warn({ signal: name }, "leaving at once: machines that run are taken over by the next start");
      hurry.abort(new Error("a second signal"));
    }
  };
  process.on("SIGTERM", onStop);
  process.on("SIGINT", onStop);
  process.on("SIGHUP", () => void reload(app, log));
  process.on("uncaughtExceptionMonitor", (error) => log.error({ err: error }, "ending because of a bug"));

  await keepMemoryOutOfDumps();
  log.info({ ...about, pid: process.pid }, "starting");
  await app.start();
  log.info({}, "started");
  // For the next start: it is kept at an orderly end only, and many programs of this kind never have one.
  flushCompileCache();
  await asked.promise;
  await app.stop(hurry.signal);
  log.info({}, "stopped");
}

/** A configuration that cannot be used changes nothing: the one in force stays. */
async function reload(app: App, log: Log): Promise<void> {
  try {
    log.info({ changes: await app.reload() }, "configuration read again");
  } catch (error) {
    const hint = hintOf(error);
    log.error(
      { problem: describeError(error), hint },
      "configuration not usable, the old one stays in force",
    );
  }
}
