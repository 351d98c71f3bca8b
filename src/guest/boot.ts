import type { Secret } from "../base/secret.ts";
import type { RunnerSettings } from "../domain/pool.ts";

export interface BootData {
  readonly machineId: string;
  /** What the guest's runner shows to the relay. Opens nothing but this machine's own payload. */
  readonly token: Secret;
  readonly nowMs: number;
  readonly executor: "shell" | "docker";
  /** With the executor `docker`. */
  readonly containers?: ContainersBootData | undefined;
  /** What answers at docker's socket, for jobs in the shell too. */
  readonly engine?: "podman" | "docker" | undefined;
  /** What the operator has for every job. */
  readonly runnerSettings?: RunnerSettings | undefined;
  /** The guest's way out, as `http://host:port`, when its pool gives it one. */
  readonly proxy?: string | undefined;
  /** The bucket by which the guest's runner asks the relay for caches; undefined where none are kept. */
  readonly cacheBucket?: string | undefined;
  /** PEM of certificate authorities to trust besides the image's. */
  readonly authorities?: string | undefined;
  /** How much of a job's log the guest's runner collects, in KiB. */
  readonly logLimitKib: number;
}

export interface ContainersBootData {
  /** How many disks with images there are behind the scratch disk. */
  readonly imageDisks: number;
  /** `HOST` or `HOST:PORT` of registries whose images the machine pulls through the relay, since no disk has them. */
  readonly registries?: readonly string[];
  /** The image of a job that names services and no image. */
  readonly defaultImage: string;
  /** Whether the job's containers have all rights in their machine. */
  readonly privileged: boolean;
  /** Whether they have the engine's socket. */
  readonly socket?: boolean;
}

/**
 * What a machine is told when it asks `GET /firerunner/boot`: one `name=value` per line. guest/firerunner-init reads it by
 * the line and without interpreting it, so a value must be one line. Machines of an older image leave out what they do not know.
 */
export function renderBootData(data: BootData): string {
  const { runnerSettings, containers } = data;
  const lines = {
    machine: data.machineId,
    token: data.token.reveal(),
    now: `${Math.floor(data.nowMs / 1000)}`,
    executor: data.executor,
    images: containers && `${containers.imageDisks}`,
    default_image: containers?.defaultImage,
    privileged: containers && `${containers.privileged}`,
    registries: containers?.registries?.join(","),
    socket: containers?.socket ? "true" : undefined,
    engine: data.engine === "docker" ? "docker" : undefined,
    environment: runnerSettings?.environment.length
      ? escaped(runnerSettings.environment.join("\n"))
      : undefined,
    pre_get_sources: escaped(runnerSettings?.preGetSources),
    pre_build: escaped(runnerSettings?.preBuild),
    post_build: escaped(runnerSettings?.postBuild),
    proxy: data.proxy,
    cache: data.cacheBucket,
    ca: escaped(data.authorities),
    log_limit: `${data.logLimitKib}`,
  };
  return Object.entries(lines)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${oneLine(name, value ?? "")}\n`)
    .join("");
}

/** On one line, as printf's %b reads it. */
function escaped(text: string | undefined): string | undefined {
  return text?.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}

function oneLine(name: string, value: string): string {
  if (/[\r\n\0]/.test(value)) throw new Error(`the boot data's ${name} is more than one line`);
  return value;
}
