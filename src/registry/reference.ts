import { RegistryError } from "./errors.ts";

/** `registry.example.org:5000/team/name:tag` taken apart. */
export interface PushTarget {
  /** Host and port. */
  readonly registry: string;
  readonly name: string;
  readonly tag: string | undefined;
}

const host = /^(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::\d{1,5})?$/;
const namePart = "[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*";
const name = new RegExp(`^${namePart}(?:/${namePart})*$`);
const tag = /^\w[\w.-]{0,127}$/;
/** Registries take 255; `/kernel` comes behind. */
const NAME_CHARACTERS_MAX = 240;

const EXAMPLE = "such as registry.example.org/firerunner or localhost:5000/firerunner";

/** Throws `registry_bad_name`. */
export function parsePushTarget(text: string): PushTarget {
  if (/^\w+:\/\//.test(text)) throw bad(text, "has a scheme", `leave “${text.split("//")[0]}//” out`);
  if (text.includes("@")) throw bad(text, "has a digest", "a push makes the digest; give a tag, or nothing");
  const slash = text.indexOf("/");
  const registry = text.slice(0, Math.max(0, slash)).toLowerCase();
  if (slash < 0) throw bad(text, "names no registry", `put the registry's host in front, ${EXAMPLE}`);
  requireRegistry(registry, text);
  const rest = text.slice(slash + 1);
  const colon = rest.indexOf(":");
  const target = {
    registry,
    name: colon < 0 ? rest : rest.slice(0, colon),
    tag: colon < 0 ? undefined : rest.slice(colon + 1),
  };
  if (!name.test(target.name) || target.name.length > NAME_CHARACTERS_MAX)
    throw bad(
      text,
      `has “${target.name}” as its name`,
      "names are lower-case letters and digits, with single . _ - or / between them",
    );
  if (target.tag !== undefined && !tag.test(target.tag))
    throw bad(
      text,
      `has “${target.tag}” as its tag`,
      "tags are letters, digits, dots, dashes and underscores",
    );
  return target;
}

/**
 * The first part of a name is a host where it looks like one. Clients that fill in a registry of their own do so where it does not;
 * containerd would look for a host of that name.
 */
export function requireRegistry(registry: string, given = registry): void {
  const looksLikeHost = registry === "localhost" || /[.:]/.test(registry);
  if (!looksLikeHost)
    throw bad(
      given,
      `names no registry: containerd would take “${registry}” for its host`,
      `put the registry's host in front, ${EXAMPLE}`,
    );
  if (!host.test(registry))
    throw bad(given, `has “${registry}” as its registry`, `give HOST or HOST:PORT, ${EXAMPLE}`);
}

/** Is this computer meant? containerd, too, speaks plain HTTP with such a registry unless told otherwise. */
export function isLocalRegistry(registry: string): boolean {
  const bare = registry.replace(/:\d+$/, "");
  return bare === "localhost" || bare === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(bare);
}

function bad(text: string, problem: string, hint: string): RegistryError {
  return new RegistryError("registry_bad_name", `“${text}” ${problem}`, { hint });
}
