/**
 * What runs here, in a pool whose machines run containers, of a `.gitlab-ci.yml` as it is: one rule for each keyword and habit of jobs that a runner sees. The table in
 * docs/pipelines.md tells the same, with tests and reasons.
 */
import { type Hash, isHash } from "./document.ts";
import type { SurveyedJob } from "./survey.ts";

/** `setting`: it runs once somebody has set what the notes name. */
export type Runs = "unchanged" | "setting" | "no";

export interface CheckedJob {
  readonly name: string;
  /** Whether GitLab starts it by itself on a push to the default branch. */
  readonly starts: boolean;
  readonly runs: Runs;
  readonly notes: readonly string[];
}

interface Finding {
  readonly runs: Runs;
  readonly note: string;
}

type Rule = (keywords: Hash) => Finding | undefined;

/** A keyword that is there, with what follows from it. */
function keyword(name: string, runs: Runs, note: string): Rule {
  return (keywords) => (name in keywords ? { runs, note: `${name}: ${note}` } : undefined);
}

const rules: readonly Rule[] = [
  keyword("trigger", "unchanged", "GitLab starts the other pipeline itself and asks no runner"),
  foreignPlatform,
  keyword("run", "no", "steps are not run, only scripts"),
  keyword(
    "secrets",
    "setting",
    "the machine fetches them itself: allow the vault's address in the pool's egress",
  ),
  (keywords) =>
    keywords["release"] === undefined || keywords["image"] !== undefined
      ? undefined
      : { runs: "setting", note: "release: put release-cli or glab into the machine image" },
  otherSystems,
  containerTools,
];

/** Throws nothing: what is not known is no hindrance. */
export function checkJob({ name, starts, whyNot, keywords, lacks }: SurveyedJob): CheckedJob {
  const reason = whyNot === undefined ? [] : [`not started: ${whyNot}`];
  if (keywords === undefined) return { name, starts, runs: "no", notes: [...reason, lacks ?? "not known"] };
  // Nothing of such a job comes to a runner.
  const applying = "trigger" in keywords ? rules.slice(0, 1) : rules;
  const findings = applying.flatMap((rule) => rule(keywords) ?? []);
  return {
    name,
    starts,
    runs: worst(findings.map(({ runs }) => runs)),
    notes: [...reason, ...findings.map(({ note }) => note)],
  };
}

function worst(all: readonly Runs[]): Runs {
  return (["no", "setting"] as const).find((each) => all.includes(each)) ?? "unchanged";
}

const FOREIGN = /(?:^|[-_.])(windows|macos|osx|powershell|freebsd)(?:$|[-_.\d])/i;
const ARM = /(?:^|[-_.])(?:arm64|aarch64)(?:$|[-_.])/i;

/** Tags say what kind of computer a job is meant for. */
function otherSystems({ tags }: Hash): Finding | undefined {
  const names = (Array.isArray(tags) ? tags.flat() : []).map(String);
  const foreign = names.find((tag) => FOREIGN.test(tag));
  if (foreign !== undefined) return { runs: "no", note: `tags: “${foreign}” is not Linux` };
  const arm = names.find((tag) => ARM.test(tag));
  return arm === undefined
    ? undefined
    : { runs: "setting", note: `tags: “${arm}” needs a host of that kind` };
}

const OWN = /^(?:linux(?:\/(?:amd64|x86_64)(?:\/.*)?)?|amd64|x86_64)$/i;

/** Images and services run as they are, but not those for another computer. */
function foreignPlatform({ image, services }: Hash): Finding | undefined {
  const all = [image, ...(Array.isArray(services) ? services.flat(10) : [])];
  const platforms = all.map((each) =>
    isHash(each) && isHash(each["docker"]) ? each["docker"]["platform"] : undefined,
  );
  const foreign = platforms.find(
    (each) => typeof each === "string" && !each.includes("$") && !OWN.test(each),
  );
  return foreign === undefined
    ? undefined
    : { runs: "setting", note: `docker:platform: “${String(foreign)}” needs a host of that kind` };
}

const TOOL =
  /(?:^|[;&|({]|&&|\|\||\bthen\b|\bdo\b|\belse\b|!)\s*(?:sudo\s+(?:-\S+\s+)*)?(?:[A-Z_][A-Z0-9_]*=\S*\s+)*(docker|docker-compose|podman|buildah|kaniko|\/kaniko\/executor)\s/m;

/** What the shell of a machine that runs containers has, with an engine behind it. */
const IN_MACHINES = ["docker", "docker-compose", "podman"];
/** Clients of an engine: the others build by themselves. */
const CLIENTS = ["docker", "docker-compose"];

/** Containers that a script makes itself. */
function containerTools(keywords: Hash): Finding | undefined {
  const lines = ["before_script", "script", "after_script"].flatMap((key) => linesOf(keywords[key]));
  const found = lines.flatMap((line) => TOOL.exec(`${line} `)?.[1] ?? []);
  if (keywords["image"] === undefined) {
    const missing = found.find((tool) => !IN_MACHINES.includes(tool));
    return missing === undefined
      ? undefined
      : { runs: "setting", note: `its script calls ${missing}: put it into the machine image` };
  }
  const client = found.find((tool) => CLIENTS.includes(tool));
  if (client === undefined || hasEngine(keywords)) return undefined;
  return {
    runs: "setting",
    note: `its script calls ${client} without docker:dind: containers.socket gives it an engine`,
  };
}

/** Of its own: in a service, or where it says itself. */
function hasEngine({ services, variables }: Hash): boolean {
  const all = Array.isArray(services) ? services.flat(10) : [];
  const names = all.map((each) => (isHash(each) ? each["name"] : each));
  return (
    names.some((name) => typeof name === "string" && /dind|\$/.test(name)) ||
    (isHash(variables) && variables["DOCKER_HOST"] !== undefined)
  );
}

function linesOf(value: unknown): string[] {
  const all = Array.isArray(value) ? value.flat(10) : [value];
  return all.filter((each) => typeof each === "string");
}
