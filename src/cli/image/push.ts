import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import { systemClock } from "../../base/clock.ts";
import { formatBytes } from "../../base/units.ts";
import type { PushedImage } from "../../image/push.ts";
import { createBuildScreen } from "../build-screen.ts";
import type { Context, Run } from "../context.ts";
import { CliError } from "../errors.ts";
import { exitCodes } from "../exit-codes.ts";
import { signalOnInterrupt } from "../interrupt.ts";
import { directoryOf, type Place, placeOption } from "./place.ts";

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
