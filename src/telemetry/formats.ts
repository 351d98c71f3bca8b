/** The forms in which a line of the log is written, made from its JSON. */
import pretty from "pino-pretty";
import { escapeUnseen, plainText } from "../base/text.ts";
import type { LogSettings } from "./config.ts";

export type LogFormat = Exclude<LogSettings["format"], "auto">;

/** Where standard output leads. */
export interface Outlet {
  readonly terminal: boolean;
  /** The journal of systemd. */
  readonly journal?: boolean | undefined;
}

export function formatFor(format: LogSettings["format"], { terminal, journal = false }: Outlet): LogFormat {
  if (format !== "auto") return format;
  if (terminal) return "pretty";
  return journal ? "journald" : "json";
}

/** Makes a line, with its line feed, of one of pino's. */
export function formatter(format: LogFormat, { terminal }: Outlet): (json: string) => string {
  switch (format) {
    case "json":
      return escapeUnseen;
    case "journald":
      return (json) => priorityOf(json) + escapeUnseen(json);
    case "logfmt":
      return (json) => `${logfmt(JSON.parse(json))}\n`;
    case "pretty": {
      const format = pretty.prettyFactory({
        ...{ colorize: terminal, translateTime: "SYS:HH:MM:ss.l", singleLine: true },
      });
      return (json) => format(JSON.parse(json, (_name, value) => shown(value)));
    }
  }
}

/** Reasons and names in a line may be other people's words, and it may be read on a terminal. */
function shown(value: unknown): unknown {
  return typeof value === "string" ? plainText(value) : value;
}

/** As the kernel numbers them; journald takes the number off a line's beginning. */
const priorities: Readonly<Record<string, string>> = { debug: "<7>", info: "<6>", warn: "<4>", error: "<3>" };

function priorityOf(json: string): string {
  const level = /^\{"level":"(\w+)"/.exec(json)?.[1] ?? "";
  return priorities[level] ?? "<6>";
}

/** `name=value` with spaces between; names within objects have a dot before them, lists are JSON. */
function logfmt(line: Readonly<Record<string, unknown>>): string {
  return Object.entries(line)
    .flatMap(([name, value]) => pairs(name, value))
    .join(" ");
}

function pairs(name: string, value: unknown): string[] {
  if (value === undefined) return [];
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return Object.entries(value).flatMap(([inner, each]) => pairs(`${name}.${inner}`, each));
  return [`${name.replace(/[^\w.:-]+/g, "_")}=${logfmtValue(value)}`];
}

function logfmtValue(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return /^[^\s"=\\\p{C}]+$/u.test(text) ? text : escapeUnseen(JSON.stringify(text)).replaceAll("\t", "\\t");
}
