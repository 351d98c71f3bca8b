import { validateHeaderName } from "node:http";
import { Secret } from "../base/secret.ts";
import type { TracesAccess, TracesSettings } from "../telemetry/traces/config.ts";
import { type Check, readAuthority, readSecretFile, type SecretOptions } from "./named-files.ts";
import type { PathProblem } from "./problems.ts";

interface ReadTraces {
  /** Undefined without `traces`, or with a problem. */
  readonly access: TracesAccess | undefined;
  readonly problems: readonly PathProblem[];
}

/** The headers and authorities for the collector, with what their files hold. */
export async function readTracesAccess(
  settings: TracesSettings | undefined,
  options: SecretOptions,
): Promise<ReadTraces> {
  if (settings === undefined) return { access: undefined, problems: [] };
  const { headersFile, caFile } = settings;
  const problems: PathProblem[] = [];
  const read =
    headersFile === undefined ? undefined : await readSecretFile(headersFile, checkHeaders, options);
  if (read && "problem" in read) problems.push({ path: ["traces", "headersFile"], message: read.problem });
  const ca = await readAuthority(["traces", "caFile"], caFile, options);
  if ("problem" in ca) problems.push(ca.problem);
  if (problems.length > 0) return { access: undefined, problems };
  const headers = read && "value" in read ? read.value : [];
  return { access: { headers, ca: "text" in ca ? ca.text : undefined }, problems };
}

/** These belong to the message, and are ours to say. */
const ours: ReadonlySet<string> = new Set([
  "content-type",
  "content-length",
  "content-encoding",
  "transfer-encoding",
  "connection",
  "host",
  "expect",
  "upgrade",
]);
const MOST_HEADERS = 32;

const checkHeaders: Check<TracesAccess["headers"]> = (text, where) => {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== "" && !line.startsWith("#"));
  if (lines.length === 0)
    return { problem: `${where} is empty: put headers into it, one “Name: value” a line` };
  if (lines.length > MOST_HEADERS) return { problem: `${where} has more than ${MOST_HEADERS} headers` };
  const headers = lines.map((line) => {
    const [, name = "", value = ""] = /^([^:]*):\s*(.*?)\s*$/.exec(line) ?? [];
    return [name.toLowerCase(), new Secret(value)] as const;
  });
  const wrong = headers.findIndex(([name, value]) => !isHeader(name, value.reveal()));
  if (wrong >= 0)
    return {
      problem: `${where}: header ${wrong + 1} is none: expected “Name: value” a line, the value in printable ASCII`,
    };
  const [own] = headers.find(([name]) => ours.has(name)) ?? [];
  return own === undefined
    ? { value: headers }
    : { problem: `${where} sets ${own}, which FireRunner says itself: take that line out` };
};

function isHeader(name: string, value: string): boolean {
  try {
    validateHeaderName(name);
    return /^[\x20-\x7e]+$/.test(value);
  } catch {
    return false;
  }
}
