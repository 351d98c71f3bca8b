import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { runCli } from "../../src/cli/program.ts";

export interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

interface Surroundings {
  /** Besides `PATH`. */
  readonly env?: Readonly<Record<string, string>>;
  readonly version?: string;
}

/** One command line within this process, with outputs of its own. */
export async function commandLine(...argv: readonly string[]): Promise<Ended> {
  return await commandLineWith({}, ...argv);
}

export async function commandLineWith(
  { env = {}, version = "0.1.0" }: Surroundings,
  ...argv: readonly string[]
): Promise<Ended> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const [out, err] = [text(stdout), text(stderr)];
  const code = await runCli({
    argv,
    env: { PATH: process.env["PATH"], ...env },
    stdout,
    stderr,
    version,
    executable: [process.execPath, ""],
  });
  stdout.end();
  stderr.end();
  return { code, out: await out, err: await err };
}
