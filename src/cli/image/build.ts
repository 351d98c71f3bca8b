import { resolve } from "node:path";
import { Argument, type Command } from "commander";
import { systemClock } from "../../base/clock.ts";
import { proxyVariables } from "../../base/proxy/config.ts";
import type { BuildOptions } from "../../image/build.ts";
import { type Variant, variants } from "../../image/packages.ts";
import { createBuildScreen } from "../build-screen.ts";
import type { Context, Run } from "../context.ts";
import { exitCodes } from "../exit-codes.ts";
import { signalOnInterrupt } from "../interrupt.ts";
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
      new Argument("[variant]", "base, or full with compilers and what builds with them")
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
  const variant: Variant = chosen === "full" ? "full" : "base";
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
