/** `image build` and `image push`, with the progress that both show. */

import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import type { Writable } from "node:stream";
import { Argument, type Command } from "commander";
import { systemClock } from "../../base/clock.ts";
import { proxyVariables } from "../../base/proxy/config.ts";
import { formatBytes } from "../../base/units.ts";
import type { BuildOptions } from "../../image/build.ts";
import { variants } from "../../image/packages.ts";
import type { BuildPhase, BuildProgress } from "../../image/progress.ts";
import type { PushedImage } from "../../image/push.ts";
import { type Context, type Run, signalOnInterrupt } from "../context.ts";
import { CliError, exitCodes } from "../errors.ts";
import { directoryOf, type Place, placeOption } from "./place.ts";

interface BuildFlags extends Place {
  readonly name?: string;
  readonly runner: string;
  readonly runnerKey?: string;
  readonly allowHttpMirror?: boolean;
  readonly force?: boolean;
}

export function addImageBuild(image: Command, run: Run): void {
  image
    .command("build")
    .description("build an image from this computer's package sources; quick when nothing has changed")
    .addArgument(
      new Argument(
        "[variant]",
        "base; full with compilers and what builds with them; containers with what runs job images, services and docker build; docker with Docker's own engine besides",
      )
        .choices(variants)
        .default("base"),
    )
    .option("--name <name>", "its name, as pools use it (default: that of the variant)")
    .option(
      "--runner <what>",
      "official, the path of a gitlab-runner, stand-in, or auto (official, else stand-in)",
      "official",
    )
    .option("--runner-key <file>", "GitLab's public key, which signs the official runner")
    .option("--allow-http-mirror", "let images.runnerMirror be an http address of another computer")
    .option("--force", "build everything anew, with the newest packages")
    .option(...placeOption)
    .action(run<BuildFlags>(build));
}

async function build(context: Context, [chosen]: readonly string[], flags: BuildFlags): Promise<number> {
  const variant = variants.find((each) => each === chosen) ?? "base";
  const name = flags.name ?? variant;
  const { output, stderr } = context;
  const { buildImage } = await import("../../image/build.ts");
  const { images, proxy } = await context.loadLocalConfig();
  const directory = await directoryOf(context, flags);
  using interrupt = signalOnInterrupt();
  const screen = createBuildScreen(stderr);
  const options: BuildOptions = {
    directory,
    ...{ name, variant },
    config: {
      ...images,
      ...(flags.runnerKey === undefined ? {} : { runnerKeyFile: resolve(flags.runnerKey) }),
      ...(flags.allowHttpMirror ? { allowHttpMirror: true } : {}),
    },
    proxies: proxy,
    environment: { ...context.env, ...proxyVariables(proxy) },
    runner: runnerChoice(flags.runner),
    ...(flags.force ? { force: true } : {}),
    clock: systemClock,
    signal: interrupt.signal,
  };
  const { manifest, built, notes } = await buildImage(options, screen.show).finally(screen.close);
  const { digest, suite, kernelVersion, runner } = manifest;
  output.result(
    { name, variant, directory, digest, built, suite, kernelVersion, runner: runner.kind, notes },
    () => {
      const state = built ? "built" : "nothing has changed";
      output.line(
        `image ${name}: ${state}, ${digest.slice(0, 19)} (${suite}, Linux ${kernelVersion}) in ${directory}`,
      );
      for (const note of notes) output.line(output.paint("yellow", `! ${note}`));
    },
  );
  return exitCodes.ok;
}

function runnerChoice(text: string): BuildOptions["runner"] {
  if (text === "auto" || text === "official" || text === "stand-in") return { kind: text };
  return { kind: "path", path: text };
}

interface PushFlags extends Place {
  readonly name: string;
  readonly pullFrom?: string;
  /** Undefined when neither --plain-http nor --no-plain-http was given. */
  readonly plainHttp?: boolean;
  readonly ca?: string;
}

export function addImagePush(image: Command, run: Run): void {
  image
    .command("push")
    .description("push an image to a registry, from which the hosts of a fleet pull it")
    .argument("<target>", "REGISTRY/NAME[:TAG], such as registry.example.org/firerunner")
    .option("--name <name>", "which image: its name or digest", "base")
    .option("--pull-from <registry>", "how hosts call the registry, if not as in the target")
    .option("--plain-http", "speak HTTP without TLS (default with localhost)")
    .option("--no-plain-http", "speak TLS with localhost, too")
    .option("--ca <file>", "PEM file of a certificate authority to trust")
    .option(...placeOption)
    .action(run<PushFlags>(push));
}

