import { readFile } from "node:fs/promises";
import { availableParallelism, freemem, homedir, tmpdir } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import { MIB_BYTES } from "../base/units.ts";
import type { Run } from "./context.ts";
import { signalOnInterrupt } from "./context.ts";
import { exitCodes } from "./errors.ts";

interface Options {
  readonly repo?: string;
  readonly keep?: boolean;
}

export function addDemo(program: Command, run: Run): void {
  program
    .command("demo")
    .description("run real jobs in real machines against a stand-in GitLab")
    .option("--repo <path>", "run the .gitlab-ci.yml of this Git repository instead")
    .option("--keep", "leave the demo's directory (state, log, configuration) where it is")
    .action(
      run<Options>(async ({ executable, stdout, stderr, output, env }, _args, { repo, keep }) => {
        const { runDemo } = await import("../demo/run-demo.ts");
        using interrupt = signalOnInterrupt();
        try {
          return await runDemo({
            executable,
            imagesDirectory: sharedImages(env),
            temporaryDirectory: tmpdir(),
            ...(repo === undefined ? {} : { repo }),
            ...(keep === undefined ? {} : { keep }),
            json: output.json,
            results: stdout,
            progress: stderr,
            cpus: availableParallelism(),
            freeMemoryMib: await availableMemoryMib(),
            signal: interrupt.signal,
          });
        } catch (error) {
          if (!interrupt.signal.aborted) throw error;
          output.note("interrupted; everything the demo started is gone");
          return exitCodes.failed;
        }
      }),
    );
}

/** Images that runs of the demo share. */
function sharedImages(env: NodeJS.ProcessEnv): string {
  if (process.getuid?.() === 0) return "/var/cache/firerunner/images";
  return join(env["XDG_CACHE_HOME"] || join(env["HOME"] || homedir(), ".cache"), "firerunner", "images");
}

/** What programs may still take: free memory and caches that shrink. */
async function availableMemoryMib(): Promise<number> {
  const text = await readFile("/proc/meminfo", "utf8").catch(() => "");
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(text)?.[1];
  return kib === undefined ? freemem() / MIB_BYTES : Number(kib) / 1024;
}
