import type { Readable } from "node:stream";
import { hasSettings } from "../config/environment.ts";
import { ConfigError } from "../config/errors.ts";
import {
  type Config,
  findConfigFile,
  findSigningKeyFile,
  type LocalConfig,
  loadConfig,
  loadLocalConfig,
} from "../config/load.ts";
import { createOutput, type Output, type ScreenStream } from "./output.ts";

/** What the surroundings give to the command line. */
export interface Surroundings {
  readonly argv: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** Absent: nobody can be asked anything. */
  readonly stdin?: Readable & { isTTY?: boolean };
  readonly stdout: ScreenStream;
  readonly stderr: ScreenStream;
  readonly version: string;
  /** The command that runs this program again: program and first arguments. */
  readonly executable: readonly [string, ...string[]];
}

export interface GlobalOptions {
  readonly config?: string;
  readonly json?: boolean;
}

/** What a command works with: the surroundings and the options that every command has. */
export interface Context extends Surroundings {
  readonly output: Output;
  /** The whole configuration. Throws ConfigError. */
  loadConfig(): Promise<Config>;
  /** State directory and images only: works while the rest is unfinished. */
  loadLocalConfig(): Promise<LocalConfig>;
  /** Where the signing key of webhooks belongs, whether it is there or not. Undefined when it is not to be in a file. */
  signingKeyFile(): Promise<string | undefined>;
}

export function createContext(surroundings: Surroundings, options: GlobalOptions): Context {
  const { env, stdout, stderr } = surroundings;
  const file = () => findConfigFile(options.config, env);
  return {
    ...surroundings,
    output: createOutput({ stdout, stderr, env, json: options.json === true }),
    loadConfig: async () => {
      const found = file();
      if (found === undefined && !hasSettings(env)) throw noConfig();
      return await loadConfig({ file: found, env });
    },
    loadLocalConfig: async () => await loadLocalConfig({ file: file(), env }),
    signingKeyFile: async () => await findSigningKeyFile({ file: file(), env }),
  };
}

function noConfig(): ConfigError {
  return new ConfigError(
    "config_unreadable",
    "there is no configuration: neither /etc/firerunner/config.yaml nor ./firerunner.yaml exists",
    {
      hint: "Let “firerunner init” write one, begin with the example in docs/configuration.md, or name yours with --config FILE.",
    },
  );
}

/** Throws ConfigError for a configuration without jobs by tag. */
export function requireWebhook({ webhook, file }: Config): NonNullable<Config["webhook"]> {
  if (webhook) return webhook;
  throw new ConfigError("config_invalid", "the configuration has no “webhook”", {
    hint: `docs/webhooks.md shows what to add to ${file ?? "the configuration"}: an API token, a signing key, an address to listen on.`,
  });
}

/** What a command does: gets its words and options, and returns an exit code (0 when it returns nothing). */
type Action<Options = object> = (
  context: Context,
  args: readonly string[],
  options: Options & GlobalOptions,
) => Promise<number | undefined>;

/** Makes a handler for commander from an action. */
export type Run = <Options = object>(action: Action<Options>) => (...given: unknown[]) => Promise<void>;

/** A signal that aborts on Ctrl-C or SIGTERM, for commands that wait. `using` it gives the usual handling back. */
export function signalOnInterrupt(): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const abort = () => controller.abort(new Error("interrupted"));
  process.once("SIGINT", abort);
  process.once("SIGTERM", abort);
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      process.off("SIGINT", abort);
      process.off("SIGTERM", abort);
    },
  };
}