async function push(context: Context, [target = ""]: readonly string[], flags: PushFlags): Promise<number> {
  const { output, stderr, env } = context;
  const { pushImage } = await import("../../image/push.ts");
  const { parsePushTarget, requireRegistry } = await import("../../registry/reference.ts");
  const parsed = parsePushTarget(target);
  if (flags.pullFrom !== undefined) requireRegistry(flags.pullFrom);
  const ca = flags.ca === undefined ? undefined : await readAuthority(flags.ca);
  const directory = await directoryOf(context, flags);
  using interrupt = signalOnInterrupt();
  const screen = createBuildScreen(stderr);
  const pushed = await pushImage(
    {
      directory,
      image: flags.name,
      target: parsed,
      pullFrom: flags.pullFrom,
      plainHttp: flags.plainHttp,
      ca,
      proxies: (await context.loadLocalConfig()).proxy,
      dockerConfig: join(env["DOCKER_CONFIG"] || join(env["HOME"] || homedir(), ".docker"), "config.json"),
      clock: systemClock,
      signal: interrupt.signal,
    },
    screen.show,
  ).finally(screen.close);
  output.result({ name: flags.name, ...pushed }, () => {
    output.line(`image ${flags.name}: ${sentWords(pushed)}, tags ${pushed.tags.join(" and ")}`);
    output.exact(`kernel  ${pushed.published.kernel}`);
    output.exact(`root    ${pushed.published.root}`);
  });
  return exitCodes.ok;
}

function sentWords({ sent }: PushedImage): string {
  if (sent.blobs === 0) return "all of it was there";
  return `pushed ${formatBytes(sent.bytes)}${sent.present > 0 ? ", the rest was there" : ""}`;
}

async function readAuthority(path: string): Promise<string> {
  return await readFile(path, "utf8").catch((cause) => {
    throw new CliError("cli_usage", `${path} cannot be read`, {
      cause,
      hint: "name the PEM file of a certificate authority with --ca",
    });
  });
}

const phases: Readonly<Record<BuildPhase, string>> = {
  check: "looking at what is here",
  packages: "packages",
  base: "root file system",
  kernel: "kernel and initramfs",
  runner: "gitlab-runner",
  store: "storing",
  pack: "packing layers",
  push: "pushing",
  done: "done",
};
const BAR_CELLS = 24;
const CLEAR_LINE = "\r\u001b[K";

interface BuildScreen {
  readonly show: (progress: BuildProgress) => void;
  readonly close: () => void;
}

/** The progress of a build or a push: one line that is drawn anew on a terminal; elsewhere a line per phase and quarter. */
export function createBuildScreen(output: Writable & { isTTY?: boolean; columns?: number }): BuildScreen {
  return output.isTTY ? createBar(output) : createLines(output);
}

function createBar(output: Writable & { columns?: number }): BuildScreen {
  return {
    show({ phase, fraction, line }) {
      const text = `image: ${phases[phase]}${fraction === undefined ? "" : ` ${bar(fraction)}`}${line ? `  ${line}` : ""}`;
      output.write(`${CLEAR_LINE}${text.replace(/\p{Cc}/gu, " ").slice(0, (output.columns ?? 80) - 1)}`);
    },
    close: () => void output.write(CLEAR_LINE),
  };
}

function bar(fraction: number): string {
  const full = Math.round(Math.min(1, Math.max(0, fraction)) * BAR_CELLS);
  return `${"█".repeat(full)}${"░".repeat(BAR_CELLS - full)} ${percent(fraction)} %`;
}

function createLines(output: Writable): BuildScreen {
  let shown = "";
  return {
    show({ phase, fraction }) {
      const quarter = fraction === undefined ? 0 : Math.floor(percent(fraction) / 25) * 25;
      const text = `image: ${phases[phase]}${quarter > 0 ? ` ${quarter} %` : ""}`;
      if (text !== shown) output.write(`${text}\n`);
      shown = text;
    },
    close: () => {},
  };
}

function percent(fraction: number): number {
  return Math.round(Math.min(1, Math.max(0, fraction)) * 100);
}
